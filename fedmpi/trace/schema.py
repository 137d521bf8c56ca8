"""The tables of a trace: every column with its type, unit and meaning, in their order (schema version 2).

Integers are int64, measurements float64 (NaN where nothing was measured), times in emulated seconds unless
the name says ``host``. ``phase`` and ``status`` are HDF5 enumerations, so that any HDF5 reader shows names.
Here alone columns are listed: files, frames and ``docs/trace.md`` are made from these lists. A column or table of a
later version is left out of an older one by its ``since``.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import h5py
import numpy as np

SCHEMA_VERSION = 2
READABLE_VERSIONS = (1, 2)

KIND_BYTES = 32
DETAIL_BYTES = 256
DETAILS_BYTES = 512
DEVICE_BYTES = 64
"""Lengths of fixed UTF-8 strings: of an event's kind, words and JSON, and of the name of a device."""

UNKNOWN = -1
"""In ``devices.writers``: the data set does not say who wrote its samples."""


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

ATTRIBUTE_TYPES = {**dict.fromkeys(("seed", "clients", "ranks", "parameters"), int), "layer_names": list}
"""Types of those of CALLER_ATTRIBUTES that are no text."""

RUN_ATTRIBUTES = ("run_id", "config_digest")
"""Root attributes by which a run is known again, given by whoever runs it; "" where nothing was given."""

EXTRA_ATTRIBUTES = ("model_work", "retimed_from", "retiming")
"""Root attributes that some traces have: what a sample takes to compute (JSON), and of a run that was timed again."""

CHECKED_ATTRIBUTES = (
    *CALLER_ATTRIBUTES,
    *RUN_ATTRIBUTES,
    *EXTRA_ATTRIBUTES,
    *("schema_version", "fedmpi_version", "created", "status", "committed_rounds"),
)
"""Root attributes that the root attribute ``checksum`` of a finished trace covers, with all rows."""


def names(enumeration: type[IntEnum]) -> list[str]:
    """The names of an enumeration as they stand in files and tables, in the order of their codes."""
    return [member.name.lower() for member in enumeration]


def _enum_dtype(enumeration: type[IntEnum]) -> np.dtype:
    return h5py.enum_dtype({name: code for code, name in enumerate(names(enumeration))}, basetype="i1")


@dataclass(frozen=True)
class Column:
    """A column: its name, the type of its values, their unit ("" where they have none) and what they mean.

    ``since``: the schema version with which it came.
    """

    name: str
    dtype: np.dtype
    unit: str
    description: str
    since: int = 1


_INTEGER, _MEASURED = np.dtype("<i8"), np.dtype("<f8")


def _count(name: str, description: str, unit: str = "", since: int = 1) -> Column:
    return Column(name, _INTEGER, unit, description, since)


def _measure(name: str, unit: str, description: str, since: int = 1) -> Column:
    return Column(name, _MEASURED, unit, description, since)


def _text(name: str, size: int, description: str, since: int = 1) -> Column:
    return Column(name, h5py.string_dtype("utf-8", size), "", description, since)


