"""Importance as the server has it without asking: the squares of the entries that arrived since the mask last changed.

Between two masks the entries of a sparse exchange are accumulated gradients of active parameters. Their squares, times
the samples that the client processed in the round of their arrival, stand for the squares of gradients that PruneFL's
clients add up (Jiang et al., IEEE TNNLS 2022). Of pruned parameters nothing arrives; those are asked for when a
mask is to change (``pruned_gradients``), and with them the energy of a round's gradients of all active parameters.

What accumulated over n rounds arrives as up to n^2 times the square of one of its gradients, not n times. So the sums
say how importance is spread over active parameters, and the stated energy how much of it there is: without it the
active ones outweigh the pruned ones, and the mask only shrinks. What is missing is shared among those of which nothing
arrived.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.uploads import Uploads

_SUMS = "received_importance"
_ROUNDS = "received_rounds"


class ReceivedImportance:
    """The sums of all ``parameters``, float64 (D,), and of how many rounds with uploads they are. On the server."""

    def __init__(self, parameters: int) -> None:
        self._sums = np.zeros(parameters)
        self._rounds = 0

    def add(
        self,
        uploads: Uploads,
        samples: NDArray[np.int64],
        support: NDArray[np.int32] | None,
        rate: float = 1.0,
    ) -> None:
        """Take in the ``uploads`` of a round from clients that processed ``samples`` (m,), in their order.

        Their indices count among the active parameters, ``support`` (None: all are active), and their values are
        gradients times ``rate``; of a rate of 0 nothing is learned.
        """
        for indices, values, factor in zip(uploads.indices, uploads.values, samples.tolist(), strict=True):
            at = indices if support is None else support[indices]
            gradients = values.astype(np.float64)
            if rate != 1.0:
                gradients *= 1.0 / rate if rate else 0.0
            self._sums[at] += np.square(gradients) * factor
        self._rounds += 1

    def importance(
        self, of_a_round: NDArray[np.float64], energy: float, active: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Importance (D,), of all rounds: ``of_a_round`` (D,) and ``energy`` are what clients sent of one.

        Of pruned parameters it is the former; that of the ``active`` bool (D,) adds up to the latter.
        """
        whole, arrived = self._rounds * energy, float(self._sums.sum())
        importance = self._rounds * of_a_round
        silent = active & (self._sums == 0.0)
        if arrived > whole or not silent.any():
            return importance + self._sums * (whole / arrived if arrived else 0.0)
        importance += self._sums
        importance[silent] += (whole - arrived) / int(np.count_nonzero(silent))
        return importance

    def clear(self) -> None:
        """The mask has changed: start from zero."""
        self._sums[:] = 0.0
        self._rounds = 0

    def to_dict(self) -> tuple[dict[str, NDArray[Any]], dict[str, int]]:
        """For a checkpoint: arrays and numbers."""
        return {_SUMS: self._sums}, {_ROUNDS: self._rounds}

    def restore(self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, int]) -> None:
        """Continue from what ``to_dict`` gave."""
        self._sums[:] = arrays[_SUMS]
        self._rounds = int(numbers[_ROUNDS])
