"""The tables of a trace: columns and types in their order (schema version 1).

Integers are int64, measurements float64 (NaN where nothing was measured), times in emulated seconds unless
the name says ``host``. ``phase`` and ``status`` are HDF5 enumerations, so that any HDF5 reader shows names.
"""

from __future__ import annotations

from enum import IntEnum

import h5py
import numpy as np

SCHEMA_VERSION = 1

KIND_BYTES = 32
DETAIL_BYTES = 256
"""Lengths of the fixed UTF-8 strings of an event."""


class TraceError(RuntimeError):
    """A trace cannot be written or read; the message names the file."""


class Phase(IntEnum):
    """What a round belonged to. Rounds below 0 are initial pruning."""

    INITIAL_PRUNING = 0
    FEDERATED = 1


class Status(IntEnum):
    """What became of a participant in a round (REJECTED: its update was not finite)."""

    OK = 0
    LATE = 1
    DROPPED = 2
    REJECTED = 3
    LOST = 4


FINAL_STATUSES = ("completed", "preempted", "failed")
"""Values of the root attribute ``status`` once a run has ended; until then it is "running"."""

CALLER_ATTRIBUTES = (
    "config_toml",
    "seed",
    "clients",
    "ranks",
    "parameters",
    "layer_names",
    "host",
    "mpi_library",
    "slurm_job_id",
)
"""Root attributes that whoever runs the experiment must give; the writer adds the others."""

RUN_ATTRIBUTES = ("run_id", "config_digest")
"""Root attributes by which a run is known again, given by whoever runs it; "" where nothing was given."""

CHECKED_ATTRIBUTES = (
    *CALLER_ATTRIBUTES,
    *RUN_ATTRIBUTES,
    *("schema_version", "fedmpi_version", "created", "status", "committed_rounds"),
)
"""Root attributes that the root attribute ``checksum`` of a finished trace covers, with all rows."""


def names(enumeration: type[IntEnum]) -> list[str]:
    """The names of an enumeration as they stand in files and tables, in the order of their codes."""
    return [member.name.lower() for member in enumeration]


def _enum_dtype(enumeration: type[IntEnum]) -> np.dtype:
    return h5py.enum_dtype({name: code for code, name in enumerate(names(enumeration))}, basetype="i1")


def _table(**columns: str | np.dtype) -> np.dtype:
    return np.dtype(list(columns.items()))


TABLES: dict[str, np.dtype] = {
    "rounds": _table(
        round="<i8",
        phase=_enum_dtype(Phase),
        start_s="<f8",
        end_s="<f8",
        host_s="<f8",
        participants="<i8",
        dropped="<i8",
        learning_rate="<f8",
        train_loss="<f8",
        test_loss="<f8",
        test_accuracy="<f8",
        k="<i8",
        k_probe="<i8",
        k_down="<i8",
        active_parameters="<i8",
        density="<f8",
        bytes_up="<i8",
        bytes_down="<i8",
        mpi_bytes="<i8",
    ),
    "clients": _table(
        round="<i8",
        client="<i8",
        rank="<i8",
        status=_enum_dtype(Status),
        samples="<i8",
        download_s="<f8",
        compute_s="<f8",
        upload_s="<f8",
        wait_s="<f8",
        bytes_down="<i8",
        bytes_up="<i8",
        entries_sent="<i8",
        entries_used="<i8",
        train_loss="<f8",
        overrun_s="<f8",
    ),
    "layers": _table(round="<i8", layer="<i2", active="<i8", total="<i8"),
    "events": _table(
        round="<i8",
        time_s="<f8",
        kind=h5py.string_dtype("utf-8", KIND_BYTES),
        detail=h5py.string_dtype("utf-8", DETAIL_BYTES),
    ),
}
"""Name of the data set -> type of its rows."""

STOP = "stop"
"""The kind of the event with which a run ends, and which is no longer true when it goes on."""

ROW_COLUMN = {"rounds": "round", "clients": "client", "layers": "layer", "events": "kind"}
"""The column of each table whose length says how many rows are appended (a scalar: one)."""

ROWS_PER_CHUNK = {"rounds": 512, "clients": 1024, "layers": 1024, "events": 128}
