"""The rounds of a trace charged again, by the accountant that charges the rounds of a run.

Who took part, what they sent, how much they trained and under which mask is as it was recorded; what that takes on
devices and links follows from them alone. Nothing here needs torch or MPI.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config
from fedmpi.config.parts import is_reference
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.energy import energy_j
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.timeline import Timeline
from fedmpi.experiment.recorded import Recorded
from fedmpi.federation.accountants import make_accountant
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import Accountant, Feedback, Work, loss_report_bytes
from fedmpi.sparsification import DenseMethod
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch
from fedmpi.sparsification.settings import method_of
from fedmpi.sparsification.wire import HEADER_BYTES
from fedmpi.trace import Phase, Status

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

SECONDS = ("download_s", "compute_s", "upload_s", "wait_s")
"""The emulated columns of ``clients`` that a round's timeline gives; ``energy_j`` follows from them."""

_ROWS_AT_ONCE = 65_536
_OK, _REJECTED = int(Status.OK), int(Status.REJECTED)

_BEFORE_ROUNDS = -1
"""The round that initial pruning is charged as (``federation.server``)."""


@dataclass(frozen=True)
class Charges:
    """What rounds take: ``start_s`` and ``end_s`` (R,) emulated moments; ``columns`` (n,): those of ``clients``."""

    start_s: FloatArray
    end_s: FloatArray
    columns: Mapping[str, NDArray[Any]]


