"""The exact weighted mean of flat updates that lie on many ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.mean_by_segments import MeanBySegments, Share
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.exact_sum import accumulate, mean, scale_exponent

_FLOATS_PER_LINE = 16  # rows start on 64-byte boundaries, so that every row is computed alike


class ExactAverage:
    """Collects float32 updates of ``length`` values on every rank and averages them exactly.

    ``rows`` (m, length) holds this rank's updates of a round; it grows to the largest number of participants
    seen and is used again. The scale of the fixed point comes from the largest magnitude of all accepted
    updates, which ranks agree on beforehand. Ranks of a group add up through the memory that they share, each a
    slice of the vector; among the groups' first ranks each makes a segment of the mean (``mean_by_segments``). All
    sums are exact, so neither order nor grouping shows in the mean.
    """

    def __init__(self, ranks: Ranks, memory: GroupMemory, length: int) -> None:
        self._ranks = ranks
        self._group = Ranks.of(memory.comm)
        self._leaders = Ranks.of(ranks.comm.Split(color=0 if memory.leads else 1, key=ranks.rank))
        self._leads = memory.leads
        self._by_segments = MeanBySegments(self._leaders)
        self._one_group = len(memory.groups) == 1
        self._all_sums = memory.allocate((self._group.size, length), np.dtype(np.float64))
        self._whole_mean = memory.allocate((length,), np.dtype(np.float32))
        self.resize(length)

    def resize(self, length: int) -> None:
        """Go on with updates of ``length`` values, no more than there were at first."""
        if length > self._whole_mean.size:
            raise ValueError(f"updates of {length} values do not fit, allowed are {self._whole_mean.size}")
        self.length = length
        self.rows = torch.empty(0, length)
        self._sums = self._all_sums[:, :length]
        self._mean = self._whole_mean[:length]
        step = -(-length // (self._group.size * _FLOATS_PER_LINE)) * _FLOATS_PER_LINE
        self._slice = slice(self._group.rank * step, (self._group.rank + 1) * step)

    def begin(self, count: int) -> None:
        """Make room for ``count`` updates."""
        if count > len(self.rows):
            padded = -(-self.length // _FLOATS_PER_LINE) * _FLOATS_PER_LINE
            self.rows = torch.empty(count, padded)[:, : self.length]

    def finish(
        self,
        weights: np.ndarray,
        taken: np.ndarray,
        total_weight: int,
        max_abs: float,
        revise: Callable[[np.ndarray], None] | None = None,
    ) -> torch.Tensor:
        """The mean, float32 (length,), on every rank; zeros when nothing was taken. Valid until the next round.

        ``weights`` int64 and ``taken`` bool are those of this rank's rows; ``total_weight`` and ``max_abs``
        those of all ranks. ``revise``, given on every rank or on none, changes the mean in place on the server, and
        all get what it made of it.
        """
        self._ranks.carried_bytes += self._mean.nbytes + self._sums[0].nbytes
        if total_weight == 0:
            return torch.zeros(self.length)
        exponent = scale_exponent(max_abs, total_weight)
        rows = [row for row, is_taken in zip(self.rows.numpy(), taken, strict=False) if is_taken]
        weights = weights[taken]
        if not self._one_group:
            self._between_groups(rows, weights, exponent, total_weight)
        elif self._group.size == 1:
            mean(rows, weights, [], exponent, total_weight, self._mean)
        else:
            part = self._slice
            accumulate(rows, weights, exponent, self._sums[self._group.rank])
            self._group.barrier()
            mean([], weights[:0], list(self._sums[:, part]), exponent, total_weight, self._mean[part])
        if revise is not None:
            self._group.barrier()
            if self._ranks.is_server:
                revise(self._mean)
            if self._leads:
                self._leaders.broadcast(self._mean)
        self._group.barrier()
        return torch.from_numpy(self._mean)

    def _between_groups(
        self, rows: list[NDArray[np.float32]], weights: NDArray[np.int64], exponent: int, total_weight: int
    ) -> None:
        share = Share.nothing()
        if self._group.size == 1 and len(rows) == 1:
            share = Share(rows[0], int(weights[0]))
        elif self._group.size > 1 or len(rows) > 1:
            accumulate(rows, weights, exponent, self._sums[self._group.rank])
            self._group.barrier()
            part = self._slice
            for row in self._sums[1:]:
                self._sums[0, part] += row[part]
            self._group.barrier()
            share = Share.of_sums(self._sums[0])
        if self._leads:
            self._by_segments.mean(share, exponent, total_weight, self._mean)
