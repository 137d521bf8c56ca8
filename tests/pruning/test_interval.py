"""How long a mask stays where its making is to be paid back."""

from __future__ import annotations

from math import inf, isinf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.pruning.interval import LONGEST_FACTOR, next_interval, next_try, payback_rounds, relative_gain

SECONDS = st.floats(1e-3, 1e6)
GAINS = st.floats(1e-6, 1e3)


def test_the_gain_is_in_importance_per_second() -> None:
    assert relative_gain(10.0, 2.0, 9.0, 1.5) == pytest.approx(0.2)
    assert relative_gain(9.0, 1.5, 10.0, 2.0) == pytest.approx(-1 / 6)
    assert isinf(relative_gain(0.0, 1.0, 0.0, 1.0))
    assert isinf(relative_gain(0.0, 1.0, 1.0, 1.0))
    assert payback_rounds(3.0, inf, 8.0) == 0.0


@pytest.mark.parametrize("numbers", [(-1, 1, 1, 1), (1, 0, 1, 1), (1, 1, 1, -1), (inf, 1, 1, 1)])
def test_masks_without_a_time_or_importance_are_refused(numbers: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="importance and seconds of two masks"):
        relative_gain(*numbers)


def test_a_cost_is_paid_back_by_what_rounds_save() -> None:
    """A round of 8 s that gains a quarter saves 2 s: 30 s are 15 rounds."""
    assert payback_rounds(30.0, 0.25, 8.0) == 15.0
    assert payback_rounds(0.0, 0.0, 8.0) == 0.0
    assert isinf(payback_rounds(1e-9, 0.0, 8.0))
    assert isinf(payback_rounds(30.0, -0.1, 8.0))


def test_the_interval_is_that_within_its_bounds() -> None:
    found = [next_interval(rounds, 5) for rounds in (0.0, 4.2, 5.0, 5.1, 79.5, 80.0, 1e300, inf)]
    assert found == [5, 5, 5, 6, 80, 80, 80, 80]


@given(cost_s=SECONDS, round_s=SECONDS, gain=GAINS, shortest=st.integers(1, 1000))
def test_a_longer_wait_never_pays_less_and_bounds_hold(
    cost_s: float, round_s: float, gain: float, shortest: int
) -> None:
    payback = payback_rounds(cost_s, gain, round_s)
    interval = next_interval(payback, shortest)
    assert shortest <= interval <= LONGEST_FACTOR * shortest
    if interval < LONGEST_FACTOR * shortest:
        assert interval * gain * round_s >= cost_s * (1 - 1e-12)
    assert next_interval(payback_rounds(2 * cost_s, gain, round_s), shortest) >= interval
    assert next_interval(payback_rounds(cost_s, 2 * gain, round_s), shortest) <= interval


def test_the_longest_interval_is_16_of_the_shortest() -> None:
    assert LONGEST_FACTOR == 16
    assert [next_interval(rounds, 3) for rounds in (47.0, 47.5, 48.5)] == [47, 48, 48]


def test_a_mask_that_stays_is_left_alone_for_twice_as_long_up_to_the_longest_interval() -> None:
    assert [next_try(present, 3) for present in (3, 5, 24, 25, 48)] == [6, 10, 48, 48, 48]
