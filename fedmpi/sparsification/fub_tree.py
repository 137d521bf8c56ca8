"""Bidirectional top-k along a tree of pairs: gTop-k (Shi et al., ICDCS 2019), without fairness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import weighted_sum_at
from fedmpi.numerics.topk import largest
from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads, selection_at


@dataclass(frozen=True, eq=False)
class _Node:
    """A merged subtree: its coordinates (int32, rising), and the two nodes or clients that it was merged from."""

    indices: NDArray[np.int32]
    parts: tuple[_Node | int, ...]


def select(uploads: Uploads, k: int) -> Selection:
    """Clients merged in pairs (0, 1), (2, 3)..., each time keeping the ``k`` largest of the weighted mean.

    An odd last one is carried up unchanged. An entry is used only if its coordinate survived every merge on
    its way up, even where another subtree brings the coordinate back. Within a merge the weighted sums stand
    for the mean, which differs by a common factor. Ties go to the lowest index. Raises ValueError for k < 0.
    """
    if not uploads.clients:
        return selection_at(uploads, np.empty(0, np.int32))
    indices, used = _survivors(uploads, k)
    return _sum_of_used(uploads, indices, used)


def _survivors(uploads: Uploads, k: int) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """The coordinates at the root, and a bool for every entry: whether it got there."""
    root, indices, sums = _Tree(uploads, k).subtree((uploads.clients - 1).bit_length(), 0)
    if isinstance(root, int):
        indices, _ = _strongest(indices, sums, k)
        root = _Node(indices, (root,))
    used = np.empty(sum(part.size for part in uploads.indices), np.bool_)
    _mark_survivors(root, indices, uploads, uploads.split(used), np.zeros(uploads.dimension, np.bool_))
    return indices, used


class _Tree:
    """Merges depth first, so that few subtrees have their sums in memory at a time."""

    def __init__(self, uploads: Uploads, k: int) -> None:
        self.uploads = uploads
        self.k = k

    def subtree(self, level: int, number: int) -> tuple[_Node | int, NDArray[np.int32], NDArray[np.float64]]:
        """The subtree of up to 2**level clients, with its coordinates and the sums of (C_i / C) a_ij there."""
        uploads = self.uploads
        if level == 0:
            sums = np.multiply(uploads.values[number], uploads.weights[number], dtype=np.float64)
            return number, uploads.indices[number], sums
        left = self.subtree(level - 1, 2 * number)
        if (2 * number + 1) << (level - 1) >= uploads.clients:
            return left
        right = self.subtree(level - 1, 2 * number + 1)
        indices, sums = _strongest(*_sum(*left[1:], *right[1:]), self.k)
        return _Node(indices, (left[0], right[0])), indices, sums


def _sum(
    left: NDArray[np.int32],
    left_sums: NDArray[np.float64],
    right: NDArray[np.int32],
    right_sums: NDArray[np.float64],
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Over the union of their coordinates."""
    both = np.concatenate((left, right))
    order = np.argsort(both, kind="stable")  # of two rising runs: a merge
    both = both.take(order)
    sums = np.concatenate((left_sums, right_sums)).take(order)
    first = np.ones(both.size, np.bool_)
    np.not_equal(both[1:], both[:-1], out=first[1:])
    second = np.flatnonzero(~first)
    sums[second - 1] += sums[second]
    return both[first], sums[first]


def _strongest(
    indices: NDArray[np.int32], sums: NDArray[np.float64], k: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    if indices.size <= k:
        return indices, sums
    positions = largest(np.abs(sums), k)
    return indices.take(positions), sums.take(positions)


def _mark_survivors(
    node: _Node,
    surviving: NDArray[np.int32],
    uploads: Uploads,
    used: list[NDArray[np.bool_]],
    marks: NDArray[np.bool_],
) -> None:
    """Say of the entries of a subtree, ``used`` by client, whether their coordinates are among those ``surviving``.

    ``marks`` is false for all coordinates, and is so again.
    """
    marks[surviving] = True
    below = []
    for part in node.parts:
        if isinstance(part, int):
            marks.take(uploads.indices[part], out=used[part])
        else:
            below.append((part, part.indices[marks.take(part.indices)]))
    marks[surviving] = False
    for part, alive in below:
        _mark_survivors(part, alive, uploads, used, marks)


def _sum_of_used(uploads: Uploads, indices: NDArray[np.int32], used: NDArray[np.bool_]) -> Selection:
    """Summed anew in client order, as every selection is."""
    survivors = (
        (own[flags], values[flags], weight)
        for (own, values, weight), flags in zip(uploads.parts(), uploads.split(used), strict=True)
    )
    return Selection(indices, weighted_sum_at(indices, survivors, uploads.dimension)[0], used)


METHOD = SparseMethod(
    summary="gTop-k: the k largest of pairwise merges",
    source="Shi et al., ICDCS 2019",
    select=select,
    confirm_used=True,
)
