"""Fairness-aware bidirectional top-k (Han, Wang, Leung, ICDCS 2020, section III)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import union
from fedmpi.numerics.topk import largest, magnitude_order, magnitude_order_rows, top_k, top_k_rows
from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at

_Band = tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.int32]]
"""Indices, values, and ranks of some entries of a client."""

_UNRANKED = np.int32(np.iinfo(np.int32).max)
_FEW_ENTRIES = 1 << 20
"""Up to so many entries a sample costs more than it saves."""
_SAMPLE_ENTRIES = 1 << 18
_SCATTER = np.uint32(2654435769)  # 2^32 over the golden ratio: coordinates times it are spread evenly
_DEVIATIONS = 4.0
"""Standard deviations of what the sample shows that are left as a margin."""


def select(uploads: Uploads, k: int) -> Selection:
    """``k`` coordinates, to which each of the m clients contributes at least floor(k / m) of its entries.

    J is the union of every client's first kappa entries by falling magnitude, for the largest kappa that
    leaves it within k, filled up to k from the union at kappa + 1 by the largest magnitude that a client has
    there at exactly that rank. Ties go to the lowest index. Where all clients together sent no more than k
    coordinates, J is all of them. Raises ValueError for k < 0.
    """
    if k < 0:
        raise ValueError(f"k is {k}, allowed are numbers from 0 on")
    longest = max((indices.size for indices in uploads.indices), default=0)
    low, high = _bracket(uploads, k, longest)
    while (chosen := _chosen(uploads, k, low, high)) is None:
        if high >= longest:
            everything = union(uploads.indices, uploads.dimension)
            if low == 0 or everything.size <= k:
                return selection_at(uploads, everything)
        low, high = 0, min(longest, 4 * high)
    return selection_at(uploads, chosen)


def _bracket(uploads: Uploads, k: int, longest: int) -> tuple[int, int]:
    """Where kappa probably lies: from the first number on, and below the second.

    Of many entries, a sample of the coordinates says it: the entries there have ranks in proportion.
    """
    entries = sum(indices.size for indices in uploads.indices)
    if entries <= _FEW_ENTRIES or uploads.rows is not None:
        # m clients of whom no two agree fill J with k / m entries each: kappa is rarely far beyond.
        return 0, min(longest, 2 * (k // max(1, uploads.clients)) + 1)
    rate = -(-entries // _SAMPLE_ENTRIES)
    limit = np.uint32((2**32 - 1) // rate)
    drawn = [np.flatnonzero(indices.view(np.uint32) * _SCATTER < limit) for indices in uploads.indices]
    best_rank = _best_ranks(
        (
            (indices[at], _ranks(values[at]))
            for (indices, values), at in zip(_entries(uploads), drawn, strict=True)
        ),
        uploads.dimension,
    )
    best = np.sort(best_rank[best_rank != _UNRANKED])
    likely = rate * int(best[min(k // rate, best.size - 1)]) if best.size else 0
    margin = int(likely * _DEVIATIONS / sqrt(max(1, k / rate))) + 4 * rate
    return min(longest, max(0, likely - margin)), min(longest, likely + margin)


def _chosen(uploads: Uploads, k: int, low: int, high: int) -> NDArray[np.int32] | None:
    """J, or None unless low <= kappa < high."""
    if uploads.rows is not None:
        return _chosen_of_rows(uploads, *uploads.rows, k, high)
    certain = np.zeros(uploads.dimension, np.bool_)
    bands = [_band(indices, values, low, high, certain) for indices, values in _entries(uploads)]
    best_rank = _best_ranks(((indices, ranks) for indices, _, ranks in bands), uploads.dimension)
    best_rank[certain] = -1

    def at_rank(kappa: int) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        flags = [ranks == kappa for _, _, ranks in bands]
        indices = np.concatenate([band[0][at] for band, at in zip(bands, flags, strict=True)])
        values = np.concatenate([band[1][at] for band, at in zip(bands, flags, strict=True)])
        return indices, values

    return _filled(best_rank, k, low, at_rank)


def _chosen_of_rows(
    uploads: Uploads, indices: NDArray[np.int32], values: NDArray[np.float32], k: int, high: int
) -> NDArray[np.int32] | None:
    """The same with low = 0 where the clients' entries are rows (m, n)."""
    first = top_k_rows(values, high)
    indices, values = np.take_along_axis(indices, first, axis=1), np.take_along_axis(values, first, axis=1)
    order = magnitude_order_rows(values)
    by_rank, values = np.take_along_axis(indices, order, axis=1), np.take_along_axis(values, order, axis=1)
    best_rank = np.full(uploads.dimension, _UNRANKED, np.int32)
    for rank in range(high - 1, -1, -1):
        best_rank[by_rank[:, rank]] = rank
    return _filled(best_rank, k, 0, lambda kappa: (by_rank[:, kappa], values[:, kappa]))


