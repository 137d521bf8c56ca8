"""Reading a trace, finished or not, into pandas tables."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedmpi.trace.frames import categories_of, frame_of
from fedmpi.trace.open_file import open_trace, read_attributes
from fedmpi.trace.round_rows import OpenTable, rows_of_rounds
from fedmpi.trace.schema import (
    TABLES,
    TraceError,
    tables,
)

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "trace.h5"

_ATTEMPTS = 5
_PAUSE_S = 0.02

_OF_PARTICIPANTS = ("clients", "client_tests")
"""The tables with a row a participant or client in every round: the large ones."""


@dataclass(frozen=True, eq=False, repr=False)
class Trace:
    """A trace up to its last committed round. Columns as in ``schema.COLUMNS``.

    A trace of schema version 1 has the columns of that version, and no rows in ``devices`` and ``client_tests``.
    """

    path: Path
    devices: pd.DataFrame
    """One row a client, in client order; ``device`` is a string."""
    rounds: pd.DataFrame
    """One row a round; ``phase`` is a category."""
    clients: pd.DataFrame
    """One row a round and participant; ``status`` is a category."""
    client_tests: pd.DataFrame
    """One row a client and round in which clients' own test data were evaluated; none where they never were."""
    layers: pd.DataFrame
    """One row a layer wherever the mask changed; ``layer`` is a category of layer names."""
    events: pd.DataFrame
    """What happened, also after the last committed round; ``kind``, ``detail`` in words, ``details`` in JSON."""
    config: dict[str, Any]
    """The resolved configuration."""
    attributes: dict[str, Any]
    """Root attributes as int, float, str or list."""
    whole: bool = True
    """Whether the rows of participants are there (``outline``)."""

    def __repr__(self) -> str:
        """Three lines: file and status; how much there is; how far it came."""
        federated = self.rounds[self.rounds.phase == "federated"]
        initial = len(self.rounds) - len(federated)
        size = f"{len(federated):,} rounds{f' after {initial:,} of initial pruning' if initial else ''}"
        measured = self.rounds.test_accuracy.dropna()
        accuracy = f"test accuracy {measured.iloc[-1]:.4f}" if len(measured) else "never evaluated"
        end_s = float(self.rounds.end_s.iloc[-1]) if len(self.rounds) else 0.0
        mbytes_up, mbytes_down = self.rounds.bytes_up.sum() / 1e6, self.rounds.bytes_down.sum() / 1e6
        known = self.attributes
        return (
            f"Trace {self.path}: {known['status']}\n"
            f"  {size}, {known['clients']:,} clients, {known['parameters']:,} parameters, seed {known['seed']}\n"
            f"  {accuracy}, {end_s:,.1f} emulated s, {mbytes_up:,.2f} MB up, {mbytes_down:,.2f} MB down"
        )


def read(path: os.PathLike[str] | str, rounds: tuple[int, int] | None = None) -> Trace:
    """Read ``path``, a run folder or its ``trace.h5``. A file that is being written is read as it is now.

    ``rounds``: the first and the last of those whose rows are wanted, None: all. Then of ``rounds``, ``clients`` and
    ``client_tests`` only these rows are read, and the checksum of the whole is not compared (those of the chunks that
    are read are), so that a few rounds of a large trace are there at once.

    Other handles of the file, in this process or another, do not matter. Raises TraceError for a file that is
    missing, damaged, of another schema version, or no trace at all.
    """
    return _tried(path, lambda file, file_path: _read(file, file_path, rounds), checked=rounds is None)


def outline(path: os.PathLike[str] | str) -> Trace:
    """As ``read``, without the rows of ``clients``, which ``rows_of_clients`` reads some at a time, and with those of
    ``client_tests`` of the last round that was tested alone. So a trace of any size takes little memory."""
    return _tried(path, _outline, checked=True)


@contextmanager
def rows_of_clients(trace: Trace) -> Iterator[Callable[[int, int], pd.DataFrame]]:
    """``rows(first, last)``: the rows of ``clients`` of these rounds of a trace, out of its file.

    Rounds that were committed since the trace was read are left out. Raises TraceError as ``read`` with rounds.
    """
    last_read = int(trace.rounds["round"].iloc[-1]) if len(trace.rounds) else -1
    with open_trace(trace.path, checked=False) as file:
        categories, table = categories_of(trace.attributes), OpenTable.of(file, "clients", trace.path)

        def rows(first: int, last: int) -> pd.DataFrame:
            return frame_of(table.between(first, min(last, last_read)), categories)

        yield rows


