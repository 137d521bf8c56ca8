"""Sums of sparse vectors that are given as one concatenation of (index, value) pairs."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
"""Coordinates that are searched at a time: the positions that numpy finds are twice as long as they are kept."""


def union(indices: NDArray[np.int32], dimension: int) -> NDArray[np.int32]:
    """The distinct ``indices``, all within [0, dimension), ascending."""
    present = np.zeros(dimension, np.bool_)
    present[indices] = True
    found = np.empty(int(np.count_nonzero(present)), np.int32)
    filled = 0
    for start in range(0, dimension, _BLOCK):
        here = np.flatnonzero(present[start : start + _BLOCK])
        np.add(here, start, out=found[filled : filled + here.size], casting="same_kind")
        filled += here.size
    return found


def weighted_sum_at(
    selected: NDArray[np.int32],
    offsets: NDArray[np.int64],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    dimension: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The weighted sum of m sparse vectors at the coordinates ``selected`` (distinct), and which entries went in.

    Vector i has the entries ``offsets[i]`` to ``offsets[i + 1]``, of distinct indices. Vectors are added one after
    the other, in float64. Returns the sums at ``selected`` and a bool for every entry.
    """
    slot = np.full(dimension, -1, np.int32)
    slot[selected] = np.arange(selected.size, dtype=np.int32)
    sums = np.zeros(selected.size)
    used = np.empty(indices.size, np.bool_)
    for (start, stop), weight in zip(pairwise(offsets.tolist()), weights.tolist(), strict=True):
        slots = slot.take(indices[start:stop])
        here = np.greater_equal(slots, 0, out=used[start:stop])
        sums[slots[here]] += np.multiply(values[start:stop][here], weight, dtype=np.float64)
    return sums, used
