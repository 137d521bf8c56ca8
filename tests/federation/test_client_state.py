"""Clients' vectors on disk behave as those in memory, and a checkpoint's stay as they were whatever comes after."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from mpi4py import MPI

from fedmpi.checkpoint.files import CheckpointError
from fedmpi.checkpoint.state_folder import check_folder, make_folder, stored, verify_stored
from fedmpi.config import ConfigError, loads
from fedmpi.federation.client_state import ClientState, DiskRows
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.shared_memory import GroupMemory

CLIENTS, LENGTH = 5, 3
MEMORY = GroupMemory(MPI.COMM_SELF)
RANKS = Ranks.of(MPI.COMM_SELF)
PLACEMENT = Placement(CLIENTS, (range(CLIENTS),), ((0,),))
CLIENT = st.integers(0, CLIENTS - 1)


def disk_rows() -> DiskRows:
    config = loads("", [f"clients.count={CLIENTS}", "clients.state=disk"])
    state = ClientState(config, RANKS, MEMORY, PLACEMENT)
    state.vectors("kept", LENGTH)
    return state.disk[0]


class OnDisk(RuleBasedStateMachine):
    """Any order of writes, clears, checkpoints, and crashes after which one of the last two is gone on from."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.rows = disk_rows()
        self.rows.start(Path(self.folder.name))
        self.now = np.zeros((CLIENTS, LENGTH), np.float32)
        self.kept: list[tuple[dict[str, np.ndarray], np.ndarray]] = []
        self.written = 0

    @rule(client=CLIENT)
    def write(self, client: int) -> None:
        self.written += 1
        vector = self.rows.read(client)
        vector += self.written
        self.rows.write(client, vector)
        self.now[client] += self.written

    @rule(clients=st.lists(CLIENT, unique=True))
    def clear(self, clients: list[int]) -> None:
        self.rows.clear(clients)
        self.now[clients] = 0.0

    @rule()
    def checkpoint(self) -> None:
        self.rows.sync()
        changes = self.rows.changes()
        table = {name: array.copy() for name, array in self.rows.table(changes).items()}
        self.rows.published(changes)
        self.kept = [*self.kept, (table, self.now.copy())][-2:]

    @rule(newest=st.booleans())
    def crash(self, newest: bool) -> None:
        if not self.kept:
            return
        if not newest:
            self.kept = self.kept[:1]
        self.rows = disk_rows()
        tables = [stored(table, "kept", LENGTH) for table, _ in self.kept]
        self.rows.resume(Path(self.folder.name), tables[-1][0], tables[0][0])
        self.rows.take_digests(tables[-1][1])
        self.now = self.kept[-1][1].copy()

    @invariant()
    def what_is_read_was_written(self) -> None:
        for client in range(CLIENTS):
            assert self.rows.read(client).tolist() == self.now[client].tolist()

    @invariant()
    def kept_checkpoints_are_intact(self) -> None:
        for table, values in self.kept:
            verify_stored(Path(self.folder.name), table)
            places, _ = stored(table, "kept", LENGTH)
            for client in range(CLIENTS):
                place = int(places[client])
                row = self.rows._opened.read(place) if place else np.zeros(LENGTH)
                assert row.tolist() == values[client].tolist()

    @invariant()
    def three_rows_of_each_client_are_enough(self) -> None:
        size = sum(path.stat().st_size for path in Path(self.folder.name).iterdir())
        assert size <= 3 * CLIENTS * 512

    def teardown(self) -> None:
        self.folder.cleanup()


TestOnDisk = OnDisk.TestCase
TestOnDisk.settings = settings(max_examples=40, stateful_step_count=30)


def test_a_checkpoint_notes_only_what_changed(tmp_path: Path) -> None:
    rows = disk_rows()
    rows.start(tmp_path)
    for client in (1, 3):
        rows.write(client, np.ones(LENGTH, np.float32))
    changes = rows.changes()
    assert changes["client"].tolist() == [1, 3]
    rows.published(changes)
    rows.write(3, np.zeros(LENGTH, np.float32))
    rows.clear([1, 2])
    assert rows.changes()["client"].tolist() == [1, 3]
    assert rows.changes()["place"].tolist()[0] == 0


