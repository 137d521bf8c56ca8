"""The image of a trace without rows, made by HDF5 in memory."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import h5py
import numpy as np

from fedmpi.trace.checksums import CHECKSUM_CHARACTERS
from fedmpi.trace.schema import COLUMNS, ROWS_PER_CHUNK, TABLES
from fedmpi.trace.table import storable

STATUS_PLACE = b"<status-place-->"
CHECKSUM_PLACE = b"<checksum>".ljust(CHECKSUM_CHARACTERS, b"-")
"""Stand for the status and the checksum while HDF5 makes the file: found by their text, overwritten in place."""


def empty_trace(attributes: Mapping[str, Any]) -> bytes:
    """The image of a trace without rows, made by HDF5; status and checksum are held open by their places."""
    image = io.BytesIO()
    with h5py.File(image, "w", libver=("earliest", "v110")) as file:
        file.attrs["status"] = STATUS_PLACE.decode()
        file.attrs["checksum"] = CHECKSUM_PLACE.decode()
        file.attrs["committed_rounds"] = np.int64(0)
        for name, value in attributes.items():
            if name == "layer_names":
                value = np.array([storable(layer) for layer in value], dtype=h5py.string_dtype())
            elif isinstance(value, str):
                value = storable(value)
            if name not in file.attrs:
                file.attrs[name] = value
        for name, dtype in TABLES.items():
            dataset = file.create_dataset(
                name,
                (0,),
                dtype,
                maxshape=(None,),
                chunks=(ROWS_PER_CHUNK[name],),
                fletcher32=True,
                track_times=False,
            )
            columns = COLUMNS[name]
            dataset.attrs.create("unit", [column.unit for column in columns], dtype=h5py.string_dtype())
            texts = [column.description for column in columns]
            dataset.attrs.create("description", texts, dtype=h5py.string_dtype())
    return image.getvalue()
