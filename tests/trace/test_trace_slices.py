"""Some rounds of a trace alone: the rows that they have in the whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.trace import Phase, Status, TraceError, TraceWriter, outline, read, rows_of_clients
from fedmpi.trace.schema import ROWS_PER_CHUNK, TABLES

ROUNDS, FIRST = 9, -2
PARTICIPANTS = [0, 3, 1, ROWS_PER_CHUNK["clients"], 0, 700, 2000, 5, 1]
"""Of each round, the first two being of initial pruning: some rounds fill chunks, some have nobody."""


def columns(table: str, rows: int, **given: object) -> dict[str, object]:
    random = np.random.default_rng(rows)
    values: dict[str, object] = {}
    for name in TABLES[table].names or ():
        kind = TABLES[table][name].kind
        values[name] = random.random(rows) if kind == "f" else random.integers(0, 2, rows)
    return {**values, **given}


def write_rounds(writer: TraceWriter, numbers: range) -> None:
    for number in numbers:
        count = PARTICIPANTS[number - FIRST]
        phase = Phase.FEDERATED if number >= 0 else Phase.INITIAL_PRUNING
        clients = np.arange(count)
        writer.append(
            clients=columns("clients", count, round=number, client=clients, status=int(Status.OK)),
            client_tests=columns("client_tests", 3, round=number, client=np.arange(3)),
            rounds=columns("rounds", 1, round=np.array([number]), phase=int(phase), participants=count),
        )
        if number % 3 == 0:
            writer.append(layers=columns("layers", 1, round=number, layer=np.array([0])))


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    attributes = {
        "config_toml": "",
        **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 3),
        **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
        "layer_names": ["weight"],
    }
    path = tmp_path_factory.mktemp("slices") / "trace.h5"
    writer = TraceWriter.create(path, attributes)
    write_rounds(writer, range(FIRST, FIRST + ROUNDS))
    writer.append(events={"round": 3, "time_s": 1.0, "kind": "stop", "detail": "done"})
    writer.close("completed")
    return path


@settings(max_examples=40)
@given(st.integers(FIRST - 3, FIRST + ROUNDS + 3), st.integers(-3, ROUNDS + 3))
def test_they_are_the_rows_of_the_whole(path: Path, first: int, more: int) -> None:
    whole, part = read(path), read(path, rounds=(first, first + more))
    for name in ("rounds", "clients", "client_tests"):
        rows = getattr(whole, name)
        expected = rows[rows["round"].between(first, first + more)].reset_index(drop=True)
        pd.testing.assert_frame_equal(getattr(part, name), expected)
    for name in ("devices", "layers", "events"):
        pd.testing.assert_frame_equal(getattr(part, name), getattr(whole, name))
    assert part.attributes == whole.attributes
    assert part.config == whole.config


def test_rounds_of_a_run_that_is_going_on(tmp_path: Path, path: Path) -> None:
    """Rows of a round that is not committed yet are not there."""
    attributes = read(path).attributes
    writer = TraceWriter.create(tmp_path / "trace.h5", attributes)
    write_rounds(writer, range(FIRST, 2))
    writer.append(clients=columns("clients", 2, round=2, client=np.arange(2), status=int(Status.OK)))
    writer.commit(force=True)
    part = read(tmp_path, rounds=(1, 5))
    assert list(part.rounds["round"]) == [1]
    assert set(part.clients["round"]) == {1}
    assert len(part.clients) == PARTICIPANTS[1 - FIRST]
    writer.close("failed")


def test_damage_in_what_is_read_is_found(tmp_path: Path, path: Path) -> None:
    content = bytearray(path.read_bytes())
    last = read(path).clients.train_loss.iloc[-1]
    place = content.rindex(np.float64(last).tobytes())
    content[place] ^= 1
    (tmp_path / "trace.h5").write_bytes(content)
    with pytest.raises(TraceError, match="damaged"):
        read(tmp_path)
    with pytest.raises(TraceError, match="damaged"):
        read(tmp_path, rounds=(FIRST + ROUNDS - 1, FIRST + ROUNDS))
    pd.testing.assert_frame_equal(read(tmp_path, rounds=(-1, 0)).clients, read(path, rounds=(-1, 0)).clients)


def test_an_older_trace_is_read_by_rounds_too(version_1: bytes, tmp_path: Path) -> None:
    old = tmp_path / "trace.h5"
    old.write_bytes(version_1)
    whole = read(old)
    middle = int(whole.rounds["round"].median())
    part = read(old, rounds=(middle, middle))
    expected = whole.clients[whole.clients["round"] == middle].reset_index(drop=True)
    assert len(expected) > 0
    pd.testing.assert_frame_equal(part.clients, expected)


def test_an_outline_has_all_but_the_rows_of_participants(path: Path) -> None:
    whole, found = read(path), outline(path)
    assert whole.whole
    assert not found.whole
    for name in ("devices", "rounds", "layers", "events"):
        pd.testing.assert_frame_equal(getattr(found, name), getattr(whole, name))
    pd.testing.assert_frame_equal(found.clients, whole.clients[:0])
    tests = whole.client_tests
    last = tests[tests["round"] == tests["round"].max()].reset_index(drop=True)
    pd.testing.assert_frame_equal(found.client_tests, last)
    with rows_of_clients(found) as rows:
        for first, end in ((FIRST, FIRST), (0, 3), (FIRST - 5, FIRST + ROUNDS + 5), (3, 2)):
            pd.testing.assert_frame_equal(rows(first, end), read(path, rounds=(first, end)).clients)


def test_rounds_committed_after_an_outline_are_left_out(tmp_path: Path, path: Path) -> None:
    writer = TraceWriter.create(tmp_path / "trace.h5", read(path).attributes)
    write_rounds(writer, range(FIRST, 2))
    writer.commit(force=True)
    before = outline(tmp_path)
    write_rounds(writer, range(2, 4))
    writer.commit(force=True)
    with rows_of_clients(before) as rows:
        assert set(rows(0, 9)["round"]) == {0, 1}
    writer.close("failed")


def test_an_outline_of_a_damaged_trace_is_refused(tmp_path: Path, path: Path) -> None:
    content = bytearray(path.read_bytes())
    last = read(path).clients.train_loss.iloc[-1]
    content[content.rindex(np.float64(last).tobytes())] ^= 1
    (tmp_path / "trace.h5").write_bytes(content)
    with pytest.raises(TraceError, match="damaged"):
        outline(tmp_path)


@pytest.mark.parametrize(
    "names", [[""], ["one", "", "é", "a name of more than eight bytes", "a name of more than"]]
)
def test_many_names_of_devices_are_read_like_few(tmp_path: Path, path: Path, names: list[str]) -> None:
    clients = 5000
    chosen = np.random.default_rng(0).integers(0, len(names), clients)
    devices = [names[place] for place in chosen]
    with TraceWriter.create(tmp_path / "trace.h5", read(path).attributes) as writer:
        writer.append(devices=columns("devices", clients, client=np.arange(clients), device=devices))
    assert read(tmp_path).devices["device"].tolist() == devices
