"""The rows of one table of a trace: in memory until they are written, in chunks of the file from then on."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from fedmpi.trace.checksums import RowDigests
from fedmpi.trace.growing_file import GrowingFile
from fedmpi.trace.hdf5_layout import Chunk, ChunkIndex
from fedmpi.trace.schema import ROW_COLUMN, ROWS_PER_CHUNK, TABLES, TraceError

Columns = Mapping[str, Any]

ELLIPSIS = "…"

_MOST_ROWS = 65_536
"""So many rows a table has room for when it holds none."""

JSON_COLUMN = "details"
"""The column of events that takes facts by name, none where it is left out."""


class Table:
    """Rows of the data set ``name``, appended to ``file``; the two words are those of ``dataset_words``."""

    def __init__(
        self, name: str, file: GrowingFile, digests: RowDigests, extent_word: int, root_word: int
    ) -> None:
        self.rows = 0
        """Rows written to the file, announced or not."""
        self._name = name
        self._file = file
        self._digests = digests
        self._extent_word = extent_word
        self._rows_per_chunk = ROWS_PER_CHUNK[name]
        self._dtype = dtype = TABLES[name]
        self._integers = {column for column in dtype.names or () if dtype[column].kind == "i"}
        self._strings = {column for column in dtype.names or () if dtype[column].kind == "S"}
        self._index = ChunkIndex(file, root_word, self._rows_per_chunk, self._dtype.itemsize)
        self._unchecked: list[Chunk] = []
        """The chunks without a checksum, the one that is being filled last."""
        self._announced = 0
        self._held = 0
        self._buffer = np.zeros(0, dtype)
        self._columns: dict[str, np.ndarray] = {}
        self._reserve(256)

    def append(self, columns: Columns) -> None:
        """Hold rows in memory. TraceError: a column that is missing, unknown, or of another kind."""
        if columns.keys() != self._columns.keys():
            columns = self._completed(columns)
        key = columns[ROW_COLUMN[self._name]]
        count = 1 if isinstance(key, str | int) else np.size(key)
        start, stop = self._held, self._held + count
        if stop > len(self._buffer):
            self._reserve(max(stop, 2 * len(self._buffer)))
        for name, value in columns.items():
            column = self._columns[name]
            if (
                name in self._integers
                and not isinstance(value, int)
                and np.asarray(value).dtype.kind not in "iub"
            ):
                raise TraceError(f"column {self._name}.{name} holds integers, not {value!r}")
            try:
                if name == JSON_COLUMN:
                    value = fitted_json(value, column.dtype.itemsize)
                elif name in self._strings:
                    value = fitted(value, column.dtype.itemsize)
                column[start:stop] = value
            except (TypeError, ValueError) as error:
                raise TraceError(f"column {self._name}.{name}: {error}") from error
        self._held = stop

    def append_rows(self, rows: np.ndarray) -> None:
        """Hold rows that already have the table's own type."""
        stop = self._held + len(rows)
        if stop > len(self._buffer):
            self._reserve(max(stop, 2 * len(self._buffer)))
        self._buffer[self._held : stop] = rows
        self._held = stop

    def write_rows(self) -> None:
        """Write the rows held, behind the extent that readers see."""
        size = self._dtype.itemsize
        held = memoryview(self._buffer[: self._held].view(np.uint8))  # type: ignore[arg-type]
        done = 0
        while done < self._held:
            inside = (self.rows + done) % self._rows_per_chunk
            if inside == 0:
                self._unchecked.append(self._index.append_chunk())
            count = min(self._held - done, self._rows_per_chunk - inside)
            rows = held[done * size : (done + count) * size]
            self._file.write(self._unchecked[-1].address + inside * size, rows)
            self._digests.update(self._name, rows)
            done += count
        self.rows += self._held
        self._held = 0
        if len(self._buffer) > _MOST_ROWS:
            self._reserve(_MOST_ROWS)

    def announce_rows(self) -> None:
        """Let the extent cover all rows written: one aligned word."""
        if self._announced != self.rows:
            self._file.write(self._extent_word, struct.pack("<Q", self.rows))
            self._announced = self.rows

    def write_checksums(self, last: bool) -> None:
        """Write the checksum of each full chunk that has none yet; ``last``: also of one that is not full."""
        for chunk in self._to_check(last):
            self._index.write_checksum(chunk)

    def announce_checksums(self, last: bool) -> None:
        """Let readers compare the checksums that ``write_checksums`` wrote; nothing is added to these chunks."""
        checked = self._to_check(last)
        for chunk in checked:
            self._index.announce_checksum(chunk)
        del self._unchecked[: len(checked)]

    def _to_check(self, last: bool) -> list[Chunk]:
        filling = self.rows % self._rows_per_chunk != 0 and not last
        return self._unchecked[:-1] if filling else self._unchecked[:]

    def _reserve(self, rows: int) -> None:
        held = self._buffer[: self._held]
        self._buffer = np.zeros(rows, self._dtype)
        self._buffer[: self._held] = held
        self._columns = {name: self._buffer[name] for name in self._dtype.names or ()}

    def _completed(self, columns: Columns) -> Columns:
        """The columns in full: measurements that were not made are NaN."""
        if unknown := columns.keys() - self._columns.keys():
            raise TraceError(
                f"table {self._name} has no column {', '.join(sorted(unknown))}; "
                f"it has {', '.join(self._columns)}"
            )
        missing = self._columns.keys() - columns.keys()
        added: dict[str, Any] = {name: np.nan for name in missing if self._columns[name].dtype.kind == "f"}
        if JSON_COLUMN in missing:
            added[JSON_COLUMN] = {}
        if needed := sorted(missing - added.keys()):
            raise TraceError(f"table {self._name}: column {', '.join(needed)} is missing")
        return {**columns, **added}


def storable(text: str) -> str:
    """Text as HDF5 can hold it: without NULs, and without halves of surrogate pairs (undecodable bytes of an
    environment variable)."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "backslashreplace").decode()


def fitted(text: str | Sequence[str], size: int) -> bytes | list[bytes]:
    """Text as at most ``size`` bytes of UTF-8, longer text cut between characters, with an ellipsis."""
    if not isinstance(text, str):
        known = {one: _fitted(one, size) for one in set(text)}  # a column of few different texts
        return [known[one] for one in text]
    return _fitted(text, size)


def _fitted(text: str, size: int) -> bytes:
    encoded = storable(text).encode()
    if len(encoded) <= size:
        return encoded
    room = size - len(ELLIPSIS.encode())
    return encoded[:room].decode("utf-8", "ignore").encode() + ELLIPSIS.encode()


def fitted_json(facts: Mapping[str, Any] | Sequence[Mapping[str, Any]], size: int) -> bytes | list[bytes]:
    """Facts by name as a JSON object of at most ``size`` bytes, for one row or for each of several.

    Numbers of numpy become plain ones, and those that are not finite null. The first facts that fit are kept, and
    where any are not, ``left_out`` says how many. TypeError for a value that JSON does not have.
    """
    if not isinstance(facts, Mapping):
        return [_fitted_json(one, size) for one in facts]
    return _fitted_json(facts, size)


def _fitted_json(facts: Mapping[str, Any], size: int) -> bytes:
    kept = {name: _plain(value) for name, value in facts.items()}
    text = json.dumps(kept)
    while len(text) > size:
        kept.pop("left_out", None)
        kept.popitem()
        kept["left_out"] = len(facts) - len(kept)
        text = json.dumps(kept)
    return text.encode()


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return None if isinstance(value, float) and not isfinite(value) else value
