"""The rows of a few rounds out of a trace, without reading the others."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
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
    rounds = file["rounds"]
    if committed > len(rounds):
        raise TraceError(f"{path}: {committed} rounds are committed, but {len(rounds)} are there")
    last = int(rounds[committed - 1]["round"]) if committed else -1
    for name in tables(attributes["schema_version"]):
        dataset = file[name]
        if name in _WHOLE:
            rows = dataset[:]
            if name == "layers":
                rows = rows[rows["round"] <= last] if committed else rows[:0]
        else:
            first, behind = wanted[0], min(wanted[1], last) + 1
            length = committed if name == "rounds" else len(dataset)
            start = _first_row(dataset, first, length)
            rows = dataset[start : max(_first_row(dataset, behind, length), start)]
            if ((rows["round"] < first) | (rows["round"] >= behind)).any():
                raise TraceError(f"{path}: damaged: rounds of the table {name} are not one after the other")
        found[name] = rows
    return found


def _first_row(dataset: h5py.Dataset, number: int, length: int) -> int:
    """The first of ``length`` rows whose round is at least ``number``; rounds do not fall from row to row.

    Chunks on the way are read as they are stored, rows first: HDF5 would take twenty times as long for each.
    """
    chunk, dtype, stored = dataset.chunks[0], dataset.dtype, dataset.id

    def round_of(row: int) -> int:
        _, content = stored.read_direct_chunk((row - row % chunk,))
        return int(np.frombuffer(content, dtype, 1, row % chunk * dtype.itemsize)["round"][0])

    return bisect_left(range(length), number, key=round_of)
