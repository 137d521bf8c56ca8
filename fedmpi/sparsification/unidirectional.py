"""Unidirectional top-k: everything that was sent comes back."""

from __future__ import annotations

from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads, union_of


def select(uploads: Uploads, k: int) -> Selection:
    """All coordinates that were sent, up to k x m of them: ``k`` limits only what a client sends."""
    del k
    return union_of(uploads)


METHOD = SparseMethod(
    summary="top-k on the way up alone: the union of all that was sent comes back",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    select=select,
    at_most_k_down=False,
)
