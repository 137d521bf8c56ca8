"""What the clients sent, and what the server selected of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.sparse import weighted_sum_at
from fedmpi.numerics.topk import top_k


@dataclass(frozen=True, eq=False)
class Uploads:
    """The entries of m clients, concatenated in client order.

    Client i sent the entries ``offsets[i]`` to ``offsets[i + 1]`` (int64, m + 1): ``indices`` (int32,
    ascending within a client, below ``dimension``) and ``values`` (float32). ``weights`` (float64, m) are the
    clients' shares of the samples, C_i / C. That all values are finite is the duty of the caller, who decides
    what becomes of a client whose update is not; construction only makes sure of it. Raises ValueError naming
    the first client, by its position among the m, whose entries break a rule.
    """

    offsets: NDArray[np.int64]
    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    weights: NDArray[np.float64]
    dimension: int

    def __post_init__(self) -> None:
        entries, clients = self.indices.size, self.weights.size
        if self.indices.dtype != np.int32 or self.values.dtype != np.float32:
            raise ValueError(
                f"indices must be int32 and values float32, not {self.indices.dtype}, {self.values.dtype}"
            )
        if self.offsets.size != clients + 1 or self.values.size != entries:
            raise ValueError(
                f"{self.offsets.size} offsets do not fit {clients} weights, "
                f"or {self.values.size} values {entries} indices"
            )
        if self.offsets[0] != 0 or self.offsets[-1] != entries or (np.diff(self.offsets) < 0).any():
            raise ValueError(f"offsets must rise from 0 to {entries}, found {self.offsets.tolist()}")
        if not (np.isfinite(self.weights) & (self.weights >= 0)).all():
            raise ValueError(f"weights must be finite and not negative, found {self.weights.tolist()}")
        if entries:
            self._check_entries()

    def _check_entries(self) -> None:
        falling = self.indices[1:] <= self.indices[:-1]
        starts = self.offsets[1:-1]
        falling[starts[(starts > 0) & (starts < self.indices.size)] - 1] = False
        if falling.any():
            position = int(falling.argmax()) + 1
            raise ValueError(
                f"client {self._owner(position)}: indices do not rise at {self.indices[position]}"
            )
        if self.indices.min() < 0 or self.indices.max() >= self.dimension:
            position = int(((self.indices < 0) | (self.indices >= self.dimension)).argmax())
            raise ValueError(
                f"client {self._owner(position)}: index {self.indices[position]}, "
                f"allowed are 0 to {self.dimension - 1}"
            )
        finite = np.isfinite(self.values)
        if not finite.all():
            position = int((~finite).argmax())
            raise ValueError(
                f"client {self._owner(position)}: value {self.values[position]} "
                f"at index {self.indices[position]}"
            )

    def _owner(self, position: int) -> int:
        return int(np.searchsorted(self.offsets, position, side="right")) - 1

    def parts(self) -> Iterator[tuple[NDArray[np.int32], NDArray[np.float32], float]]:
        """Each client's indices and values (views), and its weight."""
        for (start, stop), weight in zip(pairwise(self.offsets.tolist()), self.weights.tolist(), strict=True):
            yield self.indices[start:stop], self.values[start:stop], weight

    def counts(self, flags: NDArray[np.bool_]) -> NDArray[np.int64]:
        """How many of each client's entries are flagged, (m,)."""
        bounds = pairwise(self.offsets.tolist())
        return np.array([np.count_nonzero(flags[start:stop]) for start, stop in bounds], dtype=np.int64)

    @property
    def clients(self) -> int:
        """How many clients there are, m."""
        return self.weights.size

    def truncated(self, k: int) -> Uploads:
        """The uploads that the same clients would have sent with a smaller ``k``, as the probe needs them.

        A client that sent no more than ``k`` entries keeps all of them.
        """
        kept = []
        for start, stop in pairwise(self.offsets.tolist()):
            kept.append(top_k(self.values[start:stop], min(k, stop - start)) + np.int64(start))
        entries = np.concatenate(kept) if kept else np.empty(0, np.int64)
        offsets = np.concatenate(([0], np.cumsum([part.size for part in kept], dtype=np.int64)))
        return Uploads(offsets, self.indices[entries], self.values[entries], self.weights, self.dimension)


@dataclass(frozen=True, eq=False)
class Selection:
    """What the server broadcasts: b at ``indices`` (the set J, int32, ascending), ``values`` (float64).

    ``used`` (bool, one for every entry of the uploads): which entries went into b; there, and only there, a
    client resets its accumulated gradient.
    """

    indices: NDArray[np.int32]
    values: NDArray[np.float64]
    used: NDArray[np.bool_]

    def contributions(self, uploads: Uploads) -> NDArray[np.int64]:
        """How many entries of each client went into b (m,)."""
        return uploads.counts(self.used)


def selection_at(uploads: Uploads, indices: NDArray[np.int32]) -> Selection:
    """b_j = sum_i (C_i / C) a_ij over the clients that sent j, for j in J = ``indices`` (ascending)."""
    values, used = weighted_sum_at(
        indices, uploads.offsets, uploads.indices, uploads.values, uploads.weights, uploads.dimension
    )
    return Selection(indices, values, used)
