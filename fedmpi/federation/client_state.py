"""What clients carry from round to round, in memory or on disk (``clients.state``): one flat vector each.

On disk a client's vector is in memory only while it is used. Where it lies is noted in tables that a group of ranks
shares, 24 bytes for each client; everything else that is known of a client stays in memory either way.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fedmpi.checkpoint.row_files import NOWHERE, RowFiles
from fedmpi.checkpoint.state_folder import as_arrays
from fedmpi.config import Config
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.shared_memory import GroupMemory

ROW = np.dtype([("client", np.int64), ("place", np.int64), ("digest", np.uint64)])
"""Where what a client carries lies now, with its checksum."""


class ClientVectors(Protocol):
    """One float32 vector (length,) for each client that is at home in this rank's group; zeros at first."""

    on_disk: bool

    def read(self, client: int) -> NDArray[np.float32]:
        """The vector of a client; what is changed in it is there for others only after ``write``."""

    def write(self, client: int, vector: NDArray[np.float32]) -> None:
        """Keep a vector."""

    def clear(self, clients: Sequence[int]) -> None:
        """Zeros for ``clients``."""


class DiskRows:
    """Vectors on disk, see ``checkpoint.row_files``. ``start`` or ``resume`` come before anything else.

    Tables are of all clients and shared by the group: ``_places``, where the vector of each client of this group lies
    now (negative: zeros, and a place that it may use again); ``_committed`` and ``_before``, where those of all clients
    lay at the last checkpoint and at the one before. A place that differs from the committed one is changed in place.
    """

    on_disk = True

    def __init__(
        self, name: str, ranks: Ranks, memory: GroupMemory, placement: Placement, clients: int, length: int
    ) -> None:
        """``clients``: N, or 0 where no client has anything to carry. A collective call of the group."""
        self.name = name
        self.length = length
        self._ranks = ranks
        self._group = Ranks.of(memory.comm)
        self._home = placement.blocks[ranks.rank] if clients else range(0)
        hosts = [rank for rank, block in enumerate(placement.blocks) if len(block)]
        self._hosts = len(hosts)
        self._own = hosts.index(ranks.rank) if ranks.rank in hosts else -1
        tables = [memory.allocate((clients,), np.dtype(np.int64)) for _ in range(3)]
        self._places, self._committed, self._before = tables
        self._digests = np.zeros(clients if ranks.is_server else 0, np.uint64)
        self._files: RowFiles | None = None

    def read(self, client: int) -> NDArray[np.float32]:
        place = int(self._places[client])
        return np.zeros(self.length, np.float32) if place <= NOWHERE else self._opened.read(place)

    def write(self, client: int, vector: NDArray[np.float32]) -> None:
        place = abs(int(self._places[client]))
        if place in (NOWHERE, int(self._committed[client])):
            place = self._opened.new_place()
        self._opened.write(place, vector)
        self._places[client] = place

    def clear(self, clients: Sequence[int]) -> None:
        at = np.asarray(clients, dtype=np.int64)
        places = np.abs(self._places[at])
        self._places[at] = np.where(places == self._committed[at], NOWHERE, -places)

    @property
    def _opened(self) -> RowFiles:
        if self._files is None:
            raise RuntimeError("the state of clients was not opened")
        return self._files

    def start(self, folder: Path) -> None:
        """Nobody carries anything; files will be in ``folder``, which is there."""
        self._files = RowFiles(folder, self.name, self.length, self._own)

    def resume(self, folder: Path, places: NDArray[np.int64], before: NDArray[np.int64]) -> None:
        """Go on from the table of a checkpoint, int64 (N,); ``before`` is that of an older one that is kept too.

        The first rank of a group notes them, and the others wait for that in the barrier that begins a round.
        """
        self.start(folder)
        if self._group.is_server:
            self._places[:], self._committed[:], self._before[:] = places, places, before
        if self._own >= 0:
            self._opened.reclaim(self._numbers([places, before]), [places, before])

    def _numbers(self, tables: Sequence[NDArray[np.int64]]) -> range:
        """The files in which this rank may reuse places: every so many-th, as runs have had other numbers of ranks."""
        last = max((int(table.max(initial=NOWHERE)) - 1 for table in tables), default=-1)
        return range(self._own, max(self._hosts, (last >> 40) + 1), self._hosts)

    def changes(self) -> NDArray[np.void]:
        """ROWs of the clients at home on this rank whose vectors have changed since the last checkpoint.

        All ranks of the group have stopped writing. CheckpointError for a disk that is full.
        """
        home = np.arange(self._home.start, self._home.stop)
        places = np.maximum(self._places[home], NOWHERE)
        changed = home[places != self._committed[home]]
        rows = np.zeros(len(changed), ROW)
        rows["client"], rows["place"] = changed, np.maximum(self._places[changed], NOWHERE)
        for row in rows:
            if row["place"] != NOWHERE:
                row["digest"] = self._opened.digest(int(row["place"]))
        return rows

    def sync(self) -> None:
        """Bring what this rank has written to the disk."""
        if self._files is not None:
            self._files.sync()

    def table(self, changes: NDArray[np.void]) -> dict[str, NDArray[Any]]:
        """On the server: what a checkpoint keeps, arrays by name, given the ``changes`` of all ranks."""
        places, digests = self._committed.copy(), self._digests.copy()
        places[changes["client"]], digests[changes["client"]] = changes["place"], changes["digest"]
        return as_arrays(self.name, self.length, places, digests)

    def published(self, changes: NDArray[np.void]) -> None:
        """The checkpoint with the ``changes`` of all ranks is complete (a collective call of the group).

        Places that were those of the second last one before it are free.
        """
        if self._group.is_server:
            self._before[:] = self._committed
            self._committed[changes["client"]] = changes["place"]
            np.maximum(self._places, NOWHERE, out=self._places)
        if self._ranks.is_server:
            self._digests[changes["client"]] = changes["digest"]
        self._group.barrier()
        if self._own >= 0:
            kept = [self._committed, self._before]
            self._opened.reclaim(self._numbers(kept), kept)

    def take_digests(self, digests: NDArray[np.uint64]) -> None:
        """On the server: the checksums of the checkpoint that is resumed."""
        if self._ranks.is_server:
            self._digests[:] = digests


class ClientState:
    """Makes the vectors that parts of a run keep for clients, and knows those that are on disk. Alike on all ranks."""

    def __init__(self, config: Config, ranks: Ranks, memory: GroupMemory, placement: Placement) -> None:
        self._on_disk = config.clients.state == "disk"
        self._ranks = ranks
        self._memory = memory
        self._placement = placement
        self.disk: list[DiskRows] = []

    def vectors(self, name: str, length: int, used: bool = True) -> ClientVectors:
        """Vectors called ``name`` of ``length`` values for the clients of this rank's group (a collective call).

        ``used`` false: no client will have any.
        """
        placement = self._placement
        if self._on_disk:
            clients = placement.clients if used else 0
            self.disk.append(DiskRows(name, self._ranks, self._memory, placement, clients, length))
            return self.disk[-1]
        clients_here = placement.clients_of_group(placement.group_of(self._ranks.rank))
        return ClientRows(self._memory, clients_here if used else clients_here[:0], placement.clients, length)

    def sync(self) -> None:
        """Bring what this rank has written to the disk. CheckpointError where that fails."""
        for rows in self.disk:
            rows.sync()
