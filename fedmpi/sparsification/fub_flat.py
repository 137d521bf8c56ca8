"""Flat bidirectional top-k without fairness, the ``fub_flat`` that FAB-top-k is compared with."""

from __future__ import annotations

import numpy as np

from fedmpi.numerics.sparse import union
from fedmpi.numerics.topk import largest
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


def select(uploads: Uploads, k: int) -> Selection:
    """The ``k`` coordinates of largest |b_j| among all that were sent; ties go to the lowest index.

    Raises ValueError for k < 0.
    """
    sent = union(uploads.indices, uploads.dimension)
    if sent.size > k:
        sent = sent[largest(np.abs(selection_at(uploads, sent).values), k)]
    return selection_at(uploads, sent)
