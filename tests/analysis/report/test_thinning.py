"""What is left out of long runs and large fleets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis.report.thinning import blocks, extremes, kept_of, numbers, points_each, spaced

FLOATS = st.floats(-1e6, 1e6)


@given(st.lists(FLOATS, min_size=1, max_size=300), st.integers(4, 80))
def test_lines_keep_their_ends_and_their_highest_and_lowest_values(values, most):
    kept = extremes(values, most)
    assert len(kept) <= max(most, 4)
    assert kept[0] == 0
    assert kept[-1] == len(values) - 1
    assert (np.diff(kept) > 0).all()
    shown = np.array(values)[kept]
    assert shown.max() == max(values)
    assert shown.min() == min(values)


@given(st.integers(1, 500), st.integers(2, 60))
def test_spaced_places_are_few_distinct_and_reach_from_the_first_to_the_last(count, most):
    kept = spaced(count, most)
    assert len(kept) == min(count, most)
    assert kept[0] == 0
    assert kept[-1] == count - 1
    steps = np.diff(kept)
    assert (steps > 0).all()
    assert not steps.size or steps.max() - steps.min() <= 1


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=200), st.integers(1, 50))
def test_blocks_lose_nothing(values, most):
    found = blocks(len(values), most)
    assert len(found.starts) <= most
    assert found.sum(values).sum() == sum(values)
    first = values[: found.length]
    assert found.mean(values)[0] == pytest.approx(np.mean(first))


def test_means_of_blocks_leave_out_what_is_not_known():
    found = blocks(5, 3)
    assert found.length == 2
    np.testing.assert_array_equal(found.mean([1.0, np.nan, np.nan, np.nan, 7.0]), [1.0, np.nan, 7.0])


def test_numbers_have_six_digits_and_gaps():
    assert numbers([1.0, 0.12345678, np.nan, np.inf, 123456789.0]) == [1, 0.123457, None, None, 123456789]


def test_it_is_said_what_was_left_out():
    assert kept_of(60, 100_000, "clients", "evenly") == "60 of 100,000 clients are shown, evenly"
    assert kept_of(60, 60, "clients", "evenly") == ""


@given(st.integers(1, 10_000))
def test_lines_of_a_chart_share_its_points(lines):
    assert 20 <= points_each(lines) <= 600
    assert points_each(lines) * lines <= max(6_000, 20 * lines)
