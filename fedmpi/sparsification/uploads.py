"""What the clients sent, and what the server selected of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import union, weighted_row_sum_at, weighted_sum_at
from fedmpi.numerics.topk import top_k, top_k_rows

_MANY = 32
_SHORT = 1 << 13
"""So many clients with at most so many entries each are treated together rather than one after the other."""
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
        if self.rows is not None:
            self._check_rows(*self.rows)
            return
        known = None
        for client, (indices, values) in enumerate(zip(self.indices, self.values, strict=True)):
            if indices.size != values.size:
                raise ValueError(f"client {client}: {values.size} values do not fit {indices.size} indices")
            if indices is not known:  # where all send the same coordinates, they are looked at once
                self._check_indices(client, indices)
                known = indices
            self._check_values(client, indices, values)

    @cached_property
    def rows(self) -> tuple[NDArray[np.int32], NDArray[np.float32]] | None:
        """The indices and values of all clients as (m, n), where many sent the same small number n; else None."""
        if len(self.indices) < _MANY or not 0 < self.indices[0].size <= _SHORT:
            return None
        types = {each.dtype for each in self.indices} == {np.dtype(np.int32)} and {
            each.dtype for each in self.values
        } == {np.dtype(np.float32)}
        sizes = {each.shape for each in (*self.indices, *self.values)}
        if not types or len(sizes) > 1 or all(each is self.indices[0] for each in self.indices):
            return None
        return np.stack(self.indices), np.stack(self.values)

    def _check_rows(self, indices: NDArray[np.int32], values: NDArray[np.float32]) -> None:
        """What is checked of each client, of all at once; the first that breaks a rule is looked at by itself."""
        fit = (indices[:, 1:] > indices[:, :-1]).all(axis=1)
        fit &= (indices[:, 0] >= 0) & (indices[:, -1] < self.dimension) & np.isfinite(values).all(axis=1)
        if not fit.all():
            client = int(fit.argmin())
            self._check_indices(client, self.indices[client])
            self._check_values(client, self.indices[client], self.values[client])

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
        if self.rows is not None:
            return np.count_nonzero(flags.reshape(self.clients, -1), axis=1).astype(np.int64)
        return np.array([np.count_nonzero(part) for part in self.split(flags)], dtype=np.int64)

    @property
    def clients(self) -> int:
        """How many clients there are, m."""
        return self.weights.size

    def truncated(self, k: int) -> Uploads:
        """The uploads that the same clients would have sent with a smaller ``k``, as the probe needs them.

        A client that sent no more than ``k`` entries keeps all of them.
        """
        if self.rows is not None and k < self.rows[0].shape[1]:
            kept_rows = top_k_rows(self.rows[1], k)
            shorter, of_these = (np.take_along_axis(each, kept_rows, axis=1) for each in self.rows)
            return Uploads(tuple(shorter), tuple(of_these), self.weights, self.dimension)
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
    if uploads.rows is None:
        values, used = weighted_sum_at(indices, uploads.parts(), uploads.dimension)
    else:
        values, used = weighted_row_sum_at(indices, *uploads.rows, uploads.weights, uploads.dimension)
    return Selection(indices, values, used)


def union_of(uploads: Uploads) -> Selection:
    """All coordinates that were sent."""
    return selection_at(uploads, union(uploads.indices, uploads.dimension))
