"""Exact selection of the k entries of largest magnitude.

Magnitudes are compared as the bit patterns of |x|, which order float32 numbers as integers do; ties go to
the lowest index, so that a selection never depends on how a partition happens to leave equal elements.
A sample at fixed positions bounds the k-th magnitude from below, one pass in cache-sized blocks keeps what
lies above the bound, and the exact selection works on those survivors, or on all entries where the sample
misleads.

NaN and infinity are the caller's duty: they would count as larger than every finite number.
"""

from __future__ import annotations

from functools import lru_cache
from math import ceil, floor, sqrt

import numpy as np
from numpy.typing import NDArray

_MAGNITUDE = np.uint32(0x7FFFFFFF)
_BLOCK = 1 << 19
"""Two MiB of magnitudes: more calls cost more than what leaves the second-level cache."""
_LARGEST_SAMPLE = 1 << 14
_SMALL = 1 << 12
"""Up to this many entries a sample costs more than it saves."""
_PREFILTER_FRACTION = 8
"""Up to one entry in so many, survivors are gathered; beyond that it is cheaper to mark them in place."""
_LONGEST_ROW = 1 << 16
"""Up to this many entries, many rows are selected from at once."""
_DEVIATIONS = 3.0
"""Standard deviations of the sample's rank that the bounds leave as a margin."""