class Charger:
    """Charges the rounds of a trace to the devices and links of ``config``.

    ``prunable`` (L,): positions of the prunable layers; ``measures_losses``: whether recorded bytes include those of a
    probe phase after each round. ``given_compute``: training takes what was recorded, as it was measured, times this;
    None: it is computed. ``sketch``: what messages state of all values beside their entries. ``samples`` (n,): what
    each row of ``clients`` was to train on; None: what it has recorded.
    """

    def __init__(
        self,
        recorded: Recorded,
        config: Config,
        fleet: Fleet,
        prunable: IntArray,
        *,
        measures_losses: bool = False,
        given_compute: float | None = None,
        sketch: MagnitudeSketch = NO_SKETCH,
        samples: IntArray | None = None,
    ) -> None:
        self.recorded = recorded
        self.config = config
        self.fleet = fleet
        self.measures_losses = measures_losses
        positions_sent = fleet.compute.model.prices_rounds and not isinstance(
            method_of(config.sparsification), DenseMethod
        )
        self.accountant: Accountant = make_accountant(
            config,
            fleet,
            recorded.attributes["parameters"],
            positions_sent=positions_sent,
        )
        active_of = recorded.active.sum(axis=1).tolist()
        self._sketch_bytes = [replace(sketch, dimension=active).bytes for active in active_of]
        self._active = recorded.active[:, prunable]
        names = ("client", "bytes_down", "bytes_up", "samples", "entries_sent", "status")
        self._facts = np.stack([recorded.clients[name].astype(np.int64) for name in names], axis=1)
        if samples is not None:
            self._facts[:, names.index("samples")] = samples
        rounds = recorded.rounds
        columns = ("round", "phase", "k_down", "k_probe", "density")
        self._rounds = list(zip(*(rounds[name].tolist() for name in columns), strict=True))
        self._bounds, self._mask_of = recorded.bounds.tolist(), recorded.mask_of.tolist()
        self._compute_s: FloatArray | None = None
        if given_compute is not None:
            self._compute_s = recorded.clients["compute_s"] * given_compute
        elif not is_reference(config.emulation.compute.model):
            self._compute_s = self._all_compute_seconds()
        # Where neither the moment nor the number of a round matters, equal rounds take equally long.
        varies = fleet.uplink.vary or fleet.downlink.vary or bool(fleet.jitter_s.any())
        self._repeats = not (varies or given_compute is not None)
        self._known: dict[tuple[Any, ...], Timeline] = {}

    def all_rounds(self) -> Charges:
        """All rounds one after the other, from emulated time 0; between two as much time as nobody was available."""
        starts, ends, timelines = [], [], []
        for start_s, end_s, timeline in self._one_after_the_other():
            starts.append(start_s)
            ends.append(end_s)
            timelines.append(timeline)
        return Charges(np.array(starts), np.array(ends), self.columns(timelines))

    def end_s(self) -> float:
        """The emulated moment at which the last round ends; 0 without any."""
        last_s = 0.0
        for _, end_s, _ in self._one_after_the_other():
            last_s = end_s
        return last_s

    def _one_after_the_other(self) -> Iterator[tuple[float, float, Timeline | None]]:
        """Start, end and timeline of each round."""
        now_s = 0.0
        rounds = self.recorded.rounds
        idle_s = np.append(0.0, rounds["start_s"][1:] - rounds["end_s"][:-1]).tolist()
        for place in range(len(rounds)):
            start_s = now_s + max(idle_s[place], 0.0)
            timeline, now_s = self.round(place, start_s)
            yield start_s, now_s, timeline

    def rounds_from(self, starts_s: FloatArray) -> Charges:
        """Each round from a moment of its own (R,); all NaN for one that nobody can charge, as with negative bytes."""
        timelines, ends = [], []
        for place, start_s in enumerate(starts_s.tolist()):
            try:
                timeline, end_s = self.round(place, start_s)
            except EmulationError:
                timeline, end_s = None, nan
            timelines.append(timeline)
            ends.append(end_s)
        return Charges(starts_s, np.array(ends), self.columns(timelines))

    def columns(self, timelines: list[Timeline | None]) -> dict[str, NDArray[Any]]:
        """The columns of ``clients``, of one timeline for each round; None: what was not charged, NaN."""
        rows, bounds = self.recorded.clients, self.recorded.bounds
        found: dict[str, NDArray[Any]] = {}
        for name in SECONDS:
            columns = [
                np.full(stop - start, np.nan) if timeline is None else getattr(timeline, name)
                for timeline, start, stop in zip(timelines, bounds[:-1], bounds[1:], strict=True)
            ]
            found[name] = np.concatenate([np.empty(0), *columns])
        for name in ("bytes_down", "bytes_up"):
            columns = [
                rows[name][start:stop] if timeline is None else getattr(timeline, name)
                for timeline, start, stop in zip(timelines, bounds[:-1], bounds[1:], strict=True)
            ]
            found[name] = np.concatenate([np.empty(0, np.int64), *columns])
        found["energy_j"] = self.energy_of(found)
        return found

    def energy_of(self, seconds: Mapping[str, NDArray[Any]]) -> FloatArray:
        """Joules of each row of ``clients`` with these columns SECONDS; NaN where energy is not asked for."""
        rows = self.recorded.clients
        if not self.config.emulation.energy.on:
            return np.full(len(rows), np.nan)
        return energy_j(self.fleet.powers, rows["client"], *(seconds[name] for name in SECONDS))

    def round(self, place: int, start_s: float) -> tuple[Timeline | None, float]:
        """The round in row ``place`` of ``rounds`` from an emulated moment on, and the moment of its end.

        None for local rounds of initial pruning that are not charged.
        """
        number, phase, k_down, k_probe, density = self._rounds[place]
        inside = slice(self._bounds[place], self._bounds[place + 1])
        facts, mask = self._facts[inside], self._mask_of[place]
        initial = phase == Phase.INITIAL_PRUNING
        if initial and not (len(facts) and self.config.pruning.initial.charged):
            return None, start_s
        key = (facts.tobytes(), mask, k_down, k_probe, density, initial) if self._repeats else ()
        timeline = self._known.get(key)
        if timeline is None:
            start = RoundStart(
                _BEFORE_ROUNDS if initial else number, start_s, facts[:, 0].copy(), k_probe > 0
            )
            _, down, up, _, entries, _ = facts.T
            work = Work(down, self.compute_seconds(place), entries, up, self.sketch_bytes(place))
            timeline = self._charged(start, facts, work, k_down, k_probe, initial)
            if self._repeats:
                self._known[key] = timeline
        return timeline, start_s + timeline.duration_s

    def sketch_bytes(self, place: int) -> int:
        """Bytes of each message that state magnitudes in the round in row ``place`` of ``rounds``."""
        return self._sketch_bytes[self._mask_of[place]] if self._rounds[place][1] == Phase.FEDERATED else 0

    def compute_seconds(self, place: int) -> FloatArray:
        """What training takes each participant (n,) of the round in row ``place`` of ``rounds``."""
        inside = slice(self._bounds[place], self._bounds[place + 1])
        if self._compute_s is not None:
            return self._compute_s[inside]
        facts = self._facts[inside]
        return self._compute_seconds(facts[:, 0], facts[:, 3], self._mask_of[place], self._rounds[place][4])

    def _compute_seconds(self, clients: IntArray, samples: IntArray, mask: int, density: float) -> FloatArray:
        steps = samples / self.config.training.batch_size
        training = LocalTraining.of(clients, steps, self._active[mask], density=density)
        return self.fleet.compute.seconds(training)

    def _all_compute_seconds(self) -> FloatArray:
        """Those of all rows at once: under a built-in compute model each depends on its own row alone."""
        found = np.empty(len(self._facts))
        rounds_under: dict[tuple[int, float], list[int]] = {}
        for place, mask in enumerate(self._mask_of):
            rounds_under.setdefault((mask, self._rounds[place][4]), []).append(place)
        round_of = np.repeat(np.arange(len(self._rounds)), np.diff(self.recorded.bounds))
        for (mask, density), places in rounds_under.items():
            chosen = np.zeros(len(self._rounds), np.bool_)
            chosen[places] = True
            rows = np.flatnonzero(chosen[round_of])
            for begin in range(0, len(rows), _ROWS_AT_ONCE):
                block = rows[begin : begin + _ROWS_AT_ONCE]
                facts = self._facts[block]
                found[block] = self._compute_seconds(facts[:, 0], facts[:, 3], mask, density)
        return found

    def _charged(
        self,
        start: RoundStart,
        facts: IntArray,
        work: Work,
        k_down: int,
        k_probe: int,
        initial: bool,
    ) -> Timeline:
        samples, status, feedback = facts[:, 3], facts[:, 5], None
        staying = (status == _OK) | (status == _REJECTED)
        if self.measures_losses and not initial and staying.any():
            work, feedback = without_losses(work, samples, staying, 2 + (k_probe > 0))
        charges = self._until_all_in_time(partial(self.accountant.round, start, work), staying)
        if initial:
            return charges
        return self.accountant.close(start, charges, k_down, feedback, staying)

    def _until_all_in_time(self, simulate: Any, staying: BoolArray) -> Timeline:
        """The round up to the last of those in time; where others were late or dropped, they stop there."""
        charges: Timeline = simulate()
        if staying.all() or not staying.any():
            return charges
        stop_s = np.where(staying, np.inf, charges.work_s[staying].max())
        stopped: Timeline = simulate(stop_s)
        return stopped


def without_losses(work: Work, samples: IntArray, asked: BoolArray, losses: int) -> tuple[Work, Feedback]:
    """Recorded bytes as those of the round and those of its probe phase, which are recorded in sums.

    ``asked`` bool (n,): who was asked for that many ``losses``, at least one. All of them tried the same update. Who
    had been in the round before, in which it tried one too, had the model already and downloaded a header; where there
    is nobody like that, more is taken for the update than was.
    """
    tried = max(int(work.bytes_down[asked].min()) - HEADER_BYTES, 0)
    report = loss_report_bytes(losses)
    per_sample_s = np.divide(work.compute_s, samples, out=np.zeros(len(samples)), where=samples > 0)
    up = np.where(asked, np.maximum(work.bytes_up - report, 0), work.bytes_up)
    before = replace(work, bytes_down=np.where(asked, work.bytes_down - tried, work.bytes_down), bytes_up=up)
    return before, Feedback(tried, per_sample_s, report)
