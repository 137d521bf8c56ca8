"""What clients carry, as rows in files that checkpoints refer to instead of copying them.

A row that a kept checkpoint refers to never changes: what a client carries next is written elsewhere, and the place
that it had is used again once no kept checkpoint refers to it. So a checkpoint is complete when the files are on the
disk and it has noted where every client's row lies; however a run ends, the rows of its last checkpoint are still
there. At most three rows of a client exist, two for the checkpoints that are kept and one for what came after.

Rows are read and written, not mapped: a disk that is full is an error then and not a SIGBUS, and memory does not grow
with what was touched. Pages stay in the system's cache, which is memory only as long as nobody else wants it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.checkpoint.files import CheckpointError, errors_of

NOWHERE = 0
"""The place of a row that does not exist: its client carries zeros."""

_SECTOR_BYTES = 512  # no write of one row touches a sector of another
_SLOT_BITS = 40


def place_of(number: int, slot: int) -> int:
    """The place of row ``slot`` of file ``number``: a positive int64."""
    return (number << _SLOT_BITS | slot) + 1


def files_of(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of the file of each place (n,)."""
    return (places - 1) >> _SLOT_BITS


class RowFiles:
    """Float32 rows of ``length`` values in the files ``NAME-00000.rows``, ... of ``folder``.

    Anybody may read any row, and write one to whose place it has a right. This process takes new places from the file
    number ``own``, and from what is free in the files that it reclaims. CheckpointError for a file that cannot be read
    or written, with its name and the room left on its disk.
    """

    def __init__(self, folder: Path, name: str, length: int, own: int) -> None:
        self.folder = folder
        self.length = length
        self._name = name
        self._own = own
        self._stride = -(-4 * length // _SECTOR_BYTES) * _SECTOR_BYTES
        self._descriptors: dict[int, int] = {}
        self._written: set[int] = set()
        self._free: NDArray[np.int64] = np.empty(0, np.int64)
        self._free_left = 0
        self._end = -1

    def path(self, number: int) -> Path:
        """The file of a number."""
        return self.folder / f"{self._name}-{number:05d}.rows"

    def new_place(self) -> int:
        """A place that nothing refers to."""
        if self._free_left:
            self._free_left -= 1
            return int(self._free[self._free_left])
        if self._end < 0:
            self._end = self._rows(self._own)
        self._end += 1
        return place_of(self._own, self._end - 1)

    def read(self, place: int) -> NDArray[np.float32]:
        """The row at a place, a new array."""
        row = np.empty(self.length, np.float32)
        number, start = self._at(place)
        with errors_of(self.path(number)):
            found = os.preadv(self._descriptor(number), [row.data.cast("B")], start)
        if found != row.nbytes:
            raise CheckpointError(f"{self.path(number)}: ends within the row at byte {start:,}")
        return row

    def write(self, place: int, row: NDArray[np.float32]) -> None:
        """Put a row (length,) at a place."""
        number, start = self._at(place)
        left = np.ascontiguousarray(row).data.cast("B")
        with errors_of(self.path(number)):
            descriptor = self._descriptor(number)
            while left:
                written = os.pwrite(descriptor, left, start)  # a disk that becomes full takes a part first
                left, start = left[written:], start + written
        self._written.add(number)

    def digest(self, place: int) -> int:
        """A checksum of the row at a place (BLAKE2b), of 64 bits."""
        return int.from_bytes(hashlib.blake2b(self.read(place).data, digest_size=8).digest(), "little")

    def sync(self) -> None:
        """Bring what this process has written to the disk."""
        for number in sorted(self._written):
            with errors_of(self.path(number)):
                os.fdatasync(self._descriptor(number))
        self._written.clear()

    def reclaim(self, numbers: Iterable[int], kept: Sequence[NDArray[np.int64]]) -> None:
        """From now on take new places from all in the files ``numbers`` to which no place in ``kept`` refers."""
        free = []
        for number in numbers:
            used = np.zeros(self._rows(number), np.bool_)
            for places in kept:
                of_file = places[(places > NOWHERE) & (files_of(places) == number)]
                slots = of_file - place_of(number, 0)
                used[slots[slots < used.size]] = True
            free.append(np.flatnonzero(~used)[::-1] + place_of(number, 0))
        self._free = np.concatenate(free[::-1]) if free else np.empty(0, np.int64)
        self._free_left = len(self._free)
        self._end = -1

    def close(self) -> None:
        """Let go of the files."""
        for descriptor in self._descriptors.values():
            os.close(descriptor)
        self._descriptors.clear()

    def _rows(self, number: int) -> int:
        """How many rows a file has room for; none where there is no file."""
        try:
            size = self.path(number).stat().st_size
        except FileNotFoundError:
            return 0
        return -(-size // self._stride)

    def _at(self, place: int) -> tuple[int, int]:
        number, slot = divmod(place - 1, 1 << _SLOT_BITS)
        return number, slot * self._stride

    def _descriptor(self, number: int) -> int:
        if number not in self._descriptors:
            create = os.O_CREAT if number == self._own else 0
            self._descriptors[number] = os.open(self.path(number), os.O_RDWR | os.O_CLOEXEC | create, 0o666)
        return self._descriptors[number]


def verify_rows(
    folder: Path, name: str, length: int, places: NDArray[np.int64], digests: NDArray[np.uint64]
) -> None:
    """CheckpointError unless the row at each place has its checksum."""
    files = RowFiles(folder, name, length, own=-1)
    try:
        for client in np.argsort(places, kind="stable").tolist():
            place = int(places[client])
            if place != NOWHERE and files.digest(place) != int(digests[client]):
                number = int(files_of(places[client : client + 1])[0])
                raise CheckpointError(f"{files.path(number)}: the row of client {client} is damaged")
    finally:
        files.close()
