"""Fairness-aware bidirectional top-k (Han, Wang, Leung, ICDCS 2020, section III)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.topk import largest, magnitude_order
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


def select(uploads: Uploads, k: int) -> Selection:
    """``k`` coordinates, to which each of the m clients contributes at least floor(k / m) of its entries.

    J is the union of every client's first kappa entries by falling magnitude, for the largest kappa that
    leaves it within k, filled up to k from the union at kappa + 1 by the largest magnitude that a client has
    there at exactly that rank. Ties go to the lowest index. Where all clients together sent no more than k
    coordinates, J is all of them. Raises ValueError for k < 0.
    """
    ranks = _ranks(uploads)
    unranked = np.int32(np.iinfo(np.int32).max)
    best_rank = np.full(uploads.dimension, unranked, np.int32)
    np.minimum.at(best_rank, uploads.indices, ranks)
    sent = np.flatnonzero(best_rank != unranked)
    best = best_rank[sent]
    if sent.size <= k:
        return selection_at(uploads, sent.astype(np.int32))
    union_sizes = np.cumsum(np.bincount(best))  # at kappa = 1, 2, ...
    kappa = int(np.searchsorted(union_sizes, k, side="right"))
    chosen = sent[best < kappa]
    candidates = sent[best == kappa]
    peaks = np.zeros(uploads.dimension, np.float32)
    at_kappa = np.flatnonzero(ranks == kappa)
    np.maximum.at(peaks, uploads.indices[at_kappa], np.abs(uploads.values[at_kappa]))
    filling = candidates[largest(peaks[candidates].view(np.uint32), k - chosen.size)]
    return selection_at(uploads, np.sort(np.concatenate((chosen, filling))).astype(np.int32))


def _ranks(uploads: Uploads) -> NDArray[np.int32]:
    """Every entry's rank within its client by falling magnitude, from 0; ties to the lowest index."""
    ranks = np.empty(uploads.indices.size, np.int32)
    rising = np.arange(int(np.diff(uploads.offsets).max(initial=0)), dtype=np.int32)
    for start, stop in zip(uploads.offsets[:-1].tolist(), uploads.offsets[1:].tolist(), strict=True):
        order = magnitude_order(uploads.values[start:stop])
        ranks[start:stop][order] = rising[: order.size]
    return ranks
