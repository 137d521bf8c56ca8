"""The exact weighted mean of flat updates that lie on many ranks."""

from __future__ import annotations

import numpy as np
import torch

from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.exact_sum import SUM_DTYPE, accumulate, decode, scale_exponent


class ExactAverage:
    """Collects float32 updates of ``length`` values on every rank and averages them exactly on the server.

    ``rows`` (m, length) holds this rank's updates of a round; it grows to the largest number of participants seen and is used
    again. The scale of the fixed point comes from the largest magnitude of all accepted updates, which ranks
    agree on beforehand, so one Reduce carries the sums.
    """

    def __init__(self, ranks: Ranks, length: int) -> None:
        self.ranks = ranks
        self.length = length
        self.rows = torch.empty(0, length)
        self._sum = np.zeros(length, dtype=SUM_DTYPE)
        self._mean = torch.zeros(length)

    def begin(self, count: int) -> None:
        """Make room for ``count`` updates."""
        if count > len(self.rows):
            padded = -(-self.length // 16) * 16  # rows start on 64-byte boundaries, so every row is computed alike
            self.rows = torch.empty(count, padded)[:, : self.length]

    def finish(self, weights: np.ndarray, taken: np.ndarray, total_weight: int, max_abs: float) -> torch.Tensor:
        """The mean, float32 (length,), on every rank; zeros when nothing was taken.

        ``weights`` int64 and ``taken`` bool are those of this rank's rows; ``total_weight`` and ``max_abs`` those of all ranks.
        """
        if total_weight == 0:
            return self._mean.zero_()
        exponent = scale_exponent(max_abs, total_weight)
        rows = self.rows[: len(weights)].numpy()
        self._sum[:] = 0
        accumulate(rows[taken] if not taken.all() else rows, weights[taken], exponent, self._sum)
        self.ranks.reduce_sum(self._sum)
        mean = self._mean.numpy()
        if self.ranks.is_server:
            decode(self._sum, exponent, total_weight, mean)
        self.ranks.broadcast(mean)
        return self._mean
