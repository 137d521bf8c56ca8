"""Reading a trace, finished or not, into pandas tables."""

from __future__ import annotations

import io
import os
import time
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedmpi.trace.checksums import ColumnTexts, RowDigests
from fedmpi.trace.hdf5_layout import heap_ends
from fedmpi.trace.round_rows import rows_of_rounds
from fedmpi.trace.schema import (
    FINAL_STATUSES,
    READABLE_VERSIONS,
    TABLES,
    Phase,
    Status,
    TraceError,
    names,
    tables,
)

if TYPE_CHECKING:
    import pandas as pd

FILE_NAME = "trace.h5"

_ATTEMPTS = 5
_PAUSE_S = 0.02
_ROWS_AT_ONCE = 65_536
_ROWS_IN_CACHE = 1024
_HEAD_BYTES = 2**18


_DAMAGE = (
    *(
        OSError,
        LookupError,
        RuntimeError,
        ValueError,
        TypeError,
        AttributeError,
        ArithmeticError,
        MemoryError,
    ),
)
"""What reading a file whose every byte may be wrong can raise, in HDF5, in TOML and in tables."""


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
    path = Path(path)
    file_path = path / FILE_NAME if path.is_dir() else path
    for attempt in range(_ATTEMPTS):
        try:
            with open_trace(file_path, checked=rounds is None) as file:
                return _read(file, file_path, rounds)
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


@contextmanager
def open_trace(path: os.PathLike[str] | str, checked: bool = True) -> Iterator[h5py.File]:
    """The HDF5 file of a trace, checked to be one and undamaged, with HDF5's own errors as TraceError.

    HDF5 reads through a Python file without a buffer: two handles of one process that HDF5 opens by name would have to
    agree on their locks and would share what one of them has read, however old that is. Unless ``checked``, the
    checksum of the whole is not compared.
    """
    if not Path(path).is_file():
        raise TraceError(f"{path}: there is no trace")
    try:
        with open(path, "rb", buffering=0) as stream, _opened(stream) as file:
            if "schema_version" not in file.attrs or "committed_rounds" not in file.attrs:
                raise TraceError(f"{path}: an HDF5 file, but not a trace of fedmpi")
            if (version := int(file.attrs["schema_version"])) not in READABLE_VERSIONS:
                known = " and ".join(map(str, READABLE_VERSIONS))
                raise TraceError(f"{path}: schema version {version}, but this fedmpi reads {known}")
            for name, dtype in tables(version).items():
                if name not in file or file[name].dtype != dtype:
                    raise TraceError(f"{path}: the table {name} is missing or has other columns")
            _check_content(file, path, version, checked)
            yield file
    except _DAMAGE as error:
        if isinstance(error, TraceError):
            raise
        raise TraceError(f"{path}: no readable HDF5 file, or damaged ({error})") from error


def _opened(stream: io.FileIO) -> h5py.File:
    if not heap_ends(stream.read(_HEAD_BYTES)):
        raise OSError("its texts have no end")
    return h5py.File(stream, "r")


def read_attributes(file: h5py.File) -> dict[str, Any]:
    """The root attributes as plain Python values."""
    return {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in file.attrs.items()
    }


def column_texts(file: h5py.File) -> ColumnTexts | None:
    """What a trace says of its columns; None for one of version 1, which says nothing."""
    if int(file.attrs["schema_version"]) == 1:
        return None
    return {name: {text: list(file[name].attrs[text]) for text in ("unit", "description")} for name in TABLES}


def _check_content(file: h5py.File, path: os.PathLike[str] | str, version: int, checked: bool) -> None:
    """TraceError where rows are missing, and where a finished trace does not hold what was written.

    Traces of fedmpi 0.1.0 have no checksums, of chunks or of the whole.
    """
    status = str(file.attrs["status"])
    if status not in ("running", *FINAL_STATUSES):
        raise TraceError(f"{path}: damaged: the status is {status!r}")
    for name in tables(version):
        dataset = file[name]
        if len(dataset) > dataset.id.get_num_chunks() * dataset.chunks[0]:
            raise TraceError(
                f"{path}: damaged: the table {name} has {len(dataset)} rows, not all of them are there"
            )
    if not checked or status == "running" or not ("checksum" in file.attrs or file["rounds"].fletcher32):
        return
    digests = RowDigests(version)
    for name in tables(version):
        for start in range(0, len(file[name]), _ROWS_AT_ONCE):
            rows = file[name][start : start + _ROWS_AT_ONCE]
            digests.update(name, memoryview(rows.view(np.uint8)))
    if digests.checksum(read_attributes(file), column_texts(file)) != file.attrs["checksum"]:
        raise TraceError(f"{path}: damaged: the checksum is wrong")


def _committed_rows(
    file: h5py.File, path: Path, checked: bool = True
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    rows_of = _rows if checked else _unchecked_rows
    attributes = read_attributes(file)
    committed = attributes["committed_rounds"]
    rounds = rows_of(file["rounds"])[:committed]
    if len(rounds) != committed:
        raise TraceError(f"{path}: {committed} rounds are committed, but {len(rounds)} are there")
    found = {name: np.empty(0, dtype) for name, dtype in TABLES.items()} | {"rounds": rounds}
    for name in tables(attributes["schema_version"]).keys() - {"rounds"}:
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
    categories = {"phase": names(Phase), "status": names(Status), "layer": attributes["layer_names"]}
    frames = {name: _frame(rows, categories) for name, rows in found.items()}
    return Trace(path=path, **frames, config=tomllib.loads(attributes["config_toml"]), attributes=attributes)


def _frame(rows: np.ndarray, categories: dict[str, Sequence[str]]) -> pd.DataFrame:
    import pandas as pd  # takes a second and 30 MB, which the ranks of a run do without

    columns = _columns(rows)

    def column(name: str) -> Any:
        values = columns[name]
        if name in categories:
            return pd.Categorical.from_codes(values.astype(np.int64), categories=list(categories[name]))
        if values.dtype.kind == "S":
            found = values.tolist()
            place = {text: n for n, text in enumerate(dict.fromkeys(found))}  # few texts stand in many rows
            texts = pd.Series([text.decode("utf-8") for text in place], dtype=str)
            return texts.take(np.fromiter(map(place.__getitem__, found), np.intp, len(found))).array
        return values

    return pd.DataFrame({name: column(name) for name in columns}, copy=False)


def _columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of rows, each by itself; made block by block, so that rows are fetched from memory once."""
    names = rows.dtype.names or ()
    columns = {name: np.empty(len(rows), rows.dtype[name]) for name in names}
    for start in range(0, len(rows), _ROWS_IN_CACHE):
        block = rows[start : start + _ROWS_IN_CACHE]
        for name, column in columns.items():
            column[start : start + _ROWS_IN_CACHE] = block[name]
    return columns
