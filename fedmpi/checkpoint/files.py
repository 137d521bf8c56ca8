"""The files of a checkpoint: arrays in uncompressed npz archives, with a checksum made while writing."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

SERVER_FILE = "server.npz"

_BLOCK_BYTES = 2**20
_DIGEST_BYTES = 32

_NO_ARRAYS = (
    zipfile.BadZipFile,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    NotImplementedError,
    MemoryError,
)

Arrays = Mapping[str, np.ndarray]


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message names the file and the reason."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint as its writer saw it, or why there is none. Client files: their id range."""

    name: str = ""
    size: int = 0
    checksum: str = ""
    first_client: int = -1
    last_client: int = -1
    problem: str = ""

    _RECORD = struct.Struct("<64sq32sqq264s")
    RECORD_BYTES = _RECORD.size

    @classmethod
    def failed(cls, error: BaseException) -> Self:
        """The entry of a rank whose writing failed; ``publish`` refuses it with the error's text."""
        return cls(problem=str(error) or type(error).__name__)

    def to_bytes(self) -> bytes:
        """A record of RECORD_BYTES, for collectives of fixed size (a long problem is cut)."""
        name, digest = self.name.encode(), bytes.fromhex(self.checksum)
        problem = self.problem.encode()[:264].decode("utf-8", "ignore").encode()
        return self._RECORD.pack(name, self.size, digest, self.first_client, self.last_client, problem)

    @classmethod
    def from_bytes(cls, record: bytes) -> Self:
        """The inverse of ``to_bytes``."""
        name, size, digest, first, last, problem = cls._RECORD.unpack(record)
        checksum = digest.hex() if any(digest) else ""
        text = problem.rstrip(b"\0").decode()
        return cls(name.rstrip(b"\0").decode(), size, checksum, first, last, text)


def entry_of_manifest(record: Any) -> FileEntry:
    """A file as a manifest describes it. ValueError for what no checkpoint has, such as a file elsewhere."""
    wanted = {"name": str, "size": int, "checksum": str, "first_client": int, "last_client": int}
    if not isinstance(record, dict) or {key: type(value) for key, value in record.items()} != wanted:
        raise ValueError(f"a file has other entries than {', '.join(wanted)}")
    entry = FileEntry(**record)
    first, last = entry.first_client, entry.last_client
    if entry.name != (SERVER_FILE if first == last == -1 else _clients_file(first, last)) or last < first:
        raise ValueError(f"{entry.name!r} is no file of clients {first} to {last}, or of the server")
    if entry.size < 0 or not re.fullmatch(rf"[0-9a-f]{{{2 * _DIGEST_BYTES}}}", entry.checksum):
        raise ValueError(f"{entry.name} has no size or no checksum")
    return entry


def write_server(partial: Path, arrays: Arrays) -> FileEntry:
    """Write the server's arrays; CheckpointError when the disk is full."""
    return _write_arrays(partial / SERVER_FILE, arrays)


def write_clients(partial: Path, clients: Mapping[int, Arrays]) -> FileEntry:
    """Write the arrays of the clients of one rank (client id -> name -> array), in one file.

    No file for no clients. CheckpointError when the disk is full.
    """
    if not clients:
        return FileEntry()
    first, last = min(clients), max(clients)
    arrays = {
        f"{client}/{name}": array for client in sorted(clients) for name, array in clients[client].items()
    }
    return _write_arrays(partial / _clients_file(first, last), arrays, first, last)


def checksum_of(text: str) -> str:
    """The checksum of a text."""
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()


def verify(path: Path, entry: FileEntry) -> None:
    """CheckpointError unless the file has the size and the checksum of ``entry``."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    with errors_of(path), open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size != entry.size:
            raise CheckpointError(f"{path}: is {size:,} bytes long instead of {entry.size:,}")
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    if digest.hexdigest() != entry.checksum:
        raise CheckpointError(f"{path}: the checksum is wrong")


@contextmanager
def open_arrays(path: Path) -> Iterator[Any]:
    """The npz archive at ``path``, open for reading; CheckpointError for what is none, or holds other than arrays."""
    try:
        with errors_of(path), open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            yield archive
    except _NO_ARRAYS as error:
        raise CheckpointError(f"{path}: cannot be read as arrays: {error}") from error


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the npz archive at ``path``."""
    with open_arrays(path) as archive:
        return {name: archive[name] for name in archive.files}


@contextmanager
def errors_of(path: Path) -> Iterator[None]:
    """OSError as CheckpointError with the room left on the disk."""
    try:
        yield
    except OSError as error:
        parent = next((folder for folder in path.parents if folder.exists()), path)
        free = shutil.disk_usage(parent).free
        raise CheckpointError(
            f"{path}: {error.strerror or error}; {free:,} bytes are free on its disk"
        ) from error


class _HashingWriter:
    """A stream that knows the checksum and the size of what went through it."""

    def __init__(self, file: Any) -> None:
        self._file = file
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        self.size = 0

    def write(self, data: Any) -> int:
        self._digest.update(data)
        self._file.write(data)
        self.size += len(memoryview(data).cast("B"))
        return len(data)

    def flush(self) -> None:
        self._file.flush()

    def checksum(self) -> str:
        return self._digest.hexdigest()


def _clients_file(first: int, last: int) -> str:
    return f"clients-{first:05d}-{last:05d}.npz"


def _write_arrays(path: Path, arrays: Arrays, first: int = -1, last: int = -1) -> FileEntry:
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise TypeError(f"{path}: array {name} holds Python objects")
    with errors_of(path), open(path, "xb") as file:
        stream = _HashingWriter(file)
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # type: ignore[call-overload]
            for name, array in arrays.items():
                with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    return FileEntry(path.name, stream.size, stream.checksum(), first, last)
