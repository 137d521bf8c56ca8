"""Max-min fair link sharing against SimGrid's results, an exact fluid model, and what must hold of any."""

import json
from fractions import Fraction
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.link_sharing import finish_times


def test_agrees_with_simgrid(golden_dir):
    golden_cases = json.loads((golden_dir / "link_sharing.json").read_text())["cases"]
    assert {case["direction"] for case in golden_cases} == {"up", "down"}
    for case in golden_cases:
        link, server = {"up": ("uplink", "ingress"), "down": ("downlink", "egress")}[case["direction"]]
        column = {key: np.array([c[key] for c in case["clients"]]) for key in case["clients"][0]}
        finish = finish_times(
            column["start_s"],
            column["latency_s"],
            column["bytes"],
            column[f"{link}_bytes_per_s"],
            case[f"server_{server}_bytes_per_s"],
        )
        np.testing.assert_allclose(finish, column["finish_s"], rtol=1e-9)


def exact_finish_times(begin, size, own, capacity):
    """The fluid model in rational numbers, water filling anew at every event: slow, and without rounding."""
    begin, own = [Fraction(x) for x in begin], [Fraction(x) for x in own]
    left = [Fraction(x) for x in size]
    capacity = Fraction(capacity)
    finish = {i: begin[i] for i in range(len(size)) if left[i] == 0}
    now = min(begin)
    while len(finish) < len(size):
        moving = [i for i in range(len(size)) if begin[i] <= now and i not in finish]
        rates, free = {}, capacity
        for position, i in enumerate(sorted(moving, key=lambda i: own[i])):
            rates[i] = min(own[i], free / (len(moving) - position))
            free -= rates[i]
        events = [now + left[i] / rates[i] for i in moving]
        events += [begin[i] for i in range(len(size)) if begin[i] > now]
        then = min(events)
        for i in moving:
            left[i] -= rates[i] * (then - now)
            if left[i] == 0:
                finish[i] = then
        now = then
    return [float(finish[i]) for i in range(len(size))]


# Few distinct values, so that equal transfers, simultaneous events and rates equal to a share are common.
moments = st.one_of(st.integers(0, 4).map(float), st.floats(0.0, 100.0))
sizes = st.one_of(st.integers(0, 4).map(lambda n: 100.0 * n), st.floats(1e-3, 1e6))
rates = st.one_of(st.integers(1, 4).map(lambda n: 50.0 * n), st.floats(1.0, 1e5))
transfers = st.lists(st.tuples(moments, sizes, rates), min_size=1, max_size=12)


def columns(drawn):
    return [np.array(column) for column in zip(*drawn, strict=True)]


@given(drawn=transfers, capacity=rates)
def test_agrees_with_the_exact_fluid_model(drawn, capacity):
    begin, size, own = columns(drawn)
    finish = finish_times(begin, 0.0, size, own, capacity)
    np.testing.assert_allclose(finish, exact_finish_times(begin, size, own, capacity), rtol=1e-9, atol=1e-12)


@given(drawn=transfers, capacity=rates, data=st.data())
def test_the_order_of_transfers_does_not_matter_to_the_last_bit(drawn, capacity, data):
    begin, size, own = columns(drawn)
    order = np.array(data.draw(st.permutations(range(len(begin)))))
    finish = finish_times(begin, 0.25, size, own, capacity)
    permuted = finish_times(begin[order], 0.25, size[order], own[order], capacity)
    np.testing.assert_array_equal(permuted, finish[order])


@given(drawn=transfers, capacity=rates)
def test_never_faster_than_alone_and_equal_transfers_end_together(drawn, capacity):
    begin, size, own = columns(drawn)
    finish = finish_times(begin, 0.0, size, own, capacity)
    alone = begin + size / np.minimum(own, capacity)
    assert (finish >= alone * (1 - 1e-12)).all()
    ends = {}
    for key, end in zip(drawn, finish.tolist(), strict=True):
        assert ends.setdefault(key, end) == end


@given(drawn=transfers, capacity=rates, more=st.floats(1.0, 10.0))
def test_a_faster_server_delays_nobody(drawn, capacity, more):
    begin, size, own = columns(drawn)
    slow = finish_times(begin, 0.0, size, own, capacity)
    fast = finish_times(begin, 0.0, size, own, capacity * more)
    assert (fast <= slow * (1 + 1e-11)).all()


