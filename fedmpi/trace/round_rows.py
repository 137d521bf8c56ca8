"""The rows of a few rounds out of a trace, without reading the others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fedmpi.trace.schema import TABLES, TraceError, tables

_WHOLE = ("devices", "events", "layers")
"""Tables that are small, or whose rows hold for later rounds too."""


def rows_of_rounds(
    file: h5py.File, path: Path, attributes: Mapping[str, Any], wanted: tuple[int, int]
) -> dict[str, np.ndarray]:
    """The rows of all tables as ``reader.read_rows`` gives them, but of ``rounds``, ``clients`` and ``client_tests``
    those of the rounds from the first to the last that are ``wanted``. ``attributes``: the file's.
    """
    committed = attributes["committed_rounds"]
    found = {name: np.empty(0, dtype) for name, dtype in TABLES.items()}
    numbers = OpenTable.of(file, "rounds", path)
    if committed > numbers.length:
        raise TraceError(f"{path}: {committed} rounds are committed, but {numbers.length} are there")
    numbers = replace(numbers, length=committed)
    begin, end = (numbers.round_of(row) for row in (0, committed - 1)) if committed else (0, -1)
    first, last = max(wanted[0], begin), min(wanted[1], end)
    rounds = numbers.between(first, last, first - begin, len(range(first, last + 1)))
    for name in tables(attributes["schema_version"]):
        if name == "rounds":
            found[name] = rounds
        elif name in _WHOLE:
            rows = file[name][:]
            if name == "layers":
                rows = rows[rows["round"] <= end] if committed else rows[:0]
            found[name] = rows
        else:
            table = OpenTable.of(file, name, path)
            # Right away where all rounds have as many rows: most runs.
            likely = table.length * (first - begin) // max(1, committed)
            found[name] = table.between(first, last, likely, int(rounds["participants"].sum()))
    return found


@dataclass(frozen=True)
class OpenTable:
    """The first ``length`` rows of a table of the trace at ``path``, whose rounds do not fall from row to row."""

    dataset: h5py.Dataset
    path: Path
    dtype: np.dtype
    chunk_rows: int
    length: int

    @classmethod
    def of(cls, file: h5py.File, name: str, path: Path) -> OpenTable:
        """All rows of the table ``name``."""
        dataset = file[name]
        return cls(dataset, path, dataset.dtype, dataset.chunks[0], len(dataset))

    def between(self, first: int, last: int, likely: int = -1, likely_rows: int = -1) -> np.ndarray:
        """The rows of the rounds from the ``first`` to the ``last``; they probably begin at row ``likely``, and are so
        many."""
        start = self.first_row(first, likely)
        stop = max(self.first_row(last + 1, start + likely_rows), start)
        rows: np.ndarray = self.dataset[start:stop]
        if ((rows["round"] < first) | (rows["round"] > last)).any():
            table = self.dataset.name.lstrip("/")
            raise TraceError(f"{self.path}: damaged: rounds of the table {table} are not one after the other")
        return rows

    def first_row(self, number: int, likely: int = -1) -> int:
        """The first row whose round is at least ``number``; probably ``likely``."""
        if 0 <= likely <= self.length:
            after = likely == 0 or self.round_of(likely - 1) < number
            if after and (likely == self.length or self.round_of(likely) >= number):
                return likely
        return bisect_left(range(self.length), number, key=self.round_of)

    def round_of(self, row: int) -> int:
        """The round of a row.

        Its chunk is read as it is stored, rows first: HDF5 would take twenty times as long.
        """
        _, content = self.dataset.id.read_direct_chunk((row - row % self.chunk_rows,))
        at = row % self.chunk_rows * self.dtype.itemsize
        return int(np.frombuffer(content, self.dtype, 1, at)["round"][0])
