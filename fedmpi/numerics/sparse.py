"""Sums of sparse vectors that are given as one concatenation of (index, value) pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def union(indices: NDArray[np.int32], dimension: int) -> NDArray[np.int32]:
    """The distinct ``indices``, all within [0, dimension), ascending."""
    present = np.zeros(dimension, np.bool_)
    present[indices] = True
    return np.flatnonzero(present).astype(np.int32)


def sum_at(
    selected: NDArray[np.int32], indices: NDArray[np.int32], values: NDArray[np.float64], dimension: int
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Sums of the ``values`` whose index is in ``selected`` (distinct, ascending), and which ones they were.

    Values of the same index are added in the order in which they stand, in float64: the order of clients
    where entries are concatenated by client. Returns the sums at ``selected`` and a bool for every entry.
    """
    slot = np.full(dimension, -1, np.int32)
    slot[selected] = np.arange(selected.size, dtype=np.int32)
    slots = slot[indices]
    used = slots >= 0
    sums = np.bincount(slots[used], weights=values[used], minlength=selected.size)
    return sums.astype(np.float64, copy=False), used
