"""A file that grows: what is written stays, and the announced end is always ahead of what is used."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.trace.growing_file import HEADROOM_BYTES, GrowingFile

END_WORD = 8
IMAGE = bytes(range(1, 22))


def size_and_end(path: Path) -> tuple[int, int]:
    with open(path, "rb") as file:
        file.seek(END_WORD)
        (end,) = struct.unpack("<Q", file.read(8))
        return os.fstat(file.fileno()).st_size, int(end)


@given(st.lists(st.integers(1, 3 * HEADROOM_BYTES), min_size=1, max_size=12))
def test_the_announced_end_is_ahead_of_what_is_used_and_the_size_ahead_of_that(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int]
) -> None:
    path = tmp_path_factory.mktemp("growing") / "file"
    file = GrowingFile(path, IMAGE, END_WORD)
    used, before = len(IMAGE), size_and_end(path)
    for size in sizes:
        address = file.allocate(size)
        assert address % 8 == 0
        assert used <= address < used + 8
        used = address + size
        length, end = size_and_end(path)
        assert used + HEADROOM_BYTES <= end
        assert end + HEADROOM_BYTES <= length
        assert length >= before[0]
        assert end >= before[1]
        before = length, end
    file.finish()
    length, end = size_and_end(path)
    assert used <= end == length < used + 8


def test_what_is_written_is_read_and_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    file = GrowingFile(path, IMAGE, END_WORD)
    first, second = file.allocate(5), file.allocate(3)
    file.write(second, b"xyz")
    file.write(first, memoryview(b"abcde"))
    assert (file.read(first, 5), file.read(second, 3)) == (b"abcde", b"xyz")
    assert file.read(0, END_WORD) == IMAGE[:END_WORD]
    file.to_disk()
    file.finish()
    content = path.read_bytes()
    assert content[first : first + 5] == b"abcde"
    assert content[second : second + 3] == b"xyz"
    assert content[END_WORD + 8 : len(IMAGE)] == IMAGE[END_WORD + 8 :]


def test_a_disk_that_takes_a_part_first_gets_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda descriptor, data, at: pwrite(descriptor, data[:2], at))
    file = GrowingFile(tmp_path / "file", IMAGE, END_WORD)
    address = file.allocate(7)
    file.write(address, b"1234567")
    assert file.read(address, 7) == b"1234567"
    file.abandon()


def test_a_file_that_was_cut_short_is_an_error(tmp_path: Path) -> None:
    file = GrowingFile(tmp_path / "file", IMAGE, END_WORD)
    os.truncate(tmp_path / "file", 10)
    with pytest.raises(OSError, match="cut short"):
        file.read(8, 3)
    file.abandon()


def test_a_file_is_known_by_itself_and_not_by_its_name(tmp_path: Path) -> None:
    path, other = tmp_path / "file", tmp_path / "other"
    file = GrowingFile(path, IMAGE, END_WORD)
    assert file.is_at(path)
    assert not file.is_at(other)
    assert not file.is_at(path / "inside")
    path.rename(other)
    assert file.is_at(other)
    path.write_bytes(IMAGE)
    assert not file.is_at(path)
    file.abandon()
