"""Recorded rounds in which participants may have been late or have vanished, ended again as in the run.

Deadlines, first arrivals, intervals and the fractions at which participants vanish follow from the configuration and
the seed (``emulation.round_end``); when a participant vanished is a fraction of its whole round, of which a trace has
only what came before (``whole_work``). Where one message of it is not known, its length is the one number of bytes
with which it vanished at the recorded moment. Nothing here needs torch or MPI.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from math import inf, nan

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.availability import Availability
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.round_end import Arrivals, Departures, ended_round
from fedmpi.emulation.timeline import Timeline
from fedmpi.experiment.recharging import SECONDS, Charger, Charges
from fedmpi.experiment.whole_work import Whole, WholeWork
from fedmpi.federation.messages import RECORD, RoundStart
from fedmpi.federation.round_cost import Work
from fedmpi.federation.verdict import statuses_of
from fedmpi.trace import Phase, Status

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_CLOSE = 1e-9
"""Two moments that differ by no more than this part of themselves are one up to rounding."""

_LEFT_BY_USERS_CODE = "in which somebody left by code of one's own, emulation.availability.model (--trust)"
_LENGTH_UNKNOWN = (
    "in which somebody vanished in the middle of what is not recorded as a whole: a message or training"
)
_SHARED = "in which somebody vanished while the server's link was shared by messages that are not recorded as a whole"


class _Unknown(Exception):
    """A round whose end does not follow from what is recorded of it; the message says why."""


@dataclass(frozen=True)
class _Stops:
    """When participants leave (n,) and at which fractions they vanish (n,), as ``ended_round`` takes them, and their
    work, with what was found of it; ``one_of_several``: other lengths may lead to the same moment."""

    leaves_s: FloatArray
    fractions: FloatArray
    whole: Whole
    one_of_several: bool = False


@dataclass(frozen=True)
class Replayed:
    """Rounds that were ended again: ``charges``, and of rows of ``clients`` (n,) what became of them.

    ``status``, ``samples`` and ``entries_sent``: int64, -1 in rounds that are not ``known`` (R,); ``notes`` say why.
    """

    charges: Charges
    status: IntArray
    samples: IntArray
    entries_sent: IntArray
    known: BoolArray
    notes: tuple[str, ...]


class Replay:
    """Ends the rounds of a trace again. ``availability``: who leaves when; None where that is not known, as it is code
    of a user's own."""

    def __init__(self, charger: Charger, whole_work: WholeWork, availability: Availability | None) -> None:
        self._charger = charger
        self._whole_work = whole_work
        self._leaving_known = availability is not None
        self._departures = Departures(charger.config, availability or charger.fleet.availability)
        self._recorded = charger.recorded

    def rounds_from(self, starts_s: FloatArray) -> Replayed:
        """Each round from a moment of its own (R,); NaN for one that nobody can charge, as with negative bytes."""
        recorded = self._recorded
        timelines: list[Timeline | None] = []
        ends, known = [], np.ones(len(starts_s), np.bool_)
        found = {name: np.full(len(recorded.clients), -1) for name in ("status", "samples", "entries_sent")}
        why: Counter[str] = Counter()
        for place, start_s in enumerate(starts_s.tolist()):
            timeline, end_s = None, nan
            try:
                if recorded.rounds["phase"][place] == Phase.FEDERATED:
                    timeline, columns = self._round(place, start_s)
                    end_s = timeline.end_s
                    inside = slice(recorded.bounds[place], recorded.bounds[place + 1])
                    for name, values in columns.items():
                        found[name][inside] = values
                else:
                    timeline, end_s = self._charger.round(place, start_s)
            except EmulationError:
                timeline = None
            except _Unknown as unknown:
                known[place] = False
                why[str(unknown)] += 1
            timelines.append(timeline)
            ends.append(end_s)
        charges = Charges(starts_s, np.array(ends), self._charger.columns(timelines))
        notes = tuple(f"{count:,} round{'' if count == 1 else 's'} {reason}" for reason, count in why.items())
        return Replayed(charges, **found, known=known, notes=notes)

    def _round(self, place: int, start_s: float) -> tuple[Timeline, dict[str, IntArray]]:
        row = self._recorded.rounds[place]
        rows = self._recorded.clients[self._recorded.bounds[place] : self._recorded.bounds[place + 1]]
        number, participants = int(row["round"]), rows["client"].astype(np.int64)
        start = RoundStart(number, start_s, participants, int(row["k_probe"]) > 0)
        whole = self._whole_work.of(place)
        sends = (number + 1) % self._whole_work.period == 0
        stops = self._stops(start, rows, whole)
        leaves_s, fractions, whole = stops.leaves_s, stops.fractions, stops.whole
        simulate = partial(self._charger.accountant.round, start, whole.work)
        charges, arrivals = ended_round(simulate, self._departures.rule(sends), leaves_s, fractions)
        closed = self._charger.accountant.close(
            start, charges, int(row["k_down"]), whole.feedback, arrivals.in_time
        )
        if stops.one_of_several and not _agree(closed, rows, float(row["end_s"])):
            raise _Unknown(_SHARED)
        return closed, {
            "status": self._statuses(rows, arrivals, sends),
            "samples": np.where(charges.trained, whole.samples, 0),
            "entries_sent": np.where(charges.arrived, whole.work.entries, 0),
        }

    def _statuses(self, rows: np.ndarray, arrivals: Arrivals, sends: bool) -> IntArray:
        """What became of participants; who was in time and was rejected stays that, as updates are not recorded."""
        records = np.zeros(len(rows), RECORD)
        records["max_abs"][rows["status"] == Status.REJECTED] = inf
        status = statuses_of(records, arrivals).astype(np.int64)
        taken = status == Status.OK
        if sends and np.count_nonzero(taken) < self._charger.config.federation.min_updates:
            status[taken] = Status.REJECTED
        return status

    def _stops(self, start: RoundStart, rows: np.ndarray, whole: Whole) -> _Stops:
        dropped, known = rows["status"] == Status.DROPPED, whole.known
        if not self._leaving_known and dropped.any():
            raise _Unknown(_LEFT_BY_USERS_CODE)
        number, participants, departures = start.round_index, start.participants, self._departures
        leaves_s = departures.availability.leaves_s(number, start.start_s, participants) - start.start_s
        fractions = departures.dropouts(number, participants)
        priced = self._charger.fleet.compute.model.prices_rounds
        if priced and not whole.up_known.all():
            raise _Unknown(_LENGTH_UNKNOWN)
        vanishes = fractions < inf
        if known.all() or not vanishes.any():
            return _Stops(leaves_s, fractions, whole)
        stopped_s = rows["download_s"] + rows["compute_s"] + rows["upload_s"]
        open_ = vanishes & ~known & dropped & ~np.isclose(stopped_s, leaves_s, rtol=_CLOSE, atol=0.0)
        sought = open_ & whole.compute_known & (whole.down_known | whole.up_known)
        given = open_ & ~sought
        if (rows["compute_s"][given] > 0.0).any():
            raise _Unknown(_LENGTH_UNKNOWN)
        fleet = self._charger.fleet
        shared = not (
            priced or all(each.never_binds(participants) for each in (fleet.uplink, fleet.downlink))
        )
        others = (~known & ~sought).any() or np.count_nonzero(sought) > 1
        if shared and others and (vanishes & ~given).any():
            raise _Unknown(_SHARED)
        # Who vanished while it downloaded did so at the end of the seconds that it downloaded.
        leaves_s[given], fractions[given] = stopped_s[given], inf
        if sought.any():
            whole = self._with_lengths(start, whole, sought, stopped_s / fractions, rows)
        return _Stops(leaves_s, fractions, whole, one_of_several=shared and bool(sought.any()))

    def _with_lengths(
        self,
        start: RoundStart,
        whole: Whole,
        sought: BoolArray,
        work_s: FloatArray,
        rows: np.ndarray,
    ) -> Whole:
        """With the lengths of messages with which those who are ``sought`` (n,) would have worked for ``work_s`` (n,).

        Each has one message that is not known; more bytes take longer. Those of others do not matter, or are known.
        """
        at = np.flatnonzero(sought)
        down = ~whole.down_known[at]
        lowest = np.where(down, rows["bytes_down"][at], rows["bytes_up"][at])
        highest = np.where(down, whole.work.bytes_down[at], whole.work.bytes_up[at])

        def work_with(lengths: IntArray) -> Work:
            bytes_down, bytes_up = whole.work.bytes_down.copy(), whole.work.bytes_up.copy()
            bytes_down[at[down]], bytes_up[at[~down]] = lengths[down], lengths[~down]
            return replace(whole.work, bytes_down=bytes_down, bytes_up=bytes_up)

        def beyond_s(lengths: IntArray) -> FloatArray:
            return self._charger.accountant.round(start, work_with(lengths)).work_s[at] - work_s[at]

        low, high = lowest, highest
        while (high - low > 1).any():
            middle = (low + high) // 2
            long = beyond_s(middle) >= 0.0
            high, low = np.where(long, middle, high), np.where(long, low, middle)
        nearer = np.abs(beyond_s(low)) < np.abs(beyond_s(high))
        return replace(whole, work=work_with(np.where(nearer, low, high)))


def _agree(closed: Timeline, rows: np.ndarray, end_s: float) -> bool:
    """Whether a round is as it was recorded."""
    names = (*SECONDS, "bytes_down", "bytes_up")
    return closed.end_s == end_s and all((getattr(closed, name) == rows[name]).all() for name in names)
