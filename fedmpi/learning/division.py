"""Which samples each client has: one array for all of them, as an array for each would take a hundred bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self, overload

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Division(Sequence[NDArray[np.int64]]):
    """The samples of N clients, a sequence of int64 arrays: positions in a data set, rising.

    Client c has ``positions[starts[c] : starts[c + 1]]``; ``starts`` int64 (N + 1,). Where ``common``, every client has
    all ``positions``, as one and the same array.
    """

    positions: NDArray[np.int64]
    starts: NDArray[np.int64]
    common: bool = False

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.int64]]) -> Self:
        """From an array for each client; common where all are the same object."""
        if len(parts) and all(part is parts[0] for part in parts):
            return cls.shared(parts[0], len(parts))
        whole = np.concatenate(parts) if len(parts) else np.empty(0, np.int64)
        return cls.cut(whole, np.fromiter(map(len, parts), np.int64, len(parts)))

    @classmethod
    def cut(cls, positions: NDArray[np.integer], sizes: NDArray[np.integer]) -> Self:
        """Neighbouring pieces of ``positions`` with the ``sizes`` (N,)."""
        starts = np.zeros(len(sizes) + 1, np.int64)
        np.cumsum(sizes, out=starts[1:])
        return cls(np.asarray(positions, np.int64), starts)

    @classmethod
    def shared(cls, positions: NDArray[np.int64], clients: int) -> Self:
        """The same samples for all."""
        return cls(positions, np.arange(clients + 1) * len(positions), common=True)

    @property
    def sizes(self) -> NDArray[np.int64]:
        """How many samples each client has, int64 (N,)."""
        return np.diff(self.starts)

    def of_clients(self, clients: NDArray[np.int64]) -> NDArray[np.int64]:
        """The samples of ``clients``, one client after the other."""
        if self.common:
            return np.tile(self.positions, len(clients))
        sizes = self.starts[clients + 1] - self.starts[clients]
        ends = np.cumsum(sizes)
        at = np.arange(int(sizes.sum())) + np.repeat(self.starts[clients] - (ends - sizes), sizes)
        return self.positions[at]

    def in_order(self) -> Self:
        """The same with each client's samples in rising order."""
        inside = np.ones(max(0, len(self.positions) - 1), np.bool_)
        inner = self.starts[1:-1]
        inside[inner[(inner > 0) & (inner < len(self.positions))] - 1] = False
        if self.common:
            inside[:] = True
        if (np.diff(self.positions)[inside] > 0).all():
            return self
        if self.common:
            return type(self).shared(np.sort(self.positions), len(self))
        owner = np.repeat(np.arange(len(self)), self.sizes)
        return type(self)(self.positions[np.lexsort((self.positions, owner))], self.starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    @overload
    def __getitem__(self, client: int) -> NDArray[np.int64]: ...
    @overload
    def __getitem__(self, client: slice) -> list[NDArray[np.int64]]: ...
    def __getitem__(self, client: int | slice) -> NDArray[np.int64] | list[NDArray[np.int64]]:
        if isinstance(client, slice):
            return [self[at] for at in range(*client.indices(len(self)))]
        at = range(len(self))[client]
        return self.positions if self.common else self.positions[self.starts[at] : self.starts[at + 1]]