@given(drawn=transfers, capacity=rates)
def test_the_server_link_is_full_while_anybody_could_use_it(drawn, capacity):
    """With own links that never bind, the link serves at capacity from each beginning until all is served."""
    begin, size, _ = columns(drawn)
    finish = finish_times(begin, 0.0, size, np.full(len(begin), inf), capacity)
    busy_until = -inf
    for moment, volume in sorted(zip(begin.tolist(), size.tolist(), strict=True)):
        busy_until = max(busy_until, moment) + volume / capacity
    assert finish.max() == pytest.approx(max(busy_until, begin.max()), rel=1e-9)


def test_shares_are_equal_unless_the_own_link_is_slower():
    # 30 is shared as 5 (own link) + 12.5 + 12.5; after 2 s the slow one is alone.
    finish = finish_times([0, 0, 0], 0, [20, 25, 25], [5, 40, 100], 30)
    np.testing.assert_allclose(finish, [4.0, 2.0, 2.0], rtol=1e-15)


def test_latency_delays_the_bytes_not_the_rate():
    np.testing.assert_array_equal(finish_times([1.0], [0.5], [10.0], [10.0], inf), [2.5])
    # The second begins when the first has half of its bytes left, and both then share.
    np.testing.assert_allclose(finish_times([0, 0], [0, 1], [20, 10], [10, 10], 10), [3.0, 3.0], rtol=1e-15)


@pytest.mark.parametrize("capacity", [5.0, inf])
def test_nothing_to_move_ends_with_the_wait(capacity):
    np.testing.assert_array_equal(finish_times([1, 2], 0.5, [0, 0], [3, inf], capacity), [1.5, 2.5])


def test_infinite_rates():
    np.testing.assert_array_equal(finish_times([1.0, 2.0], 0.0, [7.0, 9.0], inf, inf), [1.0, 2.0])
    np.testing.assert_allclose(finish_times([0, 0], 0, [10, 30], inf, 10), [2.0, 4.0], rtol=1e-15)
    # An own link without limit beside a slow one.
    np.testing.assert_allclose(finish_times([0, 0], 0, [4, 16], [1, inf], 5), [4.0, 4.0], rtol=1e-15)


def test_no_transfers():
    assert finish_times([], [], [], [], 5.0).shape == (0,)


def test_a_thousand_transfers_agree_with_the_fluid_model_on_the_whole():
    rng = np.random.default_rng(5)
    begin, size, own = rng.random(1000) * 20, rng.random(1000) * 1e6, rng.lognormal(11, 1, 1000)
    finish = finish_times(begin, 0.0, size, own, own.sum() / 4)
    alone = finish_times(begin, 0.0, size, own, inf)
    assert (finish >= alone * (1 - 1e-12)).all()
    # What has been delivered at any moment could have passed the link since the first beginning.
    order = np.argsort(finish)
    assert (np.cumsum(size[order]) <= own.sum() / 4 * (finish[order] - begin.min()) * (1 + 1e-9)).all()
    np.testing.assert_array_equal(finish_times(begin, 0.0, size, own, own.sum() * 2), alone)


@pytest.mark.parametrize("bad", [0.0, -1.0, nan])
def test_rates_must_be_positive(bad):
    with pytest.raises(EmulationError, match=r"own_bytes_per_s: .* for transfer 1"):
        finish_times([0, 0], 0, [1, 1], [1, bad], 5.0)
    with pytest.raises(EmulationError, match="shared_bytes_per_s"):
        finish_times([0, 0], 0, [1, 1], [1, 1], bad)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        (([0], [-1], [1], [1], 1), "latency_s"),
        (([0], [inf], [1], [1], 1), "latency_s"),
        (([nan], [0], [1], [1], 1), "start_s"),
        (([0], [0], [-1], [1], 1), "transfer_bytes"),
        (([0], [0], [inf], [1], 1), "transfer_bytes"),
        (([0], [0], [nan], [1], 1), "transfer_bytes"),
        (([[0]], [0], [0], [1], 1), "shape"),
    ],
)
def test_impossible_transfers_are_refused(arguments, name):
    with pytest.raises(EmulationError, match=name):
        finish_times(*arguments)