def rows_of_third_host() -> DiskRows:
    """Those of the last of four ranks, of which the first has no clients; all clients are in its group."""
    placement = Placement(CLIENTS, (range(0), range(1), range(1, 2), range(2, CLIENTS)), ((0, 1, 2, 3),))
    last: Any = SimpleNamespace(rank=3, is_server=True)
    return DiskRows("kept", last, MEMORY, placement, CLIENTS, LENGTH)


def test_ranks_that_have_clients_have_a_file_each(tmp_path: Path) -> None:
    rows = rows_of_third_host()
    rows.start(tmp_path)
    rows.write(4, np.ones(LENGTH, np.float32))
    assert (rows.changes()["place"] >> 40).tolist() == [2]


def test_places_are_used_again_after_every_checkpoint(tmp_path: Path) -> None:
    rows = disk_rows()
    rows.start(tmp_path)
    for number in range(8):
        for client in range(CLIENTS):
            rows.write(client, np.full(LENGTH, number, np.float32))
        rows.published(rows.changes())
    assert [rows.read(client).tolist() for client in range(CLIENTS)] == [[7.0] * LENGTH] * CLIENTS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * CLIENTS * 512


@pytest.mark.parametrize("before", [disk_rows, rows_of_third_host])
def test_places_are_used_again_after_every_resume(tmp_path: Path, before: Callable[[], DiskRows]) -> None:
    """Also those in files of more ranks than there are now."""
    rows = before()
    rows.start(tmp_path)
    tables: list[dict[str, np.ndarray]] = []
    for number in range(8):
        for client in range(CLIENTS):
            rows.write(client, np.full(LENGTH, number, np.float32))
        changes = rows.changes()
        tables = [*tables, rows.table(changes)][-2:]
        rows.published(changes)
        kept = [stored(table, "kept", LENGTH) for table in tables]
        rows = disk_rows()
        rows.resume(tmp_path, kept[-1][0], kept[0][0])
        rows.take_digests(kept[-1][1])
    assert [rows.read(client).tolist() for client in range(CLIENTS)] == [[7.0] * LENGTH] * CLIENTS
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * CLIENTS * 512


def test_rows_of_another_length_are_refused() -> None:
    table = disk_rows().table(np.zeros(0, [("client", "i8"), ("place", "i8"), ("digest", "u8")]))
    with pytest.raises(ValueError, match=r"rows kept of \[3\] values, expected are 4"):
        stored(table, "kept", LENGTH + 1)


def test_in_memory_clients_have_vectors_of_their_own() -> None:
    config = loads("", [f"clients.count={CLIENTS}"])
    state = ClientState(config, RANKS, MEMORY, PLACEMENT)
    rows = state.vectors("kept", LENGTH)
    assert isinstance(rows, ClientRows)
    assert not state.disk
    rows.write(2, np.ones(LENGTH, np.float32))
    rows.write(1, rows.read(2))
    rows.clear([2])
    assert [rows.read(client).tolist() for client in (1, 2)] == [[1.0] * 3, [0.0] * 3]


def test_a_folder_is_known_by_its_run(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    make_folder(folder, "one")
    (folder / "old.rows").touch()
    check_folder(folder, "one", "here")
    make_folder(folder, "two")
    assert not (folder / "old.rows").exists()
    with pytest.raises(
        ConfigError, match=r"\[clients\] state_folder: .*state of the first rank is not there on n2"
    ):
        check_folder(folder, "one", "n2")
    with pytest.raises(ConfigError, match=r"\[clients\] state_folder: .*cannot be made: No such file"):
        make_folder(tmp_path / "none" / "state", "one")
    with pytest.raises(CheckpointError, match="none: is not there"):
        verify_stored(tmp_path / "none", disk_table_with_a_row())


def disk_table_with_a_row() -> dict[str, np.ndarray]:
    table = disk_rows().table(np.zeros(0, [("client", "i8"), ("place", "i8"), ("digest", "u8")]))
    table["rows.kept.places"][1] = 1
    return table
