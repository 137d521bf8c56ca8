"""What participants that stopped early would have done, had they not: as far as a trace tells.

A trace has what each of them did until it stopped. Whole messages and whole training follow from those of the others,
from the versions of the model (``whole_downloads``), and from clients' numbers of samples. Nothing here needs torch or
MPI.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config
from fedmpi.config.parts import is_reference
from fedmpi.experiment.recharging import Charger, Recorded, without_losses
from fedmpi.experiment.time_decisions import pruning_of
from fedmpi.experiment.whole_downloads import Downloads, has_one_length, most_common
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
    """The samples (n,) that each row of ``clients`` was to process; where it did, what is recorded."""
    rows, own = recorded.clients, recorded.tables["devices"]["samples"]
    found = rows["samples"].astype(np.int64)
    if len(own) == config.clients.count:
        whole = np.rint(local_steps(config, own) * config.training.batch_size).astype(np.int64)
        found = np.where(found > 0, found, whole[rows["client"]])
    return found


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
        foreign = is_reference(config.pruning.method)
        self._own_masks = not foreign and pruning_of(config).own_mask is not None
        self._alike = has_one_length(codec_of(config.sparsification, method)) and not self._own_masks
        self._same_in_all_rounds = not foreign and not pruning_of(config).importance
        self._measured = measured
        self._most_up = 4096 + 8 * parameters + int(recorded.clients["bytes_up"].max(initial=0))

    def of(self, place: int) -> Whole:
        """That of the round in row ``place`` of ``rounds``; rounds are asked for in their order, each once."""
        recorded, charger = self._charger.recorded, self._charger
        inside = slice(recorded.bounds[place], recorded.bounds[place + 1])
        rows, row = recorded.clients[inside], recorded.rounds[place]
        clients, staying, samples = rows["client"], recorded.staying[inside], self._samples[inside]
        downloads, exchanges = (not (int(row["round"]) + step) % self.period for step in (0, 1))
        trained = staying | (rows["samples"] > 0) | (rows["upload_s"] > 0)
        downloaded = trained | (rows["compute_s"] > 0) | (not downloads)
        arrived = staying | (rows["entries_sent"] > 0) | (not exchanges)
        compute_known = trained | (not (self._measured or self._own_masks))
        compute_s = charger.compute_seconds(place)
        compute_s = np.where(compute_known, compute_s, 2.0 * rows["compute_s"] + _HOUR_S)
        work = Work(rows["bytes_down"], compute_s, rows["entries_sent"], rows["bytes_up"])
        feedback = None
        if charger.measures_losses and (rows["status"] == Status.OK).any():
            work, feedback = without_losses(work, samples, staying, 2 + (int(row["k_probe"]) > 0))
        down, down_known = self._downloads.whole_bytes(clients, work.bytes_down, downloaded)
        if not downloads:
            down = np.zeros(len(rows), np.int64)
        entries, up, up_known = self._uploads(place, work, arrived)
        if downloads:
            self._downloads.delivered(clients[downloaded])
        if (rows["status"] == Status.OK).any():
            self._downloads.advance(int(row["k_down"]))
        if feedback is not None:
            self._downloads.delivered(clients[staying])
        work = Work(down, work.compute_s, entries, up)
        return Whole(work, feedback, samples, down_known, compute_known, up_known)

    def _uploads(self, place: int, work: Work, arrived: BoolArray) -> tuple[IntArray, IntArray, BoolArray]:
        """Entries and bytes (n,) of whole messages, and whether they are known."""
        entries, up = work.entries.copy(), work.bytes_up.copy()
        if arrived.all():
            return entries, up, arrived
        lengths = None
        if self._alike and arrived.any():
            lengths = most_common(entries[arrived]), most_common(up[arrived])
        elif self._alike and self._same_in_all_rounds:
            lengths = self._lengths.get(self._kind(place))
        entries[~arrived], up[~arrived] = (0, self._most_up) if lengths is None else lengths
        return entries, up, arrived | (lengths is not None)

    def _kind(self, place: int) -> tuple[int, int]:
        recorded = self._charger.recorded
        return int(recorded.rounds["k"][place]), int(recorded.mask_of[place])

    @cached_property
    def _lengths(self) -> dict[tuple[int, int], tuple[int, int]]:
        """Entries and bytes of a message by the k and the mask of its round, where one arrived and none asked for
        losses."""
        recorded = self._charger.recorded
        found: dict[tuple[int, int], tuple[int, int]] = {}
        if self._charger.measures_losses:
            return found
        for place in range(len(recorded.rounds)):
            inside = slice(recorded.bounds[place], recorded.bounds[place + 1])
            rows = recorded.clients[inside]
            sent = recorded.staying[inside] & (rows["entries_sent"] > 0)
            if sent.any():
                lengths = most_common(rows["entries_sent"][sent]), most_common(rows["bytes_up"][sent])
                found.setdefault(self._kind(place), lengths)
        return found
