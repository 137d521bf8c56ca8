"""Intervals of availability: read, looped, and asked at any moment."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.intervals import Intervals, read_intervals


def written(folder: Path, *lines: str, header: str = "client,on_s,off_s") -> Path:
    path = folder / "intervals.csv"
    path.write_text("\n".join((header, *lines)) + "\n")
    return path


@pytest.fixture
def day(tmp_path: Path) -> Intervals:
    """Client 0 from 2 to 4 and 6 to 10 of 10 s, client 1 from 0 to 3, client 2 always, client 3 never."""
    return read_intervals(written(tmp_path, "2,0,10", "0,6,10", "1,0,3", "0,2,4"), 4, 10.0)


def test_a_client_is_there_from_on_to_before_off(day):
    assert day.there(0.0).tolist() == [False, True, True, False]
    assert day.there(2.0).tolist() == [True, True, True, False]
    assert day.there(3.0).tolist() == [True, False, True, False]
    assert day.there(4.0).tolist() == [False, False, True, False]
    assert day.there(10.0).tolist() == day.there(0.0).tolist()
    assert day.there(122.5).tolist() == day.there(2.5).tolist()


def test_it_leaves_at_the_end_of_its_interval(day):
    assert day.leaves_s(2.0).tolist() == [4.0, 3.0, inf, inf]
    assert day.leaves_s(32.5).tolist() == [34.0, 33.0, inf, inf]
    assert day.leaves_s(39.0).tolist() == [40.0, inf, inf, inf]


def test_an_interval_goes_on_over_the_end_of_the_period(tmp_path):
    there = read_intervals(written(tmp_path, "0,8,10", "0,0,1", "1,9,10"), 2, 10.0)
    assert there.leaves_s(9.5).tolist() == [11.0, 10.0]
    assert there.leaves_s(0.5).tolist() == [1.0, inf]


def test_intervals_that_touch_are_one(tmp_path):
    there = read_intervals(written(tmp_path, "0,3,5", "0,1,3"), 1)
    assert (there.on_s.tolist(), there.off_s.tolist()) == ([1.0], [5.0])
    assert there.leaves_s(2.0).tolist() == [5.0]


def test_the_next_who_comes(day, tmp_path):
    assert day.next_s(0.0) == 2.0
    assert day.next_s(2.0) == 6.0
    assert day.next_s(7.0) == 10.0
    assert day.next_s(36.0) == 40.0
    once = read_intervals(written(tmp_path, "0,3,5", "0,7,8"), 1)
    assert [once.next_s(moment) for moment in (0.0, 3.0, 7.0)] == [3.0, 7.0, inf]
    assert not once.there(9.0).any()


@given(
    moment=st.floats(0, 1e9),
    period=st.floats(1e-3, 1e6),
    ends=st.lists(st.floats(0, 1), min_size=2, max_size=8, unique=True),
)
def test_time_goes_on_and_somebody_is_there_in_the_end(moment, period, ends):
    """From any moment, a few steps of ``next_s`` lead to one at which somebody is there, and each is a step ahead."""
    marks = sorted({end * period for end in ends})
    pairs = [(on, off) for on, off in zip(marks[::2], marks[1::2], strict=False) if on < off]
    if not pairs:
        return
    on, off = (np.array(values) for values in zip(*pairs, strict=True))
    intervals = Intervals(np.zeros(len(pairs), np.int64), on, off, period, 1)
    for _ in range(200):
        if intervals.there(moment).any():
            break
        later = intervals.next_s(moment)
        assert moment < later < moment + 2 * period + 1e-6
        moment = later
    else:
        width = (off - on).max()
        assert width < 1e-4 * period or width < 1e-6  # narrower than the rounding of the moments
    assert intervals.leaves_s(moment)[0] >= moment


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["0,1,2", "0,1.5,3"], "line 3: found 1.5 to 3, which overlaps line 2, 1 to 2"),
        (["0,5,2"], "line 2: found on_s 5 and off_s 2; allowed: off_s above on_s"),
        (["0,2,2"], "allowed: off_s above on_s"),
        (["0,1,2", "4,1,2"], "line 3: found client '4'; allowed: a client from 0 to 3"),
        (["-1,1,2"], "found client '-1'"),
        (["1.0,1,2"], "found client '1.0'"),
        (["²,1,2"], "found client '²'"),
        (["0000000004,1,2"], "found client '0000000004'"),
        (["00000000003,1,2"], "found client '00000000003'"),  # of more than ten digits
        (["0,a,2"], "line 2: found on_s 'a'; allowed: seconds"),
        (["0,1,nan"], "found off_s 'nan'"),
        (["0,1,inf"], "found off_s 'inf'"),
        (["0,-1,2"], "found on_s '-1'"),
        (["0,1"], "line 2: found 2 fields"),
        (["0,1,11"], "found off_s 11; allowed: at most period_s = 10"),
        ([], "found no interval"),
    ],
)
def test_bad_lines_are_refused_with_their_number(tmp_path, lines, message):
    with pytest.raises(EmulationError) as raised:
        read_intervals(written(tmp_path, *lines), 4, 10.0)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(EmulationError, match="line 1: found 'who,from,to'"):
        read_intervals(written(tmp_path, "0,1,2", header="who,from,to"), 1)
    with pytest.raises(EmulationError, match=r"path: .* cannot be read: No such file"):
        read_intervals(tmp_path / "missing.csv", 1)
    with pytest.raises(EmulationError, match="cannot be read: Is a directory"):
        read_intervals(tmp_path, 1)
    (tmp_path / "bytes.csv").write_bytes(b"client,on_s,off_s\n\xff\xfe,1,2\n")
    with pytest.raises(EmulationError, match="no text in UTF-8"):
        read_intervals(tmp_path / "bytes.csv", 1)
    (tmp_path / "empty.csv").write_bytes(b"")
    with pytest.raises(EmulationError, match="line 1: found an empty file"):
        read_intervals(tmp_path / "empty.csv", 1)