def _filled(
    best_rank: NDArray[np.int32],
    k: int,
    low: int,
    at_rank: Callable[[int], tuple[NDArray[np.int32], NDArray[np.float32]]],
) -> NDArray[np.int32] | None:
    """J by the best rank of every coordinate; ``at_rank`` gives the clients' entries of one rank, indices and values.

    None where kappa lies outside of the ranks that are known, from ``low`` on.
    """
    sent = np.flatnonzero(best_rank != _UNRANKED)
    best = best_rank[sent]
    # Union sizes at kappa = low, low + 1, ...: coordinates that are certain have rank -1.
    sizes = np.cumsum(np.bincount(np.maximum(best + 1 - low, 0)))
    if sizes.size == 0 or sizes[0] > k or sizes[-1] <= k:
        return None
    kappa = low + int(np.searchsorted(sizes, k, side="right")) - 1
    chosen = sent[best < kappa]
    # At most one entry of each client: those of rank kappa whose coordinate is not chosen yet.
    indices, values = at_rank(kappa)
    fresh = best_rank[indices] == kappa
    candidates, which = np.unique(indices[fresh], return_inverse=True)
    peaks = np.zeros(candidates.size, np.float32)
    np.maximum.at(peaks, which, np.abs(values[fresh]))
    filling = candidates[largest(peaks.view(np.uint32), k - chosen.size)]
    return np.sort(np.concatenate((chosen, filling))).astype(np.int32)


def _best_ranks(
    parts: Iterable[tuple[NDArray[np.int32], NDArray[np.int32]]], dimension: int
) -> NDArray[np.int32]:
    """The best rank of every coordinate among the clients, whose distinct indices and ranks ``parts`` are."""
    best_rank = np.full(dimension, _UNRANKED, np.int32)
    for indices, ranks in parts:
        best_rank[indices] = np.minimum(best_rank[indices], ranks)
    return best_rank


def _entries(uploads: Uploads) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32]]]:
    return zip(uploads.indices, uploads.values, strict=True)


def _band(
    indices: NDArray[np.int32], values: NDArray[np.float32], low: int, high: int, certain: NDArray[np.bool_]
) -> _Band:
    """A client's entries of ranks ``low`` to below ``high``; the coordinates of those before become ``certain``."""
    if high < values.size:
        first = top_k(values, high)
        indices, values = indices[first], values[first]
    if low:
        before = np.zeros(values.size, np.bool_)
        before[top_k(values, min(low, values.size))] = True
        certain[indices[before]] = True
        indices, values = indices[~before], values[~before]
    return indices, values, low + _ranks(values)


def _ranks(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Every entry's rank within its client by falling magnitude, from 0; ties to the lowest index."""
    ranks = np.empty(values.size, np.int32)
    ranks[magnitude_order(values)] = np.arange(values.size, dtype=np.int32)
    return ranks


METHOD = SparseMethod(
    summary="fairness-aware bidirectional top-k: every client contributes at least floor(k / N) entries",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    select=select,
)
