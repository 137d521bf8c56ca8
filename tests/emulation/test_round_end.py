"""The end of a round: who is in time, late or dropped."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.emulation.round_end import EndRule, drawn_dropouts, round_end

STAYS = [inf, inf, inf, inf]


def ended(arrival, gone=STAYS, **rule):
    end = round_end(np.array(arrival, float), np.array(gone, float), EndRule(**rule))
    letters = np.select([end.in_time, end.dropped, end.late], ["i", "d", "l"], "?")
    return end.duration_s, "".join(letters)


@pytest.mark.parametrize(
    ("arrival", "gone", "rule", "expected"),
    [
        ([3, 1, 4, 2], STAYS, {}, (4.0, "iiii")),
        ([3, 1, 4, 2], STAYS, {"deadline_s": 3.0}, (3.0, "iili")),  # in time at the deadline itself
        ([3, 1, 4, 2], STAYS, {"deadline_s": 9.0}, (4.0, "iiii")),
        ([3, 1, 4, 2], STAYS, {"deadline_s": 0.5}, (0.5, "llll")),
        ([3, 1, 4, 2], STAYS, {"wanted": 2}, (2.0, "lili")),
        ([3, 1, 4, 2], STAYS, {"wanted": 3, "deadline_s": 2.5}, (2.5, "lili")),
        ([2, 2, 2, 1], STAYS, {"wanted": 2}, (2.0, "illi")),  # of equal arrivals the lowest client
        ([inf, 1, 4, 2], [3.0, inf, inf, inf], {}, (4.0, "diii")),
        ([inf, 1, 4, 2], [5.0, inf, inf, inf], {}, (5.0, "diii")),  # noticed when it vanishes
        ([inf, 1, 4, 2], [5.0, inf, inf, inf], {"deadline_s": 3.0}, (3.0, "lili")),  # vanishes after the end
        ([inf, 1, 4, 2], [2.0, inf, inf, inf], {"wanted": 2}, (2.0, "dili")),
        ([inf, inf, inf, inf], [2.0, 1.0, 3.0, 0.0], {"wanted": 1}, (3.0, "dddd")),
        ([1, 1, 1, 1], [2.0, inf, inf, inf], {}, (1.0, "iiii")),  # vanished after it had arrived
    ],
)
def test_rounds(arrival, gone, rule, expected):
    assert ended(arrival, gone, **rule) == expected


def test_a_round_without_participants_ends_when_it_starts():
    end = round_end(np.empty(0), np.empty(0), EndRule(deadline_s=5.0, wanted=3))
    assert (end.duration_s, len(end.in_time)) == (0.0, 0)


@given(
    arrival=st.lists(st.floats(0, 100), min_size=1, max_size=12),
    gone=st.lists(st.one_of(st.none(), st.floats(0, 100)), min_size=12, max_size=12),
    deadline=st.one_of(st.just(inf), st.floats(0.001, 120)),
    wanted=st.integers(0, 12),
)
def test_invariants(arrival, gone, deadline, wanted):
    vanishes = np.array([inf if moment is None else moment for moment in gone[: len(arrival)]])
    arrives = np.where(vanishes < np.array(arrival), inf, np.array(arrival))
    end = round_end(arrives, vanishes, EndRule(deadline, wanted))
    assert (end.in_time.astype(int) + end.dropped + end.late == 1).all()
    assert end.duration_s <= deadline
    assert (arrives[end.in_time] <= end.duration_s).all()
    assert (vanishes[end.dropped] <= end.duration_s).all()
    if wanted:
        assert end.in_time.sum() <= wanted
    if end.late.any():  # the server did not wait for them: for a reason
        assert end.duration_s == deadline or end.in_time.sum() == wanted
    shorter = round_end(arrives, vanishes, EndRule(deadline / 2, wanted))
    assert shorter.in_time.sum() <= end.in_time.sum()
    assert shorter.duration_s <= end.duration_s


def test_dropouts_are_drawn_by_round_and_client():
    everyone = np.arange(2000)
    drawn = drawn_dropouts(3, 5, everyone, 0.25)
    vanishing = drawn[drawn < inf]
    assert abs(len(vanishing) - 500) < 80  # 4 standard deviations are 77
    assert abs(vanishing.mean() - 0.5) < 0.06
    assert ((vanishing >= 0) & (vanishing < 1)).all()
    some = np.array([7, 100, 1999])
    assert drawn_dropouts(3, 5, some, 0.25).tolist() == drawn[some].tolist()
    assert drawn_dropouts(3, 6, everyone, 0.25).tolist() != drawn.tolist()
    assert drawn_dropouts(4, 5, everyone, 0.25).tolist() != drawn.tolist()
    assert (drawn_dropouts(3, 5, everyone, 0.0) == inf).all()
    more = drawn_dropouts(
        3, 5, everyone, 0.5
    )  # those who vanish at 25 % do so at 50 % too, at the same moment
    assert (more[drawn < inf] == vanishing).all()
