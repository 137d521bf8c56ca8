"""Bootstrap intervals and paired tests over seeds."""

from __future__ import annotations

from math import isnan, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis.statistics import FEWEST_PAIRS, bootstrap_interval, paired, resampling

numbers = st.floats(-1e6, 1e6)


@given(st.lists(numbers, min_size=2, max_size=8))
def test_an_interval_holds_the_mean_and_lies_within_the_extremes(values):
    low, high = bootstrap_interval(values)
    tolerance = 1e-9 * max(map(abs, values))
    assert min(values) - tolerance <= low <= high <= max(values) + tolerance
    assert low <= np.mean(values) + tolerance or len(set(values)) > 1


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(-10, 10), st.floats(0.1, 10))
def test_an_interval_moves_and_stretches_with_what_was_measured(values, shift, factor):
    low, high = bootstrap_interval(values)
    moved = bootstrap_interval(factor * np.array(values) + shift)
    assert moved[0] == pytest.approx(factor * low + shift, abs=1e-6)
    assert moved[1] == pytest.approx(factor * high + shift, abs=1e-6)


def test_the_interval_of_many_seeds_is_that_of_the_normal_distribution():
    values = np.random.default_rng(3).normal(10.0, 2.0, 400)
    low, high = bootstrap_interval(values)
    assert (low, high) == pytest.approx(
        (values.mean() - 1.96 * values.std() / 20, values.mean() + 1.96 * values.std() / 20), abs=0.02
    )
    narrow = bootstrap_interval(values, 0.5)
    assert low < narrow[0] < values.mean() < narrow[1] < high


def test_places_are_independent_of_each_other_and_of_their_number():
    values = np.random.default_rng(1).normal(size=(4, 3, 2))
    low, high = bootstrap_interval(values)
    assert low.shape == high.shape == (3, 2)
    alone = bootstrap_interval(values[:, 2, 1])
    assert (low[2, 1], high[2, 1]) == (pytest.approx(alone[0]), pytest.approx(alone[1]))


def test_one_seed_says_nothing_of_the_spread():
    low, high = bootstrap_interval(np.ones((1, 2)))
    assert np.isnan([low, high]).all()
    assert low.shape == (2,)


def test_no_p_value_with_fewer_than_six_pairs():
    five = paired([2.0, 3.0, 4.0, 5.0, 6.0], [1.0] * 5)
    assert (five.pairs, five.difference, five.p_value) == (5, 3.0, None)
    six = paired([2.0, 3.0, 4.0, 5.0, 6.0, 7.0], [1.0] * 6)
    assert (
        six.p_value == 2 / 2**FEWEST_PAIRS
    )  # every difference is positive: the most extreme of 64 signs, twice


def test_differences_are_of_the_first_less_the_second():
    found = paired([1.0, 2.0], [3.0, 5.0])
    assert (found.difference, found.low, found.high) == (-2.5, -3.0, -2.0)


def test_pairs_that_were_not_measured_do_not_count():
    found = paired([1.0, nan, 3.0], [0.0, 0.0, nan])
    assert (found.pairs, found.difference) == (1, 1.0)
    assert isnan(found.low)
    assert paired([nan], [1.0]).pairs == 0
    assert isnan(paired([nan], [1.0]).difference)


def test_equal_methods_do_not_differ():
    assert paired([0.5] * 7, [0.5] * 7).p_value == 1.0
    alternating = paired([1.0, -2.0, 3.0, -4.0, 5.0, -6.0], [0.0] * 6)
    assert alternating.p_value > 0.5


def test_what_is_drawn_once_is_not_written_to():
    weights = resampling(3)
    assert weights is resampling(3)
    with pytest.raises(ValueError, match="read-only"):
        weights[0, 0] = 1.0


@given(numbers, st.integers(2, 9))
def test_equal_seeds_have_no_spread_to_the_last_bit(value, seeds):
    assert bootstrap_interval([value] * seeds) == (value, value)
