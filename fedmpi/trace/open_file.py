"""Opening the HDF5 file of a trace, and checking that it is one and undamaged."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from fedmpi.trace.checksums import ColumnTexts, RowDigests
from fedmpi.trace.hdf5_layout import heap_ends
from fedmpi.trace.schema import (
    ATTRIBUTE_TYPES,
    CALLER_ATTRIBUTES,
    FINAL_STATUSES,
    READABLE_VERSIONS,
    TABLES,
    TraceError,
    tables,
)

_ROWS_AT_ONCE = 65_536
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
