"""Rows of clients on disk: what a kept checkpoint refers to never changes, and places are used again."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.checkpoint import CheckpointError
from fedmpi.checkpoint.row_files import NOWHERE, RowFiles, files_of, place_of, verify_rows

LENGTH = 130  # 520 bytes: two sectors


def row_of(number: float) -> np.ndarray:
    return np.full(LENGTH, number, np.float32)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[RowFiles]:
    rows = RowFiles(tmp_path, "kept", LENGTH, own=2)
    yield rows
    rows.close()


@given(st.integers(0, 5000), st.integers(0, 2**40 - 1))
def test_places_are_positive_and_know_their_file(number: int, slot: int) -> None:
    place = place_of(number, slot)
    assert NOWHERE < place < 2**63
    assert files_of(np.array([place])).tolist() == [number]


def test_rows_are_read_as_they_were_written(files: RowFiles, tmp_path: Path) -> None:
    places = [files.new_place() for _ in range(3)]
    assert places == [place_of(2, slot) for slot in range(3)]
    for number, place in enumerate(places):
        files.write(place, row_of(number))
    files.write(places[1], np.arange(LENGTH, dtype=np.float32))
    files.sync()
    other = RowFiles(tmp_path, "kept", LENGTH, own=0)
    assert other.read(places[0]).tolist() == row_of(0).tolist()
    assert other.read(places[1]).tolist() == list(range(LENGTH))
    assert other.read(places[2]).tolist() == row_of(2).tolist()
    assert other.digest(places[1]) == files.digest(places[1]) != files.digest(places[0])
    assert other.new_place() == place_of(0, 0)
    other.close()


def test_only_places_that_nothing_refers_to_are_taken_again(files: RowFiles) -> None:
    places = np.array([files.new_place() for _ in range(5)])
    for place in places.tolist():
        files.write(place, row_of(1))
    kept = [np.array([places[3], NOWHERE, place_of(7, 1)]), places[:1]]
    files.reclaim([2], kept)
    taken = [files.new_place() for _ in range(4)]
    assert taken == [places[1], places[2], places[4], place_of(2, 5)]


def test_missing_short_and_damaged_rows_are_named(files: RowFiles, tmp_path: Path) -> None:
    place = files.new_place()
    files.write(place, row_of(1))
    places, digests = np.array([NOWHERE, place]), np.array([0, files.digest(place)], np.uint64)
    verify_rows(tmp_path, "kept", LENGTH, places, digests)
    with pytest.raises(CheckpointError, match=r"kept-00003.rows: No such file"):
        files.read(place_of(3, 0))
    with pytest.raises(CheckpointError, match=r"kept-00002.rows: ends within the row at byte 1,024"):
        files.read(place_of(2, 1))
    files.write(place, row_of(1.5))
    with pytest.raises(CheckpointError, match=r"kept-00002.rows: the row of client 1 is damaged"):
        verify_rows(tmp_path, "kept", LENGTH, places, digests)


def test_a_disk_that_takes_no_more_is_an_error(files: RowFiles) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, limits[1]))
    try:
        files.write(files.new_place(), row_of(1))
        with pytest.raises(CheckpointError, match=r"kept-00002.rows: .*bytes are free on its disk"):
            files.write(files.new_place(), row_of(2))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
