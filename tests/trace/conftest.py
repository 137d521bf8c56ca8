"""Traces whose every value follows from the round, so that a reader can tell right from wrong."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi.trace import TraceWriter
from fedmpi.trace.schema import TABLES

CLIENTS = 3
ROWS_PER_ROUND = {
    "devices": 0,
    "rounds": 1,
    "clients": CLIENTS,
    "client_tests": CLIENTS,
    "layers": 2,
    "events": 1,
}
ATTRIBUTES: dict[str, Any] = {
    "config_toml": '[experiment]\nname = "known"\nseed = 7\n',
    "seed": 7,
    "clients": CLIENTS,
    "ranks": 2,
    "parameters": 100,
    "layer_names": ["first.weight", "second.weight"],
    "host": "here",
    "mpi_library": "some MPI",
    "slurm_job_id": "",
}


def known_rows(table: str, first_round: int, stop_round: int) -> np.ndarray:
    """The rows of rounds [first_round, stop_round) of one table."""
    rounds = np.repeat(np.arange(first_round, stop_round), ROWS_PER_ROUND[table])
    rows = np.zeros(len(rounds), TABLES[table])
    for position, name in enumerate(rows.dtype.names or ()):
        if name == "round":
            rows[name] = rounds
        elif rows.dtype[name].kind == "f":
            rows[name] = rounds + position / 8
        elif name == "details":
            rows[name] = [json.dumps({"of": int(value)}) for value in rounds]
        elif rows.dtype[name].kind == "S":
            rows[name] = [f"{name} of {value}" for value in rounds]
        elif name in ("phase", "status"):
            rows[name] = (rounds >= 0) if name == "phase" else np.abs(rounds) % 5
        elif name in ("client", "layer"):
            rows[name] = np.arange(len(rounds)) % (CLIENTS if name == "client" else 2)
        else:
            rows[name] = rounds * 1000 + position
    return rows


def _columns(rows: np.ndarray) -> dict[str, Any]:
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    strings = {
        name: [text.decode() for text in rows[name]] for name in columns if rows.dtype[name].kind == "S"
    }
    if "details" in strings:
        strings["details"] = [json.loads(text) for text in strings["details"]]
    return columns | strings


def append_known(writer: TraceWriter, round_index: int) -> None:
    """Append all rows of one known round."""
    given = {table: known_rows(table, round_index, round_index + 1) for table in TABLES}
    writer.append(**{table: _columns(rows) for table, rows in given.items() if len(rows)})


def known_devices() -> dict[str, Any]:
    """The columns of the table ``devices``."""
    clients = np.arange(CLIENTS)
    return {
        "client": clients,
        "device": ["phone", "Pi 4 in the löft", "phone"],
        "uplink_bytes_per_s": 1e6 + clients,
        "downlink_bytes_per_s": np.where(clients == 1, np.inf, 5e6),
        "latency_s": 0.05 * clients,
        "samples": 10 + clients,
        "test_samples": 2 * clients,
        "labels": 3,
        "writers": -1,
    }


@pytest.fixture(scope="session")
def version_1() -> bytes:
    """A trace as fedmpi 0.1.0 wrote it: quickstart with PruneFL, 3 local rounds at client 0, then 4 of 4 clients."""
    return gzip.decompress((Path(__file__).parent / "fixtures" / "version_1.h5.gz").read_bytes())


@pytest.fixture
def attributes() -> dict[str, Any]:
    return dict(ATTRIBUTES)


@pytest.fixture
def append_round() -> Callable[[TraceWriter, int], None]:
    return append_known


@pytest.fixture
def devices() -> dict[str, Any]:
    return known_devices()


@pytest.fixture
def expected_rows() -> Callable[[str, int, int], np.ndarray]:
    return known_rows


@pytest.fixture
def flush_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit writes."""
    monkeypatch.setattr("fedmpi.trace.writer._FLUSH_EVERY_S", (0.0, 0.0))