def top_k(values: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """Indices of the ``k`` entries of largest ``|values|``, ascending; ties go to the lowest index.

    ``values`` is one-dimensional float32, finite (the caller's duty), shorter than 2**31. Exact and
    deterministic. Raises ValueError unless 0 <= k <= n, and for another shape or dtype.
    """
    bits = _bit_patterns(values)
    _check_count(k, bits.size)
    if k == 0:
        return np.empty(0, np.int32)
    if k == bits.size:
        return np.arange(k, dtype=np.int32)
    if bits.size > _SMALL and k * _PREFILTER_FRACTION <= bits.size:
        chosen = _by_prefilter(bits, k)
        if chosen is not None:
            return chosen
    return largest(bits & _MAGNITUDE, k).astype(np.int32)


def top_k_rows(values: NDArray[np.float32], k: int) -> NDArray[np.int32]:
    """``top_k`` of every row of ``values`` (m, n): int32 (m, k), each row ascending.

    Many short rows take a fraction of the time of as many calls. Raises ValueError as ``top_k`` does.
    """
    if values.ndim != 2:
        raise ValueError(f"values must be two-dimensional, not {values.ndim}-D")
    rows, size = values.shape
    _check_count(k, size)
    chosen = np.empty((rows, k), np.int32)
    short = k > 0 and rows > 0 and size <= _LONGEST_ROW
    done = _short_rows(values, k, chosen) if short else np.zeros(rows, np.bool_)
    for row in np.flatnonzero(~done).tolist():
        chosen[row] = top_k(values[row], k)
    return chosen


def _short_rows(values: NDArray[np.float32], k: int, chosen: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Write the selections of rows (m, n) to ``chosen``; False for rows with fewer than ``k`` that are not tiny."""
    size = values.shape[1]
    if values.dtype != np.float32:
        raise ValueError(f"values must be float32, not {values.dtype}")
    magnitudes = np.bitwise_and(values.view(np.uint32), _MAGNITUDE, out=np.empty(values.shape, np.uint32))
    # A partition takes many times as long where many values are equal, as zeros are: they become different, less
    # than any magnitude that counts.
    keys = np.maximum(magnitudes, np.arange(size, dtype=np.uint32))
    keys.partition(size - k, axis=1)
    kth = keys[:, size - k, None]
    taken = magnitudes >= kth
    done = kth[:, 0] >= size
    taken[~done] = False
    tied = np.flatnonzero(np.count_nonzero(taken, axis=1) > k)
    if tied.size:
        more, equal = magnitudes[tied] > kth[tied], magnitudes[tied] == kth[tied]
        missing = k - np.count_nonzero(more, axis=1)
        taken[tied] = more | (equal & (np.cumsum(equal, axis=1, dtype=np.int32) <= missing[:, None]))
    found = np.flatnonzero(taken).reshape(-1, k)
    chosen[done] = found - size * np.flatnonzero(done)[:, None]
    return done


def magnitude_order(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Positions of all entries by falling ``|values|``, finite; ties go to the lowest position."""
    return _falling(_bit_patterns(values))


def magnitude_order_rows(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """``magnitude_order`` of every row of ``values`` (m, n)."""
    return _falling(np.ascontiguousarray(values).view(np.uint32))


def _falling(bits: NDArray[np.uint32]) -> NDArray[np.int64]:
    """Positions along the last axis by falling magnitude, ties by position."""
    keys = (~bits & _MAGNITUDE).astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= np.arange(bits.shape[-1], dtype=np.uint64)
    keys.sort(axis=-1)
    keys &= np.uint64(0xFFFFFFFF)
    return keys.view(np.int64)


def largest(magnitudes: NDArray[np.uint32] | NDArray[np.float64], k: int) -> NDArray[np.int64]:
    """Positions of the ``k`` largest non-negative ``magnitudes``, ascending; ties go to the lowest position.

    Raises ValueError unless 0 <= k <= n.
    """
    _check_count(k, magnitudes.size)
    if k == 0:
        return np.empty(0, np.int64)
    kth = _kth_largest(magnitudes, k)
    chosen = magnitudes >= kth
    excess = int(np.count_nonzero(chosen)) - k
    if excess > 0:
        chosen[np.flatnonzero(magnitudes == kth)[-excess:]] = False
    return np.flatnonzero(chosen)


def _bit_patterns(values: NDArray[np.float32]) -> NDArray[np.uint32]:
    if values.ndim != 1 or values.dtype != np.float32:
        raise ValueError(f"values must be one-dimensional float32, not {values.ndim}-D {values.dtype}")
    return np.ascontiguousarray(values).view(np.uint32)


def _check_count(k: int, size: int) -> None:
    if not 0 <= k <= size:
        raise ValueError(f"k is {k}, allowed are 0 to {size}")


def _by_prefilter(bits: NDArray[np.uint32], k: int) -> NDArray[np.int32] | None:
    """The selection by way of survivors above a sampled bound, or None where the sample misled."""
    sample = bits[_sample_positions(bits.size)] & _MAGNITUDE
    expected = k * sample.size / bits.size
    rank = min(sample.size, ceil(expected + _DEVIATIONS * sqrt(expected) + _DEVIATIONS))
    bound = np.sort(sample)[sample.size - rank]
    found = _above(bits, bound, at_most=4 * rank * bits.size // sample.size)
    if found is None:
        return None
    survivors, magnitudes = found
    missing = k - survivors.size
    if missing <= 0:
        return survivors[largest(magnitudes, k)].astype(np.int32)
    ties = _first_positions_equal(bits, bound, missing)  # constant or mostly zero data: the bound is the k-th
    if ties.size < missing:
        return None
    return np.sort(np.concatenate((survivors, ties))).astype(np.int32)


def _above(
    bits: NDArray[np.uint32], bound: np.uint32, at_most: int
) -> tuple[NDArray[np.int64], NDArray[np.uint32]] | None:
    """Ascending positions of the magnitudes beyond ``bound``, and these; None where they are too many."""
    scratch = np.empty(min(_BLOCK, bits.size), np.uint32)
    flags = np.empty(_BLOCK, np.bool_)
    words = flags.view(np.uint64)
    positions: list[NDArray[np.int64]] = []
    found: list[NDArray[np.uint32]] = []
    count = 0
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK]
        magnitudes = scratch[: block.size]
        np.bitwise_and(block, _MAGNITUDE, out=magnitudes)
        np.greater(magnitudes, bound, out=flags[: block.size])
        flags[block.size :] = False
        # First the words of eight flags with any set, then the flags in those: both are dense enough for
        # numpy's search without branches, which a processor would mispredict at almost every survivor.
        occupied = np.flatnonzero(words != 0)
        inside = np.flatnonzero(words.take(occupied).view(np.bool_))
        here = occupied.take(inside >> 3)
        here <<= 3
        here += inside & 7
        found.append(magnitudes.take(here))
        here += start
        positions.append(here)
        count += here.size
        if count > at_most:
            return None
    return np.concatenate(positions), np.concatenate(found)


def _first_positions_equal(bits: NDArray[np.uint32], magnitude: np.uint32, count: int) -> NDArray[np.int64]:
    """The first ``count`` positions (or all, where there are fewer) of ``magnitude``, ascending."""
    found: list[NDArray[np.int64]] = []
    missing = count
    for start in range(0, bits.size, _BLOCK):
        block = bits[start : start + _BLOCK] & _MAGNITUDE
        positions = np.flatnonzero(block == magnitude)[:missing]
        found.append(positions + start)
        missing -= positions.size
        if missing == 0:
            break
    return np.concatenate(found)


def _kth_largest(magnitudes: NDArray[np.uint32] | NDArray[np.float64], k: int) -> np.uint32 | np.float64:
    """The ``k``-th largest value, 1 <= k <= n.

    A sample brackets it, and only what lies strictly inside the bracket is looked at further; a sample
    that misled narrows the search as well. The rest is sorted: np.partition takes many times as long as a
    sort where many values are equal.
    """
    while magnitudes.size > _SMALL:
        size = magnitudes.size
        sample = np.sort(magnitudes[_sample_positions(size)])
        expected = k * sample.size / size
        margin = _DEVIATIONS * sqrt(expected * (1 - k / size)) + _DEVIATIONS
        low = sample[max(0, sample.size - ceil(expected + margin))]
        high = sample[min(sample.size - 1, sample.size - floor(expected - margin))]
        below_high = magnitudes < high
        from_high = size - int(np.count_nonzero(below_high))
        above_low = magnitudes > low
        if from_high >= k:
            above_high = magnitudes > high
            if np.count_nonzero(above_high) < k:
                return high
            magnitudes = magnitudes[above_high]
        elif np.count_nonzero(above_low) < k:
            below_low = magnitudes < low
            from_low = size - int(np.count_nonzero(below_low))
            if from_low >= k:
                return low
            magnitudes = magnitudes[below_low]
            k -= from_low
        else:
            magnitudes = magnitudes[below_high & above_low]
            k -= from_high
    return np.sort(magnitudes)[magnitudes.size - k]


def _sample_positions(size: int) -> NDArray[np.int64]:
    """Positions of a sample of so many entries."""
    return stratified_positions(size, min(_LARGEST_SAMPLE, max(size // 128, min(2048, size // 16))))


@lru_cache(maxsize=64)
def stratified_positions(size: int, count: int) -> NDArray[np.int64]:
    """Fixed positions (count,), rising: one in each of equal strata, at golden-ratio offsets so that no period is met.

    Not to be written to. 0 < ``count`` <= ``size``.
    """
    strata = np.arange(count, dtype=np.float64)
    offsets = (strata * ((sqrt(5) - 1) / 2)) % 1.0
    positions = ((strata + offsets) * (size / count)).astype(np.int64)
    positions.setflags(write=False)
    return positions
