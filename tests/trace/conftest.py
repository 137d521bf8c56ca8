"""Traces whose every value follows from the round, so that a reader can tell right from wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedmpi.trace import TraceWriter
from fedmpi.trace.schema import TABLES

CLIENTS = 3
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
    rounds = np.arange(first_round, stop_round)
    rounds = (
        rounds
        if table == "rounds"
        else np.repeat(rounds, {"clients": CLIENTS, "layers": 2, "events": 1}[table])
    )
    rows = np.zeros(len(rounds), TABLES[table])
    rows["round"] = rounds
    for position, name in enumerate(rows.dtype.names or ()):
        if rows.dtype[name].kind == "f":
            rows[name] = rounds + position / 8
        elif rows.dtype[name].kind == "S":
            rows[name] = [f"{name} of {value}" for value in rounds]
        elif name in ("phase", "status"):
            rows[name] = (rounds >= 0) if name == "phase" else np.abs(rounds) % 5
        elif name in ("client", "layer"):
            rows[name] = np.arange(len(rounds)) % (CLIENTS if name == "client" else 2)
        elif name != "round":
            rows[name] = rounds * 1000 + position
    return rows


def _columns(rows: np.ndarray) -> dict[str, Any]:
    columns = {name: rows[name] for name in rows.dtype.names or ()}
    strings = {name: [text.decode() for text in rows[name]] for name in columns if name in ("kind", "detail")}
    return columns | strings


def append_known(writer: TraceWriter, round_index: int) -> None:
    """Append all rows of one known round."""
    writer.append(**{table: _columns(known_rows(table, round_index, round_index + 1)) for table in TABLES})


@pytest.fixture
def attributes() -> dict[str, Any]:
    return dict(ATTRIBUTES)


@pytest.fixture
def append_round() -> Callable[[TraceWriter, int], None]:
    return append_known


@pytest.fixture
def expected_rows() -> Callable[[str, int, int], np.ndarray]:
    return known_rows


@pytest.fixture
def flush_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every commit writes."""
    monkeypatch.setattr("fedmpi.trace.writer._FLUSH_EVERY_S", (0.0, 0.0))
