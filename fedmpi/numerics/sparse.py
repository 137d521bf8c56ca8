"""Unions and sums of sparse vectors."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

_BLOCK = 1 << 16
"""Coordinates that are searched at a time: the positions that numpy finds are twice as long as they are kept."""


def union(parts: Iterable[NDArray[np.int32]], dimension: int) -> NDArray[np.int32]:
    """The distinct indices of all ``parts``, within [0, dimension), ascending."""
    present = np.zeros(dimension, np.bool_)
    for indices in parts:
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
    parts: Iterable[tuple[NDArray[np.int32], NDArray[np.float32], float]],
    dimension: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The weighted sum of sparse vectors at the coordinates ``selected`` (distinct), and which entries went in.

    ``parts`` are the vectors: distinct indices, values and weight of each. They are added one after the other, in
    float64. Returns the sums at ``selected`` and a bool for every entry, in order.
    """
    slot = np.full(dimension, -1, np.int32)
    slot[selected] = np.arange(selected.size, dtype=np.int32)
    sums = np.zeros(selected.size)
    used = [np.empty(0, np.bool_)]
    for indices, values, weight in parts:
        slots = slot.take(indices)
        here = slots >= 0
        used.append(here)
        sums[slots[here]] += np.multiply(values[here], weight, dtype=np.float64)
    return sums, np.concatenate(used)


def weighted_row_sum_at(
    selected: NDArray[np.int32],
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    weights: NDArray[np.float64],
    dimension: int,
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """``weighted_sum_at`` of m vectors of n entries each, ``indices`` and ``values`` (m, n): the same bits."""
    slot = np.full(dimension, -1, np.int32)
    slot[selected] = np.arange(selected.size, dtype=np.int32)
    slots = slot.take(indices)
    here = slots >= 0
    sums = np.zeros(selected.size)
    shares = np.repeat(weights, np.count_nonzero(here, axis=1))
    np.add.at(sums, slots[here], np.multiply(values[here], shares, dtype=np.float64))  # one after the other
    return sums, here.reshape(-1)
