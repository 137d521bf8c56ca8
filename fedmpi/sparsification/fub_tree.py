"""Bidirectional top-k along a tree of pairs: gTop-k (Shi et al., ICDCS 2019), without fairness."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import sum_at
from fedmpi.numerics.topk import largest
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


class _Node(NamedTuple):
    """A subtree: its coordinates (ascending), the sums of (C_i / C) a_ij there, the entries that survived."""

    indices: NDArray[np.int32]
    sums: NDArray[np.float64]
    entries: NDArray[np.int64]


class _Scratch(NamedTuple):
    """Vectors of all coordinates, zero between uses."""

    sums: NDArray[np.float64]
    kept: NDArray[np.bool_]


def select(uploads: Uploads, k: int) -> Selection:
    """Clients merged in pairs (0, 1), (2, 3)..., each time keeping the ``k`` largest of the weighted mean.

    An odd last one is carried up unchanged. An entry is used only if its coordinate survived every merge on
    its way up, even where another subtree brings the coordinate back. Within a merge the weighted sums stand
    for the mean, which differs by a common factor. Ties go to the lowest index. Raises ValueError for k < 0.
    """
    weighted = uploads.weighted_values()
    bounds = zip(uploads.offsets[:-1].tolist(), uploads.offsets[1:].tolist(), strict=True)
    level = [_Node(uploads.indices[a:b], weighted[a:b], np.arange(a, b)) for a, b in bounds]
    scratch = _Scratch(np.zeros(uploads.dimension, np.float64), np.zeros(uploads.dimension, np.bool_))
    while len(level) > 1:
        pairs = zip(level[::2], level[1::2], strict=False)
        carried = level[-1:] if len(level) % 2 else []
        level = [_strongest(_sum(*pair, scratch), k, uploads, scratch) for pair in pairs] + carried
    if not level:
        return selection_at(uploads, np.empty(0, np.int32))
    root = _strongest(level[0], k, uploads, scratch)
    # Summed anew in client order, as every selection is.
    values, _ = sum_at(root.indices, uploads.indices[root.entries], weighted[root.entries], uploads.dimension)
    used = np.zeros(uploads.indices.size, np.bool_)
    used[root.entries] = True
    return Selection(root.indices, values, used)


def _sum(left: _Node, right: _Node, scratch: _Scratch) -> _Node:
    """Both subtrees, over the union of their coordinates."""
    scratch.sums[left.indices] = left.sums
    scratch.sums[right.indices] += right.sums
    both = np.sort(np.concatenate((left.indices, right.indices)), kind="stable")  # two runs: a merge
    first = np.ones(both.size, np.bool_)
    np.not_equal(both[1:], both[:-1], out=first[1:])
    indices = both[first]
    sums = scratch.sums[indices]
    scratch.sums[indices] = 0.0
    return _Node(indices, sums, np.concatenate((left.entries, right.entries)))


def _strongest(node: _Node, k: int, uploads: Uploads, scratch: _Scratch) -> _Node:
    """The ``k`` largest coordinates of a subtree, and those of its entries that lie there."""
    if node.indices.size <= k:
        return node
    positions = largest(np.abs(node.sums), k)
    indices = node.indices[positions]
    scratch.kept[indices] = True
    entries = node.entries[scratch.kept[uploads.indices[node.entries]]]
    scratch.kept[indices] = False
    return _Node(indices, node.sums[positions], entries)
