"""Unidirectional top-k: everything that was sent comes back."""

from __future__ import annotations

from fedmpi.numerics.sparse import union
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


def select(uploads: Uploads, k: int) -> Selection:
    """All coordinates that were sent, up to k x m of them: ``k`` limits only what a client sends."""
    return selection_at(uploads, union(uploads.indices, uploads.dimension))
