"""A file that only grows, written with plain positioned writes, whose end runs ahead of what is used.

An HDF5 reader compares the end of file announced in the superblock with the file's size when it opens the
file, and later refuses addresses behind the end that it saw then. So the announced end always lies at least
``HEADROOM_BYTES`` behind the last used byte (a reader has that much of growth for what it does), and the
file's size one step ahead of the announced end (no reader can see the new end with the old size). The room
ahead is a hole: it takes no space on disk, and goes when the file is finished.
"""

from __future__ import annotations

import errno
import os
import struct

HEADROOM_BYTES = 4 * 2**20


class GrowingFile:
    """``path`` made anew from ``image``; ``end_word`` is the offset of the announced end of file."""

    def __init__(self, path: os.PathLike[str] | str, image: bytes, end_word: int) -> None:
        self._end_word = end_word
        self._end = _aligned(len(image))
        self._announced = self._end + 2 * HEADROOM_BYTES
        self._size = self._announced + HEADROOM_BYTES
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
        try:
            os.ftruncate(self._descriptor, self._size)
            self.write(0, image)
            self._write_end(self._announced)
        except BaseException:
            os.close(self._descriptor)
            raise

    def allocate(self, size: int) -> int:
        """The 8-byte aligned address of ``size`` new bytes, all zero."""
        address = self._end
        self._end = _aligned(address + size)
        while self._end + HEADROOM_BYTES > self._announced:
            self._announced = self._size
            self._write_end(self._announced)
            self._size += max(HEADROOM_BYTES, self._end // 4)
            os.ftruncate(self._descriptor, self._size)
        return address

    def write(self, address: int, data: bytes | memoryview) -> None:
        """Write all of ``data``; OSError when the disk is full."""
        written = os.pwrite(self._descriptor, data, address)
        while written < len(data):
            written += os.pwrite(self._descriptor, memoryview(data)[written:], address + written)

    def read(self, address: int, size: int) -> bytes:
        """``size`` bytes that were written at ``address``."""
        data = os.pread(self._descriptor, size, address)
        if len(data) != size:
            raise OSError(errno.EIO, "the file was cut short while it was written")
        return data

    def is_at(self, path: os.PathLike[str] | str) -> bool:
        """Whether ``path`` still names this file, and not another one or none."""
        try:
            return os.path.samestat(os.stat(path), os.fstat(self._descriptor))
        except (FileNotFoundError, NotADirectoryError):
            return False

    def to_disk(self) -> None:
        """Wait until everything written is on the disk."""
        sync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync
        sync(self._descriptor)

    def finish(self) -> None:
        """Cut the room ahead and close: first the announced end, then the size."""
        try:
            self._write_end(self._end)
            os.ftruncate(self._descriptor, self._end)
            os.fsync(self._descriptor)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Close as it is."""
        os.close(self._descriptor)

    def _write_end(self, end: int) -> None:
        self.write(self._end_word, struct.pack("<Q", end))


def _aligned(size: int) -> int:
    return (size + 7) // 8 * 8
