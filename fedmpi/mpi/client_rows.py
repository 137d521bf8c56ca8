"""What clients carry from round to round: one flat vector each, in the memory that a group of ranks shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.mpi.shared_memory import GroupMemory


class ClientRows:
    """One float32 vector (length,) for each of ``clients``, those at home in this rank's group; zeros at first.

    Pages of clients that never take part take no memory. A collective call of the group.
    """

    on_disk = False

    def __init__(self, memory: GroupMemory, clients: np.ndarray, total_clients: int, length: int) -> None:
        self._rows = memory.allocate_rows(len(clients), length)
        self._row_of_client = np.full(total_clients, -1, dtype=np.int64)
        self._row_of_client[clients] = np.arange(len(clients))

    def read(self, client: int) -> NDArray[np.float32]:
        """The vector of a client of this group, in place."""
        row = self._row_of_client[client]
        if row < 0:
            raise LookupError(f"client {client} is at home in another group of ranks")
        vector: NDArray[np.float32] = self._rows[row]
        return vector

    def write(self, client: int, vector: NDArray[np.float32]) -> None:
        """Keep a vector; one that ``read`` gave was changed in place already."""
        row = self.read(client)
        if not np.may_share_memory(row, vector):
            row[:] = vector

    def clear(self, clients: Sequence[int]) -> None:
        """Zeros for ``clients``."""
        for client in clients:
            self.read(client)[:] = 0.0
