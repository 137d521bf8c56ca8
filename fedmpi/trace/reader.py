"""Reading a trace, finished or not, into pandas tables."""

from __future__ import annotations

import io
import os
import time
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from fedmpi.trace.checksums import ColumnTexts, RowDigests
from fedmpi.trace.hdf5_layout import heap_ends
from fedmpi.trace.round_rows import OpenTable, rows_of_rounds
from fedmpi.trace.schema import (
    ATTRIBUTE_TYPES,
    CALLER_ATTRIBUTES,
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
_MANY_ROWS = 4096
_SHORT_BYTES = 64

_OF_PARTICIPANTS = ("clients", "client_tests")
"""The tables with a row a participant or client in every round: the large ones."""


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
        categories, table = _categories(trace.attributes), OpenTable.of(file, "clients", trace.path)

        def rows(first: int, last: int) -> pd.DataFrame:
            return _frame(table.between(first, min(last, last_read)), categories)

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
            datasets = {name: file.get(name) for name in tables(version)}
            for name, dtype in tables(version).items():
                if datasets[name] is None or datasets[name].dtype != dtype:
                    raise TraceError(f"{path}: the table {name} is missing or has other columns")
            _check_content(file, datasets, path, version, checked)
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
    """The root attributes as plain Python values. ValueError for one of another type than the writer gives it."""
    found = {
        name: value.tolist() if isinstance(value, np.ndarray | np.generic) else value
        for name, value in file.attrs.items()
    }
    for name in CALLER_ATTRIBUTES:
        value, expected = found.get(name), ATTRIBUTE_TYPES.get(name, str)
        whole = all(type(each) is str for each in value) if isinstance(value, list) else True
        if value is not None and not (type(value) is expected and whole):
            raise ValueError(f"the attribute {name} is {repr(value)[:60]}")
    return found


def column_texts(file: h5py.File) -> ColumnTexts | None:
    """What a trace says of its columns; None for one of version 1, which says nothing."""
    if int(file.attrs["schema_version"]) == 1:
        return None
    return {name: {text: list(file[name].attrs[text]) for text in ("unit", "description")} for name in TABLES}


def _check_content(
    file: h5py.File,
    datasets: Mapping[str, h5py.Dataset],
    path: os.PathLike[str] | str,
    version: int,
    checked: bool,
) -> None:
    """TraceError where rows are missing, and where a finished trace does not hold what was written.

    Traces of fedmpi 0.1.0 have no checksums, of chunks or of the whole.
    """
    status = str(file.attrs["status"])
    if status not in ("running", *FINAL_STATUSES):
        raise TraceError(f"{path}: damaged: the status is {status!r}")
    for name, dataset in datasets.items():
        if len(dataset) > dataset.id.get_num_chunks() * dataset.chunks[0]:
            raise TraceError(
                f"{path}: damaged: the table {name} has {len(dataset)} rows, not all of them are there"
            )
    if not checked or status == "running" or not ("checksum" in file.attrs or datasets["rounds"].fletcher32):
        return
    digests = RowDigests(version)
    for name, dataset in datasets.items():
        for start in range(0, len(dataset), _ROWS_AT_ONCE):
            rows = dataset[start : start + _ROWS_AT_ONCE]
            digests.update(name, memoryview(rows.view(np.uint8)))
    if digests.checksum(read_attributes(file), column_texts(file)) != file.attrs["checksum"]:
        raise TraceError(f"{path}: damaged: the checksum is wrong")


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
    categories = _categories(attributes)
    frames = {name: _frame(rows, categories) for name, rows in found.items()}
    config = tomllib.loads(attributes["config_toml"])
    return Trace(path=path, **frames, config=config, attributes=attributes, whole=whole)


def _categories(attributes: Mapping[str, Any]) -> dict[str, Sequence[str]]:
    """The names of the codes in columns."""
    return {"phase": names(Phase), "status": names(Status), "layer": attributes["layer_names"]}


def _frame(rows: np.ndarray, categories: dict[str, Sequence[str]]) -> pd.DataFrame:
    import pandas as pd  # takes a second and 30 MB, which the ranks of a run do without

    columns = _columns(rows)

    def column(name: str) -> Any:
        values = columns[name]
        if name in categories:
            return pd.Categorical.from_codes(values.astype(np.int64), categories=list(categories[name]))
        if values.dtype.kind == "S":
            which, different = _different(values)  # few texts stand in many rows
            texts = pd.Series([text.decode("utf-8") for text in different], dtype=str)
            return texts.take(which).array
        return values

    return pd.DataFrame({name: column(name) for name in columns}, copy=False)


def _different(texts: np.ndarray) -> tuple[np.ndarray, list[bytes]]:
    """The different ones among ``texts`` (n,), in the order of their first places, and which each is, int (n,)."""
    if len(texts) < _MANY_ROWS or texts.itemsize > _SHORT_BYTES:
        found = texts.tolist()
        place = {text: n for n, text in enumerate(dict.fromkeys(found))}
        return np.fromiter(map(place.__getitem__, found), np.intp, len(found)), list(place)
    import pandas as pd

    # Eight bytes at a time, as numbers: twice as fast as making an object of each.
    words = texts.view(np.uint64).reshape(len(texts), -1)
    which = np.zeros(len(texts), np.intp)
    for column in words.T[words.any(axis=0)]:
        codes, numbers = pd.factorize(column)
        which, _ = pd.factorize(which * len(numbers) + codes)
    first = np.empty(which.max() + 1, np.intp)
    first[which[::-1]] = np.arange(len(which) - 1, -1, -1)
    return which, texts[first].tolist()


def _columns(rows: np.ndarray) -> dict[str, np.ndarray]:
    """The columns of rows, each by itself; made block by block, so that rows are fetched from memory once."""
    names = rows.dtype.names or ()
    columns = {name: np.empty(len(rows), rows.dtype[name]) for name in names}
    for start in range(0, len(rows), _ROWS_IN_CACHE):
        block = rows[start : start + _ROWS_IN_CACHE]
        for name, column in columns.items():
            column[start : start + _ROWS_IN_CACHE] = block[name]
    return columns
