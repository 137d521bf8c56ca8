"""Fairness-aware bidirectional top-k (Han, Wang, Leung, ICDCS 2020, section III)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import union
from fedmpi.numerics.topk import largest, magnitude_order
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


def select(uploads: Uploads, k: int) -> Selection:
    """``k`` coordinates, to which each of the m clients contributes at least floor(k / m) of its entries.

    J is the union of every client's first kappa entries by falling magnitude, for the largest kappa that
    leaves it within k, filled up to k from the union at kappa + 1 by the largest magnitude that a client has
    there at exactly that rank. Ties go to the lowest index. Where all clients together sent no more than k
    coordinates, J is all of them. Raises ValueError for k < 0.
    """
    longest = max((indices.size for indices in uploads.indices), default=0)
    # m clients of whom no two agree fill J with k / m entries each: kappa is rarely far beyond.
    depth = 2 * (k // max(1, uploads.clients)) + 1
    while depth < longest:
        chosen = _chosen(uploads.truncated(depth), k)
        if chosen is not None:
            return selection_at(uploads, chosen)
        depth *= 4
    chosen = _chosen(uploads, k)
    return selection_at(uploads, union(uploads.indices, uploads.dimension) if chosen is None else chosen)


def _chosen(uploads: Uploads, k: int) -> NDArray[np.int32] | None:
    """J, or None where ``uploads`` hold no more than k coordinates."""
    ranks = [_ranks(values) for values in uploads.values]
    unranked = np.int32(np.iinfo(np.int32).max)
    best_rank = np.full(uploads.dimension, unranked, np.int32)
    for indices, own in zip(uploads.indices, ranks, strict=True):
        best_rank[indices] = np.minimum(best_rank[indices], own)
    sent = np.flatnonzero(best_rank != unranked)
    if sent.size <= k:
        return None
    best = best_rank[sent]
    union_sizes = np.cumsum(np.bincount(best))  # at kappa = 1, 2, ...
    kappa = int(np.searchsorted(union_sizes, k, side="right"))
    chosen = sent[best < kappa]
    # At most one entry of each client: those of rank kappa whose coordinate is not chosen yet.
    places = [np.flatnonzero(own == kappa) for own in ranks]
    indices, values = (
        np.concatenate([part[place] for part, place in zip(parts, places, strict=True)])
        for parts in (uploads.indices, uploads.values)
    )
    fresh = best_rank[indices] == kappa
    candidates, which = np.unique(indices[fresh], return_inverse=True)
    peaks = np.zeros(candidates.size, np.float32)
    np.maximum.at(peaks, which, np.abs(values[fresh]))
    filling = candidates[largest(peaks.view(np.uint32), k - chosen.size)]
    return np.sort(np.concatenate((chosen, filling))).astype(np.int32)


def _ranks(values: NDArray[np.float32]) -> NDArray[np.int32]:
    """Every entry's rank within its client by falling magnitude, from 0; ties to the lowest index."""
    ranks = np.empty(values.size, np.int32)
    ranks[magnitude_order(values)] = np.arange(values.size, dtype=np.int32)
    return ranks
