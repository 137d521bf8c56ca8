"""Rates that vary by steps: what moves in how long, whichever way it is computed."""

from itertools import islice
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.stepwise import StepwiseRate, arrival_of, slower

LOOP = StepwiseRate([0.0, 1.0, 3.0], [10.0, 0.0, 5.0], 4.0)  # 15 bytes in 4 s


SIZES = st.floats(1.0, 1e4)


@st.composite
def stepwise_rates(draw):
    """Few distinct numbers, so that moments coincide and rates are equal or 0."""
    lasts = draw(st.lists(st.sampled_from([0.25, 0.5, 1.0, 2.7]), min_size=1, max_size=6))
    rates = draw(
        st.lists(st.sampled_from([0.0, 10.0, 20.0, 33.3]), min_size=len(lasts), max_size=len(lasts)).filter(
            any
        )
    )
    starts = np.concatenate(([0.0], np.cumsum(lasts)[:-1]))
    if draw(st.booleans()):
        return StepwiseRate(starts, rates, float(np.sum(lasts)))
    return StepwiseRate(starts, [*rates[:-1], max(rates)])


def test_pieces_by_hand():
    assert list(islice(LOOP.pieces(0.5), 4)) == [(10.0, 1.0), (0.0, 3.0), (5.0, 4.0), (10.0, 5.0)]
    assert list(islice(LOOP.pieces(0.5, shift_s=3.0), 3)) == [(5.0, 1.0), (10.0, 2.0), (0.0, 4.0)]
    assert list(StepwiseRate([0.0, 2.0], [1.0, 3.0]).pieces(0.0)) == [(1.0, 2.0), (3.0, inf)]
    assert list(StepwiseRate.constant(7.0).pieces(100.0)) == [(7.0, inf)]


def test_a_stall_is_waited_for_and_a_loop_repeats():
    cases = [(0.0, 10.0, 1.0), (0.0, 11.0, 3.2), (0.5, 6.0, 3.2), (2.0, 1.0, 3.2), (0.0, 40.0, 9.0)]
    for begin, size, end in cases:
        assert LOOP.arrival_s(begin, size) == pytest.approx(end)
        assert LOOP.arrival_s(begin - 2.0, size, shift_s=2.0) == pytest.approx(end - 2.0)
    assert LOOP.mean_bytes_per_s == 3.75
    assert LOOP.peak_bytes_per_s == 10.0
    assert LOOP.longest_stall_s == 2.0
    assert StepwiseRate([0.0, 1.0, 2.0], [0.0, 1.0, 0.0], 2.5).longest_stall_s == 1.5


def test_equal_neighbours_are_one_step():
    whole = StepwiseRate([0.0, 2.0], [3.0, 4.0], 5.0)
    split = StepwiseRate([0.0, 1.0, 1.5, 2.0, 3.3], [3.0, 3.0, 3.0, 4.0, 4.0], 5.0)
    np.testing.assert_array_equal(split.starts_s, whole.starts_s)
    np.testing.assert_array_equal(split.bytes_per_s, whole.bytes_per_s)


@settings(max_examples=100)
@given(
    rate=stepwise_rates(), part=st.floats(0.01, 0.99), data=st.data(), begin=st.floats(0.0, 50.0), size=SIZES
)
def test_splitting_a_step_in_two_changes_nothing(rate, part, data, begin, size):
    last = rate.period_s if rate.period_s < inf else rate.starts_s[-1] + 1.0
    step = data.draw(st.integers(0, len(rate.starts_s) - 1))
    start, end = np.append(rate.starts_s, last)[step : step + 2]
    starts = np.insert(rate.starts_s, step + 1, start + part * (end - start))
    split = StepwiseRate(starts, np.insert(rate.bytes_per_s, step, rate.bytes_per_s[step]), rate.period_s)
    assert split.arrival_s(begin, size) == pytest.approx(rate.arrival_s(begin, size), rel=1e-9)
    assert split.mean_bytes_per_s == pytest.approx(rate.mean_bytes_per_s, rel=1e-12)
    assert split.longest_stall_s == rate.longest_stall_s


@settings(max_examples=300)
@given(
    rate=stepwise_rates(),
    begin=st.floats(0.0, 50.0),
    size=SIZES,
    shift=st.floats(0.0, 9.0),
)
def test_the_two_ways_to_an_arrival_agree(rate, begin, size, shift):
    one = rate.arrival_s(begin, size, shift)
    assert one == pytest.approx(arrival_of(begin, size, rate.pieces(begin, shift)), rel=1e-9)
    assert one >= begin + size / rate.peak_bytes_per_s * (1 - 1e-12)


@settings(max_examples=200)
@given(one=stepwise_rates(), other=stepwise_rates(), begin=st.floats(0.0, 5.0))
def test_the_slower_of_two_is_the_lower_at_every_moment(one, other, begin):
    both = list(islice(slower(one.pieces(begin), other.pieces(begin)), 12))
    since = begin
    for rate, until in both:
        middle = since + 1e-3 if until == inf else (since + until) / 2
        assert rate == min(next(one.pieces(middle))[0], next(other.pieces(middle))[0])
        assert until > since
        since = until


@settings(max_examples=100)
@given(rate=stepwise_rates(), size=st.floats(1.0, 1e3), factor=st.sampled_from([0.25, 0.5, 2.0, 8.0]))
def test_time_scales(rate, size, factor):
    scaled = StepwiseRate(rate.starts_s * factor, rate.bytes_per_s / factor, rate.period_s * factor)
    assert scaled.arrival_s(0.0, size) == pytest.approx(rate.arrival_s(0.0, size) * factor, rel=1e-12)


@pytest.mark.parametrize(
    ("starts", "rates", "period"),
    [
        ([1.0], [1.0], inf),
        ([], [], inf),
        ([0.0, 1.0], [1.0], inf),
        ([0.0, 0.0], [1.0, 1.0], inf),
        ([0.0, 2.0], [1.0, 2.0], 2.0),
        ([0.0], [-1.0], inf),
        ([0.0], [nan], inf),
        ([0.0, 1.0], [0.0, 0.0], 2.0),
        ([0.0, 1.0], [1.0, 0.0], inf),
    ],
)
def test_impossible_steps_are_refused(starts, rates, period):
    with pytest.raises(EmulationError, match="expected"):
        StepwiseRate(starts, rates, period)


def test_what_never_ends_is_refused():
    with pytest.raises(EmulationError, match="never ends"):
        arrival_of(0.0, 5.0, iter([(1.0, 2.0), (0.0, inf)]))