COLUMNS: dict[str, tuple[Column, ...]] = {
    "devices": (
        _count("client", "number of the client, 0 to N - 1; each has one row, written at the start", since=2),
        _text("device", DEVICE_BYTES, "name of the device that it is", since=2),
        _measure(
            "uplink_bytes_per_s",
            "byte/s",
            "rate of its own uplink, of one that varies the mean over its loop; inf: no limit",
            since=2,
        ),
        _measure(
            "downlink_bytes_per_s",
            "byte/s",
            "rate of its own downlink, of one that varies the mean over its loop; inf: no limit",
            since=2,
        ),
        _measure("latency_s", "s", "from the start of a message to its first byte, without jitter", since=2),
        _count("samples", "its training samples", since=2),
        _count("test_samples", "its own test samples; 0: it has none", since=2),
        _count("labels", "distinct labels among its training samples", since=2),
        _count("writers", "distinct writers of its training samples; -1: the data set does not say", since=2),
    ),
    "rounds": (
        _count("round", "number of the round; below 0: initial pruning"),
        Column("phase", _enum_dtype(Phase), "", "what the round belonged to"),
        _measure("start_s", "s", "emulated moment of its start"),
        _measure("end_s", "s", "emulated moment of its end"),
        _measure("host_s", "host s", "what it took here"),
        _count("participants", "clients that took part"),
        _count("dropped", "participants whose update was not accepted"),
        _measure("learning_rate", "", "of local SGD in this round"),
        _measure(
            "train_loss",
            "",
            "mean over the local steps of accepted participants, weighted by their numbers of samples",
        ),
        _measure("test_loss", "", "on the test set after the round; NaN in rounds without evaluation"),
        _measure("test_accuracy", "", "on the test set after the round; NaN in rounds without evaluation"),
        _count("k", "entries that each participant could send"),
        _count("k_probe", "the smaller k that was tried on paper; 0: none"),
        _count("k_down", "entries that the server sent back"),
        _count("active_parameters", "parameters that are not pruned"),
        _measure("density", "", "active prunable parameters over all prunable ones"),
        _count("bytes_up", "of all participants' messages to the server", "byte"),
        _count("bytes_down", "of the server's messages to all participants", "byte"),
        _count("mpi_bytes", "of the buffers of the round's collectives, each counted once", "byte"),
    ),
    "clients": (
        _count("round", "number of the round"),
        _count("client", "number of the client, 0 to N - 1"),
        _count("rank", "MPI rank that trained it"),
        Column(
            "status",
            _enum_dtype(Status),
            "",
            "what became of the participant (`late`: it came after the round had closed; `dropped`: it vanished; "
            "`rejected`: its update was not finite)",
        ),
        _count("samples", "training samples that it processed, repetitions counted"),
        _measure("download_s", "s", "from the start of the round until it had the model"),
        _measure("compute_s", "s", "of its local training"),
        _measure(
            "upload_s",
            "s",
            "from the end of its training until the server had its update; with a probe also its losses",
        ),
        _measure("wait_s", "s", "from then until the end of the round"),
        _count("bytes_down", "of the messages that it received", "byte"),
        _count("bytes_up", "of the messages that it sent", "byte"),
        _count("entries_sent", "values in its update"),
        _count("entries_used", "those of them that went into what the server sent back"),
        _measure("train_loss", "", "mean over its local steps"),
        _measure(
            "overrun_s",
            "host s",
            "the most by which one of its messages was released after its moment in real time",
        ),
        _count(
            "version", "server steps that had made the global model from which its training began", since=2
        ),
        _count("staleness", "server steps from that start to its arrival; 0 in synchronous rounds", since=2),
        _measure(
            "energy_j", "J", "that its device spent in the round; NaN unless its powers are known", since=2
        ),
        _measure(
            "released_s",
            "s",
            "moment at which its update was released in real time; NaN under the virtual clock",
            since=2,
        ),
    ),
    "client_tests": (
        _count("round", "number of the round after which the global model was evaluated", since=2),
        _count("client", "number of the client; every client has a row in every such round", since=2),
        _count("samples", "its own test samples", since=2),
        _measure("loss", "", "mean over its own test samples; NaN: it has none", since=2),
        _measure("accuracy", "", "on its own test samples; NaN: it has none", since=2),
    ),
    "layers": (
        _count("round", "first round of this mask; the first rows are those of the start"),
        Column(
            "layer", np.dtype("<i2"), "", "position of the layer; names are in the attribute `layer_names`"
        ),
        _count("active", "its parameters that are not pruned"),
        _count("total", "its parameters"),
    ),
    "events": (
        _count("round", "number of the round in which it happened"),
        _measure("time_s", "s", "emulated moment"),
        _text("kind", KIND_BYTES, "such as `rejected`, `pruning`, `overrun`, `stop`"),
        _text("detail", DETAIL_BYTES, "in words"),
        _text("details", DETAILS_BYTES, "the same facts by name, as a JSON object", since=2),
    ),
}
"""Name of the table -> its columns."""


def tables(version: int) -> dict[str, np.dtype]:
    """Name of each data set -> type of its rows, in a file of one of ``READABLE_VERSIONS``."""
    kept = {
        name: [(column.name, column.dtype) for column in columns if column.since <= version]
        for name, columns in COLUMNS.items()
    }
    return {name: np.dtype(columns) for name, columns in kept.items() if columns}


TABLES: dict[str, np.dtype] = tables(SCHEMA_VERSION)
"""The tables of the files that are written."""

STOP = "stop"
"""The kind of the event with which a run ends, and which is no longer true when it goes on."""

ROW_COLUMN = {
    "devices": "client",
    "rounds": "round",
    "clients": "client",
    "client_tests": "client",
    "layers": "layer",
    "events": "kind",
}
"""The column of each table whose length says how many rows are appended (a scalar: one)."""

ROWS_PER_CHUNK = {
    "devices": 256,
    "rounds": 512,
    "clients": 1024,
    "client_tests": 1024,
    "layers": 1024,
    "events": 128,
}
