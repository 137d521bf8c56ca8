"""The file between any two writes of the writer, as a reader, a crash and a kill may find it."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest

from fedmpi.trace import TraceWriter, hdf5_layout, read
from fedmpi.trace import growing_file as growing_file_module
from fedmpi.trace.schema import ROWS_PER_CHUNK, TABLES

HEADROOM_BYTES = 32_768


class Changes:
    """The file as it was, and each later change: a write, or a new size."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.start = path.read_bytes()
        self.changes: list[tuple[int, bytes | None]] = []
        pwrite, ftruncate = os.pwrite, os.ftruncate

        def recording_pwrite(descriptor: int, data: bytes, offset: int) -> int:
            self.changes.append((offset, bytes(data)))
            return pwrite(descriptor, data, offset)

        def recording_ftruncate(descriptor: int, size: int) -> None:
            self.changes.append((size, None))
            ftruncate(descriptor, size)

        monkeypatch.setattr(os, "pwrite", recording_pwrite)
        monkeypatch.setattr(os, "ftruncate", recording_ftruncate)


def apply(image: bytearray, change: tuple[int, bytes | None]) -> None:
    position, data = change
    if data is not None:
        image[position : position + len(data)] = data
    elif position < len(image):
        del image[position:]
    else:
        image.extend(bytes(position - len(image)))


def check(file: h5py.File, expected_rows, first_round: int, first_table: str) -> int:
    """Read all with plain h5py; every row there must be right, and no committed row missing."""
    committed = int(file.attrs["committed_rounds"])
    assert file.attrs["status"] in ("running", "completed")
    assert list(file.attrs["layer_names"]) == ["first.weight", "second.weight"]
    for table in sorted(TABLES, key=lambda name: name != first_table):
        rows = file[table][:]
        if table == "devices":
            assert len(rows) == 3 or not committed
            assert rows["client"].tolist() == [0, 1, 2][: len(rows)]
            continue
        per_round = len(expected_rows(table, 0, 1))
        assert len(rows) >= committed * per_round
        stop_round = first_round + -(-len(rows) // per_round)
        np.testing.assert_array_equal(rows, expected_rows(table, first_round, stop_round)[: len(rows)])
    return committed


@pytest.fixture(scope="module")
def kept() -> list[Changes]:
    """What ``recorded`` gives, once it is there: a hundred tests read it, and none changes it."""
    return []


@pytest.fixture
def recorded(kept, tmp_path, monkeypatch, attributes, devices, append_round, flush_always):
    """Rounds -2..57 with chunks of two rows, nodes of four entries and little headroom: deep trees."""
    for table in ROWS_PER_CHUNK:
        monkeypatch.setitem(ROWS_PER_CHUNK, table, 2 if table != "events" else 1)
    monkeypatch.setattr(hdf5_layout, "_NODE_ENTRIES", 4)
    monkeypatch.setattr(growing_file_module, "HEADROOM_BYTES", HEADROOM_BYTES)
    if kept:
        return kept[0]
    path = tmp_path / "trace.h5"
    writer = TraceWriter.create(path, attributes)
    with monkeypatch.context() as patch:
        changes = Changes(path, patch)
        writer.append(devices=devices)
        for round_index in range(-2, 58):
            append_round(writer, round_index)
            if round_index % 3 != 1:
                writer.commit(force=round_index % 5 == 0)
        writer.close("completed")
    kept.append(changes)
    return changes


def test_file_is_right_after_every_single_write(recorded, expected_rows):
    image = bytearray(recorded.start)
    committed = [check(h5py.File(io.BytesIO(image), "r"), expected_rows, -2, "rounds")]
    for change in recorded.changes:
        apply(image, change)
        with h5py.File(io.BytesIO(image), "r") as file:
            committed.append(check(file, expected_rows, -2, "rounds"))
    assert committed == sorted(committed)
    assert committed[-1] == 60


class MovingFile(io.RawIOBase):
    """A file that changes between the reads of its reader, by less than the headroom in all.

    Its size is the one it had when it was opened, as HDF5 asks only once.
    """

    def __init__(self, image: bytearray, changes: list, pace: np.random.Generator, most: int) -> None:
        self._image, self._changes, self._pace, self._most = image, changes, pace, most
        self._size = len(image)
        self._written = len(image.rstrip(b"\0"))
        self._position = 0

    def seek(self, offset: int, whence: int = 0) -> int:
        self._position = offset + {0: 0, 1: self._position, 2: self._size}[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        for _ in range(min(int(self._pace.integers(self._most + 1)), len(self._changes))):
            position, data = self._changes[0]
            if data is not None and position + len(data) > self._written + HEADROOM_BYTES // 2:
                break
            apply(self._image, self._changes.pop(0))
        data = self._image[self._position : self._position + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


@pytest.mark.parametrize("seed", range(100))
def test_reader_that_is_overtaken_by_the_writer_sees_right_rows(recorded, expected_rows, seed):
    random = np.random.default_rng(seed)
    image, changes = bytearray(recorded.start), list(recorded.changes)
    for _ in range(random.integers(len(changes))):
        apply(image, changes.pop(0))
    with h5py.File(MovingFile(image, changes, random, most=int(random.integers(1, 20))), "r") as file:
        check(file, expected_rows, -2, str(random.choice(list(TABLES))))


def test_kill_at_random_instants_loses_no_committed_round(tmp_path):
    report = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_writers.py"), tmp_path, "40"],
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert report.returncode == 0, report.stdout + report.stderr
    assert "40 kills" in report.stdout


def test_interrupted_trace_is_continued(
    tmp_path, recorded, attributes, append_round, flush_always, expected_rows
):
    """From any state that a crash may leave, open_for_append goes on to the same rows."""
    path = tmp_path / "crashed.h5"
    image = bytearray(recorded.start)
    for number, change in enumerate(recorded.changes):
        apply(image, change)
        if number % 97 or number < 300:
            continue
        path.write_bytes(image)
        committed = len(read(path).rounds)
        keep = max(-2, committed - 2 - number % 5)
        with TraceWriter.open_for_append(path, keep) as writer:
            for round_index in range(keep, 58):
                append_round(writer, round_index)
        with h5py.File(path) as file:
            assert check(file, expected_rows, -2, "rounds") == 60
            counts = {"rounds": 60, "clients": 180, "client_tests": 180, "layers": 120, "events": 60}
            assert {table: len(file[table]) for table in TABLES} == counts | {"devices": 3}
