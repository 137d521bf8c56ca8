"""Many rates at once: what single ones give, to the last bit, and whether all together fit into a link."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_stepwise import SIZES, stepwise_rates

from fedmpi.emulation.rate_table import RateTable
from fedmpi.emulation.stepwise import StepwiseRate

drawn = st.lists(
    st.tuples(stepwise_rates(), st.floats(0.0, 50.0), SIZES, st.floats(0.0, 99.0)), min_size=1, max_size=6
)


@settings(max_examples=100)
@given(transfers=drawn, data=st.data())
def test_arrivals_are_those_of_single_rates_to_the_last_bit(transfers, data):
    rates = [rate for rate, _, _, _ in transfers]
    which = np.array([data.draw(st.integers(0, len(rates) - 1)) for _ in transfers])
    begin, size, shift = np.array([transfer[1:] for transfer in transfers]).T
    found = RateTable.of(rates).arrival_s(which, begin, size, shift)
    assert found.tolist() == [
        rates[r].arrival_s(b, s, more) for r, b, s, more in zip(which, begin, size, shift, strict=True)
    ]


def together(rates, begin, end, shift, moment):
    """What all move at ``moment``, by looking at each."""
    return sum(
        next(rate.pieces(moment, ahead))[0]
        for rate, since, until, ahead in zip(rates, begin, end, shift, strict=True)
        if since <= moment < until
    )


@settings(max_examples=100)
@given(
    transfers=st.lists(
        st.tuples(stepwise_rates(), st.integers(0, 40), st.integers(1, 80), st.integers(0, 40)),
        min_size=1,
        max_size=6,
    ),
    capacity=st.sampled_from([9.0, 10.0, 20.0, 33.3, 40.0, 63.3, 100.0]),
)
def test_all_fit_where_they_do_at_every_moment(transfers, capacity):
    """Moments are quarters of a second, and steps but for some of 2.7 s: looked at in between."""
    rates = [rate for rate, _, _, _ in transfers]
    begin, lasts, shift = np.array([transfer[1:] for transfer in transfers]).T / 4.0
    end = begin + lasts
    steps = {
        until
        for rate, since, last, ahead in zip(rates, begin, end, shift, strict=True)
        for _, until in taken(rate.pieces(since, ahead), last)
    }
    moments = np.array(sorted({*begin, *end, *steps}))
    middles = (moments[1:] + moments[:-1]) / 2
    most = max(
        together(rates, begin, end, shift, middle)
        for middle, wide in zip(middles, np.diff(moments) > 1e-9, strict=True)
        if wide
    )
    ones = np.ones(len(rates), np.int64)
    fits = RateTable.of(rates).fit_into(capacity, np.arange(len(rates)), begin, end, shift, ones)
    assert fits == (most <= capacity * (1 - 1e-11)) or abs(most / capacity - 1) < 1e-11 or hardly(moments)


def taken(pieces, last):
    for rate, until in pieces:
        yield rate, until
        if until >= last:
            return


def hardly(moments):
    """Whether two moments differ by rounding alone, where both answers are right."""
    return bool(((np.diff(moments) < 1e-9) & (np.diff(moments) > 0.0)).any())


def test_all_fit_into_exactly_what_they_need():
    table = RateTable.of([StepwiseRate([0.0, 1.0], [8.0, 4.0], 2.0), StepwiseRate.constant(8.0)])
    which, zeros, ends, ones = np.array([0, 1]), np.zeros(2), np.array([3.0, 3.0]), np.array([1, 1])
    assert table.fit_into(16.0, which, zeros, ends, zeros, ones)
    assert not table.fit_into(15.99, which, zeros, ends, zeros, ones)
    assert table.fit_into(12.0, which, np.array([1.0, 1.0]), np.array([2.0, 3.0]), zeros, ones)
    assert not table.fit_into(11.99, which, np.array([1.0, 1.0]), np.array([2.0, 3.0]), zeros, ones)
    assert not table.fit_into(12.0, which, np.array([1.0, 1.0]), np.array([2.1, 3.0]), zeros, ones)
    assert table.fit_into(32.0, which, zeros, ends, zeros, np.array([3, 1]))
    assert not table.fit_into(31.99, which, zeros, ends, zeros, np.array([3, 1]))
    # One begins when the other ends.
    assert table.fit_into(8.0, which, np.array([0.0, 1.0]), np.array([1.0, 3.0]), zeros, ones)


def test_too_many_steps_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmpi.emulation.rate_table._MOST_STEPS", 5)
    table = RateTable.of([StepwiseRate([0.0, 1.0], [8.0, 4.0], 2.0)])
    one, zero, weight = np.array([0]), np.zeros(1), np.array([1])
    assert table.fit_into(8.0, one, zero, np.array([4.5]), zero, weight)
    assert not table.fit_into(8.0, one, zero, np.array([5.5]), zero, weight)
