"""Flat bidirectional top-k without fairness, the ``fub_flat`` that FAB-top-k is compared with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.topk import largest
from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at

_BLOCK = 1 << 17
"""Coordinates that are summed at a time: sums of all that was sent would take more memory than the messages."""


def select(uploads: Uploads, k: int) -> Selection:
    """The ``k`` coordinates of largest |b_j| among all that were sent; ties go to the lowest index.

    Raises ValueError for k < 0.
    """
    strongest = [_strongest_within(uploads, k, start) for start in range(0, uploads.dimension, _BLOCK)]
    indices = np.concatenate([indices for indices, _ in strongest])
    magnitudes = np.concatenate([magnitudes for _, magnitudes in strongest])
    return selection_at(uploads, indices[largest(magnitudes, min(k, indices.size))])


def _strongest_within(uploads: Uploads, k: int, first: int) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Up to ``k`` coordinates of the block that starts at ``first``, rising, with their |b_j|."""
    last = min(first + _BLOCK, uploads.dimension)
    sums, sent = np.zeros(last - first), np.zeros(last - first, np.bool_)
    for indices, values, weight in uploads.parts():
        start, stop = np.searchsorted(indices, (first, last))
        here = indices[start:stop] - np.int32(first)
        sums[here] += np.multiply(values[start:stop], weight, dtype=np.float64)
        sent[here] = True
    found = np.flatnonzero(sent)
    magnitudes = np.abs(sums[found])
    strongest = largest(magnitudes, min(k, found.size))
    return (found[strongest] + first).astype(np.int32), magnitudes[strongest]


METHOD = SparseMethod(
    summary="bidirectional top-k without fairness: the k largest of the weighted sum",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    select=select,
)
