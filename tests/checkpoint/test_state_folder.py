"""The folder of clients' state: where it lies, who knows it, and which rows of it a checkpoint refers to."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fedmpi.checkpoint import CheckpointError
from fedmpi.checkpoint.row_files import NOWHERE, RowFiles
from fedmpi.checkpoint.state_folder import (
    as_arrays,
    check_folder,
    folder_of,
    make_folder,
    stored,
    verify_stored,
)
from fedmpi.config import ConfigError, loads

LENGTH = 3


def test_it_lies_in_the_folder_of_the_run_or_where_it_is_said() -> None:
    """There beside those of other runs."""
    assert folder_of(loads(""), Path("runs/a"), "id1") == Path("runs/a/client-state")
    elsewhere = loads("", ["clients.state=disk", "clients.state_folder=/scratch/me"])
    assert folder_of(elsewhere, Path("runs/a"), "id1") == Path("/scratch/me/fedmpi-id1")


def test_a_folder_is_made_empty_and_known_by_its_run(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    for run_id in ("first", "second"):
        make_folder(folder, run_id)
        (folder / "rows").write_text("left behind")
    make_folder(folder, "third")
    assert not (folder / "rows").exists()
    check_folder(folder, "third", "node7")
    for run_id, where in (("second", folder), ("third", tmp_path / "other"), ("", folder)):
        with pytest.raises(ConfigError) as caught:
            check_folder(where, run_id, "node7")
        assert str(caught.value) == (
            f"[clients] state_folder: {where} of the first rank is not there on node7; "
            "allowed: a folder that all nodes see"
        )


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    for folder, reason in (
        (tmp_path / "none" / "state", "No such file"),
        (tmp_path / "file", "Not a directory"),
    ):
        (tmp_path / "file").touch()
        with pytest.raises(
            ConfigError, match=rf"\[clients\] state_folder: {folder} cannot be made: {reason}"
        ):
            make_folder(folder, "id")


@pytest.fixture
def arrays(tmp_path: Path) -> dict[str, np.ndarray]:
    """What a checkpoint keeps of four clients, of whom the first and third have rows."""
    files = RowFiles(tmp_path, "residual", LENGTH, own=1)
    places, digests = np.full(4, NOWHERE), np.zeros(4, np.uint64)
    for client in (0, 2):
        places[client] = files.new_place()
        files.write(int(places[client]), np.full(LENGTH, client + 1, np.float32))
        digests[client] = files.digest(int(places[client]))
    files.close()
    return as_arrays("residual", LENGTH, places, digests)


def test_what_is_kept_is_taken_back(arrays: dict[str, np.ndarray]) -> None:
    others = as_arrays("momentum", 5, np.arange(4), np.arange(4, dtype=np.uint64))
    together = {**arrays, **others, "weights": np.zeros(2)}
    places, digests = stored(together, "residual", LENGTH)
    assert places[1] == places[3] == NOWHERE != places[0] != places[2]
    assert digests[0] != digests[2]
    np.testing.assert_array_equal(stored(together, "momentum", 5), [range(4), range(4)])
    with pytest.raises(ValueError, match=r"rows residual of \[3\] values, expected are 4"):
        stored(together, "residual", 4)


def test_every_row_that_is_referred_to_is_checked(tmp_path: Path, arrays: dict[str, np.ndarray]) -> None:
    nothing = as_arrays("momentum", 5, np.full(4, NOWHERE), np.zeros(4, np.uint64))
    verify_stored(tmp_path, {**nothing, **arrays, "weights": np.zeros(2)})
    file = next(tmp_path.glob("residual-*.rows"))
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(CheckpointError, match=r"residual-00001\.rows: the row of client 2 is damaged"):
        verify_stored(tmp_path, {**nothing, **arrays})
    file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    with pytest.raises(CheckpointError, match=r"residual-00001\.rows: the row of client 0 is damaged"):
        verify_stored(tmp_path, {**arrays, **nothing})
    os.truncate(file, 5)
    with pytest.raises(CheckpointError, match=r"residual-00001\.rows: ends within the row at byte 0"):
        verify_stored(tmp_path, arrays)


def test_a_folder_that_is_gone_is_named_where_rows_lie_in_it(
    tmp_path: Path, arrays: dict[str, np.ndarray]
) -> None:
    gone = tmp_path / "gone"
    verify_stored(gone, as_arrays("residual", LENGTH, np.full(4, NOWHERE), np.zeros(4, np.uint64)))
    with pytest.raises(CheckpointError, match=r"gone: is not there; the state of clients lies in it"):
        verify_stored(gone, arrays)
