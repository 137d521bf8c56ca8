"""What the clients sent, and what the server selected of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import union, weighted_sum_at
from fedmpi.numerics.topk import top_k

_Flag = TypeVar("_Flag", np.bool_, np.uint8)


@dataclass(frozen=True, eq=False)
class Uploads:
    """The entries of m clients, in client order.

    Client i sent ``indices[i]`` (int32, ascending, below ``dimension``) and ``values[i]`` (float32), which may be
    views of its message. ``weights`` (float64, m) are the clients' shares of the samples, C_i / C. That all values
    are finite is the duty of the caller, who decides what becomes of a client whose update is not; construction
    only makes sure of it. Raises ValueError naming the first client, by its position among the m, whose entries
    break a rule.
    """

    indices: tuple[NDArray[np.int32], ...]
    values: tuple[NDArray[np.float32], ...]
    weights: NDArray[np.float64]
    dimension: int

    def __post_init__(self) -> None:
        if not len(self.indices) == len(self.values) == self.weights.size:
            raise ValueError(
                f"indices of {len(self.indices)} clients, values of {len(self.values)} "
                f"and {self.weights.size} weights do not fit"
            )
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all():
            raise ValueError(f"weights must be finite and not negative, found {self.weights.tolist()}")
        known = None
        for client, (indices, values) in enumerate(zip(self.indices, self.values, strict=True)):
            if indices.size != values.size:
                raise ValueError(f"client {client}: {values.size} values do not fit {indices.size} indices")
            if indices is not known:  # where all send the same coordinates, they are looked at once
                self._check_indices(client, indices)
                known = indices
            self._check_values(client, indices, values)

    def _check_indices(self, client: int, indices: NDArray[np.int32]) -> None:
        if indices.dtype != np.int32:
            raise ValueError(f"client {client}: indices must be int32, not {indices.dtype}")
        if not indices.size:
            return
        rises = indices[1:] > indices[:-1]
        if not rises.all():
            raise ValueError(f"client {client}: indices do not rise at {indices[int(rises.argmin()) + 1]}")
        for extreme in (indices[0], indices[-1]):
            if not 0 <= extreme < self.dimension:
                raise ValueError(f"client {client}: index {extreme}, allowed are 0 to {self.dimension - 1}")

    def _check_values(self, client: int, indices: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        if values.dtype != np.float32:
            raise ValueError(f"client {client}: values must be float32, not {values.dtype}")
        finite = np.isfinite(values)
        if not finite.all():
            position = int(finite.argmin())
            raise ValueError(f"client {client}: value {values[position]} at index {indices[position]}")

    def parts(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32], float]]:
        """Each client's indices and values, and its weight."""
        return zip(self.indices, self.values, self.weights.tolist(), strict=True)

    def split(self, flags: NDArray[_Flag]) -> list[NDArray[_Flag]]:
        """Views of ``flags``, one for every entry in client order, by client."""
        bounds = np.cumsum([0, *(indices.size for indices in self.indices)]).tolist()
        return [flags[start:stop] for start, stop in pairwise(bounds)]

    def counts(self, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of each client's entries are flagged, (m,)."""
        return np.array([np.count_nonzero(part) for part in self.split(flags)], dtype=np.int64)

    @property
    def clients(self) -> int:
        """How many clients there are, m."""
        return self.weights.size

    def truncated(self, k: int) -> Uploads:
        """The uploads that the same clients would have sent with a smaller ``k``, as the probe needs them.

        A client that sent no more than ``k`` entries keeps all of them.
        """
        indices, values = [], []
        for own_indices, own_values in zip(self.indices, self.values, strict=True):
            whole = own_indices.size <= k
            kept = slice(None) if whole else top_k(own_values, k)
            indices.append(own_indices[kept])
            values.append(own_values[kept])
        return Uploads(tuple(indices), tuple(values), self.weights, self.dimension)


@dataclass(frozen=True, eq=False)
class Selection:
    """What the server broadcasts: b at ``indices`` (the set J, int32, ascending), ``values`` (float64).

    ``used`` (bool, one for every entry of the uploads in client order): which entries went into b; there, and only
    there, a client resets its accumulated gradient.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    used: NDArray[np.bool_]

    def contributions(self, uploads: Uploads) -> NDArray[np.int64]:
        """How many entries of each client went into b (m,)."""
        return uploads.counts(self.used)


def selection_at(uploads: Uploads, indices: NDArray[np.int32]) -> Selection:
    """b_j = sum_i (C_i / C) a_ij over the clients that sent j, for j in J = ``indices`` (ascending)."""
    values, used = weighted_sum_at(indices, uploads.parts(), uploads.dimension)
    return Selection(indices, values, used)


def union_of(uploads: Uploads) -> Selection:
    """All coordinates that were sent."""
    return selection_at(uploads, union(uploads.indices, uploads.dimension))