def _tried(path: os.PathLike[str] | str, reading: Callable[[h5py.File, Path], Trace], checked: bool) -> Trace:
    """What is read of an open file, several times where the file system shows a moment that never was."""
    path = Path(path)
    file_path = path / FILE_NAME if path.is_dir() else path
    for attempt in range(_ATTEMPTS):
        try:
            with open_trace(file_path, checked) as file:
                return reading(file, file_path)
        except TraceError:
            # A file system that reorders the writes of another node may show a moment that never was.
            if not file_path.is_file() or attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S)
    raise AssertionError("unreachable")


def read_rows(
    path: os.PathLike[str] | str, checked: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The root attributes of a trace, or of that of a run folder, and the rows of all tables as they lie in the file.

    Rows are those up to the last committed round, structured arrays of ``schema.TABLES``. Unless ``checked``, checksums
    are not compared, of chunks or of the whole. Raises TraceError as ``read``.
    """
    path = Path(path)
    path = path / FILE_NAME if path.is_dir() else path
    with open_trace(path, checked) as file:
        return _committed_rows(file, path, checked)


def _committed_rows(
    file: h5py.File, path: Path, checked: bool = True, without: Collection[str] = ()
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rows_of = _rows if checked else _unchecked_rows
    attributes = read_attributes(file)
    committed = attributes["committed_rounds"]
    rounds = rows_of(file["rounds"])[:committed]
    if len(rounds) != committed:
        raise TraceError(f"{path}: {committed} rounds are committed, but {len(rounds)} are there")
    found = {name: np.empty(0, dtype) for name, dtype in TABLES.items()} | {"rounds": rounds}
    for name in without:
        found[name] = np.empty(0, file[name].dtype if name in file else TABLES[name])
    for name in tables(attributes["schema_version"]).keys() - {"rounds", *without}:
        rows = rows_of(file[name])
        if name not in ("devices", "events"):
            rows = rows[rows["round"] <= rounds["round"][-1]] if committed else rows[:0]
        found[name] = rows
    return attributes, found


def _rows(dataset: h5py.Dataset) -> np.ndarray:
    rows: np.ndarray = dataset[:]
    return rows


def _unchecked_rows(dataset: h5py.Dataset) -> np.ndarray:
    """All rows, whatever the checksums of their chunks, which stand behind them."""
    length = dataset.chunks[0]
    chunks = [
        np.frombuffer(dataset.id.read_direct_chunk((start,))[1], dataset.dtype, length)
        for start in range(0, len(dataset), length)
    ]
    return np.concatenate([np.empty(0, dataset.dtype), *chunks])[: len(dataset)]


def _read(file: h5py.File, path: Path, rounds: tuple[int, int] | None) -> Trace:
    if rounds is None:
        attributes, found = _committed_rows(file, path)
    else:
        attributes = read_attributes(file)
        found = rows_of_rounds(file, path, attributes, rounds)
    return _trace(path, attributes, found)


def _outline(file: h5py.File, path: Path) -> Trace:
    attributes, found = _committed_rows(file, path, without=_OF_PARTICIPANTS)
    rounds = found["rounds"]
    if len(rounds) and "client_tests" in file:
        tests = OpenTable.of(file, "client_tests", path)
        length = tests.first_row(int(rounds["round"][-1]) + 1)
        if length:
            last = tests.round_of(length - 1)
            found["client_tests"] = tests.between(last, last)
    return _trace(path, attributes, found, whole=False)


def _trace(
    path: Path, attributes: dict[str, Any], found: Mapping[str, np.ndarray], whole: bool = True
) -> Trace:
    categories = categories_of(attributes)
    frames = {name: frame_of(rows, categories) for name, rows in found.items()}
    config = tomllib.loads(attributes["config_toml"])
    return Trace(path=path, **frames, config=config, attributes=attributes, whole=whole)
