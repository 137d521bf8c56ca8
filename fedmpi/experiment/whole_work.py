"""What participants that stopped early would have done, had they not: as far as a trace shows.

A trace has what each of them did until it stopped. Whole messages and whole training follow from those of the others,
from the versions of the model (``whole_downloads``), and from clients' numbers of samples. Nothing here needs torch or
MPI.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config
from fedmpi.config.parts import is_reference
from fedmpi.experiment.recharging import Charger, without_losses
from fedmpi.experiment.recorded import Recorded
from fedmpi.experiment.time_decisions import pruning_of
from fedmpi.experiment.whole_downloads import Downloads, has_one_length, most_common, most_recorded
from fedmpi.federation.round_cost import Feedback, Work, local_steps
from fedmpi.sparsification import Method
from fedmpi.sparsification.settings import codec_of, exchange_period
from fedmpi.trace import Status

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_HOUR_S = 3600.0


@dataclass(frozen=True)
class Whole:
    """What the participants of a round would have done had none of them stopped; arrays (n,).

    ``samples`` each was to train on. ``down_known``, ``compute_known``, ``up_known`` bool: whether the numbers of
    ``work`` are theirs; if not, they are larger.
    """

    work: Work
    feedback: Feedback | None
    samples: IntArray
    down_known: BoolArray
    compute_known: BoolArray
    up_known: BoolArray

    @property
    def known(self) -> BoolArray:
        """Whether everything is known of a participant, bool (n,)."""
        return self.down_known & self.compute_known & self.up_known


def whole_samples(recorded: Recorded, config: Config) -> IntArray:
    """The samples (n,) that each row of ``clients`` was to process, int64.

    Where some are processed again, for a gradient by which masks change, those that trained have what is recorded, and
    so has the client of initial pruning.
    """
    rows, own = recorded.clients, recorded.tables["devices"]["samples"]
    found = rows["samples"].astype(np.int64)
    if len(own) == config.clients.count:
        whole = np.rint(local_steps(config, own) * config.training.batch_size).astype(np.int64)
        as_recorded = (rows["round"] < 0) | (_passes_again(config) & (found > 0))
        found = np.where(as_recorded, found, whole[rows["client"]])
    return found


def _has_own_masks(config: Config) -> bool:
    """Whether clients may train under masks of their own."""
    return is_reference(config.pruning.method) or pruning_of(config).own_mask is not None


def _passes_again(config: Config) -> bool:
    """Whether clients may make a backward pass beside their steps."""
    return _has_own_masks(config) or pruning_of(config).signed_gradient


class WholeWork:
    """The whole work of one round of a recorded run after the other.

    ``method``: that of sparsification; ``charger``, which has the ``whole_samples``, says how long training takes;
    ``measured``: that is as it was recorded.
    """

    def __init__(self, charger: Charger, method: Method, sketch_bytes: int, measured: bool) -> None:
        recorded, config = charger.recorded, charger.config
        parameters = int(recorded.attributes["parameters"])
        self._charger = charger
        self._samples = whole_samples(recorded, config)
        self.period = exchange_period(config.sparsification, method, parameters)
        self._downloads = Downloads(recorded, config, method, sketch_bytes, charger.measures_losses)
        section, pruning = config.sparsification, config.pruning
        self._passes_again = _passes_again(config)
        self._alike = has_one_length(codec_of(section, method), method) and not _has_own_masks(config)
        self._same_in_all_rounds = not (
            charger.measures_losses
            or is_reference(pruning.method)
            or pruning_of(config).importance
            or pruning_of(config).probe is not None  # losses are asked for where the mask may change
        )
        self._measured = measured
        self._most_up = 4096 + 8 * parameters + most_recorded(recorded.clients["bytes_up"])

    def of(self, place: int) -> Whole:
        """That of the round in row ``place`` of ``rounds``; rounds are asked for in their order, each once."""
        recorded, charger = self._charger.recorded, self._charger
        inside = slice(recorded.bounds[place], recorded.bounds[place + 1])
        rows, row = recorded.clients[inside], recorded.rounds[place]
        clients, staying, samples = rows["client"], recorded.staying[inside], self._samples[inside]
        downloads, exchanges = (not (int(row["round"]) + step) % self.period for step in (0, 1))
        at_once = not downloads or charger.fleet.compute.model.prices_rounds
        downloaded = (rows["compute_s"] > 0) | (rows["upload_s"] > 0) | at_once
        trained = (rows["samples"] > 0) | (rows["upload_s"] > 0)
        arrived = (rows["entries_sent"] > 0) | (not exchanges)
        if not self._alike:  # a message may have no entries
            arrived |= staying
        compute_known = trained | (not (self._measured or self._passes_again))
        compute_s = charger.compute_seconds(place)
        compute_s = np.where(compute_known, compute_s, 2.0 * rows["compute_s"] + _HOUR_S)
        sketch_bytes = charger.sketch_bytes(place)
        work = Work(rows["bytes_down"], compute_s, rows["entries_sent"], rows["bytes_up"], sketch_bytes)
        feedback = None
        if charger.measures_losses and (rows["status"] == Status.OK).any():
            work, feedback = without_losses(work, samples, staying, 2 + (int(row["k_probe"]) > 0))
        down, down_known = self._downloads.whole_bytes(clients, work.bytes_down, downloaded)
        if not downloads:
            down = np.zeros(len(rows), np.int64)
        entries, up, up_known = work.entries, work.bytes_up, arrived
        if exchanges:
            entries, up, up_known = self._uploads(place, work, arrived, staying)
        if downloads:
            self._downloads.delivered(clients[downloaded])
        if (rows["status"] == Status.OK).any():
            self._downloads.advance(int(row["k_down"]))
        if feedback is not None:
            self._downloads.delivered(clients[staying])
        work = replace(work, bytes_down=down, entries=entries, bytes_up=up)
        return Whole(work, feedback, samples, down_known, compute_known, up_known)

    def _uploads(
        self, place: int, work: Work, arrived: BoolArray, staying: BoolArray
    ) -> tuple[IntArray, IntArray, BoolArray]:
        """Entries and bytes (n,) of whole messages, and whether they are known."""
        lengths = None
        if self._alike and self._same_in_all_rounds:
            lengths = self._lengths.get(self._kind(place))
        elif self._alike and (sent := arrived & staying).any():
            lengths = most_common(work.entries[sent]), most_common(work.bytes_up[sent])
        if lengths is not None:
            entries, up = (np.full(len(arrived), each) for each in lengths)
            return entries, up, np.ones(len(arrived), np.bool_)
        return np.where(arrived, work.entries, 0), np.where(arrived, work.bytes_up, self._most_up), arrived

    def _kind(self, place: int) -> tuple[int, int]:
        recorded = self._charger.recorded
        return int(recorded.rounds["k"][place]), int(recorded.mask_of[place])

    @cached_property
    def _lengths(self) -> dict[tuple[int, int], tuple[int, ...]]:
        """Entries and bytes of a message by the k and the mask of its round, where one arrived."""
        recorded = self._charger.recorded
        rounds, rows, counts = recorded.rounds, recorded.clients, np.diff(recorded.bounds)
        sent = np.flatnonzero(recorded.staying & (rows["entries_sent"] > 0))
        kinds = np.stack([np.repeat(each, counts)[sent] for each in (rounds["k"], recorded.mask_of)], axis=1)
        order = np.lexsort(kinds.T)
        starts = np.flatnonzero(np.any(np.diff(kinds[order], axis=0, prepend=-1), axis=1))
        found = {}
        for own in np.split(order, starts[1:]) if len(starts) else ():
            k, mask = kinds[own[0]].tolist()
            lengths = (most_common(rows[name][sent[own]]) for name in ("entries_sent", "bytes_up"))
            found[k, mask] = tuple(lengths)
        return found
