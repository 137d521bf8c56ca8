"""The engine over events: against SimGrid, against water filling at every event, and what must hold of any."""

import heapq
import json
from itertools import cycle
from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_stepwise import stepwise_rates

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.link_sharing import finish_times
from fedmpi.emulation.shared_link import SharedLink
from fedmpi.emulation.stepwise import StepwiseRate, arrival_of


def ends_of(capacity, transfers):
    """When ``transfers`` (begin, bytes, rate) end, in their order."""
    link = SharedLink(capacity)
    numbers = [link.add(begin, size, rate.pieces(begin)) for begin, size, rate in transfers]
    ended = dict(reversed(pair) for pair in link.advance())
    return [ended[number] for number in numbers]


def test_agrees_with_simgrid_on_rates_that_vary(golden_dir):
    cases = json.loads((golden_dir / "link_traces.json").read_text())["cases"]
    assert {case["server_bytes_per_s"] is None for case in cases} == {True, False}
    for case in cases:
        transfers = []
        for client in case["clients"]:
            starts, rates = np.array(client["steps"]).T
            rate = StepwiseRate(starts, rates, client["period_s"] or inf)
            transfers.append((client["start_s"] + client["latency_s"], client["bytes"], rate))
        ends = ends_of(case["server_bytes_per_s"] or inf, transfers)
        np.testing.assert_allclose(ends, [client["finish_s"] for client in case["clients"]], rtol=1e-9)


def test_agrees_with_simgrid_on_constant_rates(golden_dir):
    for case in json.loads((golden_dir / "link_sharing.json").read_text())["cases"]:
        link, server = {"up": ("uplink", "ingress"), "down": ("downlink", "egress")}[case["direction"]]
        transfers = [
            (
                client["start_s"] + client["latency_s"],
                client["bytes"],
                StepwiseRate.constant(client[f"{link}_bytes_per_s"]),
            )
            for client in case["clients"]
        ]
        ends = ends_of(case[f"server_{server}_bytes_per_s"], transfers)
        np.testing.assert_allclose(ends, [client["finish_s"] for client in case["clients"]], rtol=1e-9)


def test_asynchronous_rounds_stand_on_it(golden_dir):
    """Two links and a heap of other events are all that SimGrid's buffered steps need."""
    for case in json.loads((golden_dir / "async_rounds.json").read_text())["cases"]:
        arrivals, steps = buffered_steps(case)
        assert [arrival[:2] for arrival in arrivals] == [
            (expected["client"], expected["version"]) for expected in case["arrivals"]
        ]
        moments = [
            [expected[name] for name in ("begin_s", "downloaded_s", "trained_s", "arrival_s")]
            for expected in case["arrivals"]
        ]
        np.testing.assert_allclose([arrival[2:] for arrival in arrivals], moments, rtol=1e-9)
        np.testing.assert_allclose(steps, case["steps"], rtol=1e-9)


def buffered_steps(case):
    """(client, version, begin, downloaded, trained, arrival) of each arrival, and the moments of server steps."""
    clients = {client["client"]: client for client in case["clients"]}
    down = SharedLink(case["server_egress_bytes_per_s"] or inf, now_s=0.0)
    up = SharedLink(case["server_ingress_bytes_per_s"] or inf, now_s=0.0)
    order, flights, moving, trained, arrivals, steps = list(case["order"]), {}, {}, [], [], []
    buffered = 0

    def start(link, name, client, now):
        begin = now + clients[client]["latency_s"]
        rate = StepwiseRate.constant(clients[client][f"{name}link_bytes_per_s"])
        moving[name, link.add(begin, clients[client][f"bytes_{name}"], rate.pieces(begin))] = client

    def replace(now):
        client = next(client for client in order if client not in flights)
        order.remove(client)
        flights[client] = [len(steps), now]
        start(down, "down", client, now)

    for _ in range(case["concurrency"]):
        replace(0.0)
    while len(steps) < case["server_steps"]:
        now = min(down.next_event_s(), up.next_event_s(), trained[0][0] if trained else inf)
        for moment, number in down.advance(now):
            client = moving["down", number]
            flights[client].append(moment)
            heapq.heappush(trained, (moment + clients[client]["compute_s"], client))
        for moment, client in sorted((moment, moving["up", number]) for moment, number in up.advance(now)):
            arrivals.append((client, *flights.pop(client), moment))
            buffered += 1
            if buffered == case["buffer"]:
                buffered = 0
                steps.append(moment)
            if len(steps) < case["server_steps"]:
                replace(moment)
        while trained and trained[0][0] <= now:
            moment, client = heapq.heappop(trained)
            flights[client].append(moment)
            start(up, "up", client, moment)
    return arrivals, steps


def filled_anew(capacity, transfers):
    """The same model as plainly as it can be written: between any two events every rate is constant."""
    left = [size for _, size, _ in transfers]
    ends = [begin if size == 0 else None for begin, size, _ in transfers]
    now = min(begin for begin, _, _ in transfers)
    while None in ends:
        moving = [i for i in range(len(left)) if ends[i] is None and transfers[i][0] <= now]
        pieces = {i: next(transfers[i][2].pieces(now)) for i in moving}
        events = [begin for begin, _, _ in transfers if begin > now] + [until for _, until in pieces.values()]
        rates, free = {}, capacity
        for position, i in enumerate(sorted(moving, key=lambda i: pieces[i][0])):
            rates[i] = min(pieces[i][0], free / (len(moving) - position))
            free -= rates[i]
        assert sum(rates.values()) <= capacity * (1 + 1e-12)
        events += [now + left[i] / rates[i] for i in moving if rates[i] > 0]
        then = min(events)
        for i in moving:
            left[i] -= rates[i] * (then - now)
            if left[i] <= 1e-9 * transfers[i][1]:
                ends[i] = then
        now = then
    return ends


moments = st.one_of(st.integers(0, 4).map(float), st.floats(0.0, 20.0))
sizes = st.one_of(st.integers(0, 4).map(lambda n: 10.0 * n), st.floats(1.0, 300.0))
drawn_transfers = st.lists(st.tuples(moments, sizes, stepwise_rates()), min_size=1, max_size=8)
capacities = st.one_of(st.integers(1, 5).map(lambda n: 12.5 * n), st.floats(1.0, 200.0), st.just(inf))


@given(transfers=drawn_transfers, capacity=capacities)
def test_agrees_with_water_filling_at_every_event(transfers, capacity):
    # A billionth of a transfer left before a stall may or may not wait for its end: both are right.
    ends, expected = ends_of(capacity, transfers), filled_anew(capacity, transfers)
    for end, other, (begin, size, rate) in zip(ends, expected, transfers, strict=True):
        if end != pytest.approx(other, rel=1e-9):
            more = ends_of(capacity, [(b, s * (1 + 1e-7 * (s == size)), r) for b, s, r in transfers])
            less = ends_of(capacity, [(b, s * (1 - 1e-7 * (s == size)), r) for b, s, r in transfers])
            assert min(less) - 1e-6 <= end <= max(more) + 1e-6
            assert min(less) - 1e-6 <= other <= max(more) + 1e-6
            assert rate.longest_stall_s > 0.0 or begin >= 0.0


@given(transfers=drawn_transfers, capacity=capacities, data=st.data())
def test_the_order_of_additions_does_not_matter_to_the_last_bit(transfers, capacity, data):
    order = data.draw(st.permutations(range(len(transfers))))
    ends = ends_of(capacity, transfers)
    assert ends_of(capacity, [transfers[i] for i in order]) == [ends[i] for i in order]


def test_a_loop_that_ends_as_it_begins_does_not_make_the_order_matter():
    """A step to the same rate at the loop's end is none, alone or with other events at its moment."""
    steps = [
        (0.0, 289.8028190401592, [0.0, 1.0, 4.7, 5.2], [20.0, 33.3, 80.0, 33.3], 5.7),
        (0.0, 20.0, [0.0], [33.3], 0.5),
        (2.0, 20.0, [0.0, 1.0, 3.7, 6.4], [80.0, 10.0, 80.0, 20.0], 6.9),
        (2.0, 20.0, [0.0, 2.95], [80.0, 20.0], 5.65),
        (2.0, 20.0, [0.0], [33.3], 1.5),
        (2.0, 355.78034400694963, [0.0], [10.0], 4.45),
        (4.68538193834193, 20.0, [0.0], [33.3], 1.0),
        (1.0, 20.0, [0.0], [33.3], 0.5),
        (1.0, 328.1128421094884, [0.0, 1.0, 3.7, 3.95, 4.2], [10.0, 20.0, 80.0, 10.0, 80.0], 6.9),
        (1.0, 267.8245059827691, [0.0, 1.0, 3.7], [10.0, 33.3, 10.0], 6.4),
    ]
    transfers = [
        (begin, size, StepwiseRate(starts, rates, period)) for begin, size, starts, rates, period in steps
    ]
    order = [8, 5, 1, 3, 7, 9, 2, 4, 6, 0]
    ends = ends_of(79.48623431346715, transfers)
    assert ends_of(79.48623431346715, [transfers[i] for i in order]) == [ends[i] for i in order]


@given(
    transfers=drawn_transfers,
    capacity=capacities,
    parts=st.lists(st.floats(0.0, 1.0, exclude_min=True, exclude_max=True), min_size=1, max_size=4),
)
def test_splitting_steps_in_two_changes_nothing(transfers, capacity, parts):
    """Each step of every rate, at one of ``parts`` of it."""

    def split(begin, pieces):
        for (rate, until), part in zip(pieces, cycle(parts), strict=False):
            middle = begin + part * ((until if until < inf else begin + 2.0) - begin)
            if begin < middle < until:
                yield rate, middle
            yield rate, until
            begin = until

    link = SharedLink(capacity)
    for begin, size, rate in transfers:
        link.add(begin, size, split(begin, rate.pieces(begin)))
    ends = dict(reversed(pair) for pair in link.advance())
    whole = ends_of(capacity, transfers)
    # What is left before a stall, a billionth of the transfer, may or may not wait for its end.
    if not any((rate.bytes_per_s == 0.0).any() for _, _, rate in transfers):
        np.testing.assert_allclose([ends[i] for i in range(len(whole))], whole, rtol=1e-9)
    alone = [arrival_of(b, s, split(b, r.pieces(b))) for b, s, r in transfers if r.longest_stall_s == 0.0]
    expected = [r.arrival_s(b, s) for b, s, r in transfers if r.longest_stall_s == 0.0]
    np.testing.assert_allclose(alone, expected, rtol=1e-9)


@given(transfers=drawn_transfers, capacity=capacities, stops=st.lists(st.floats(0.0, 60.0), max_size=4))
def test_stopping_in_between_and_adding_late_changes_nothing(transfers, capacity, stops):
    """Transfers are added when they begin, and the link is looked at in between."""
    link, ended, numbers = SharedLink(capacity), [], {}
    for moment in sorted({*stops, *(begin for begin, _, _ in transfers)}):
        ended += link.advance(np.nextafter(moment, -inf))
        for index, (begin, size, rate) in enumerate(transfers):
            if begin == moment:
                numbers[link.add(begin, size, rate.pieces(begin))] = index
        ended += link.advance(moment)
    ended += link.advance()
    ends = ends_of(capacity, transfers)
    assert {numbers[number]: moment for moment, number in ended} == dict(enumerate(ends))
    assert [moment for moment, _ in ended] == sorted(ends)


@given(
    transfers=st.lists(st.tuples(moments, sizes, stepwise_rates()), min_size=1, max_size=8),
    capacity=capacities,
    factor=st.sampled_from([0.5, 2.0, 4.0]),
)
def test_time_scales(transfers, capacity, factor):
    """By a power of two, to the last bit."""
    scaled = [
        (
            begin * factor,
            size,
            StepwiseRate(rate.starts_s * factor, rate.bytes_per_s / factor, rate.period_s * factor),
        )
        for begin, size, rate in transfers
    ]
    np.testing.assert_allclose(
        ends_of(capacity / factor, scaled), np.array(ends_of(capacity, transfers)) * factor, rtol=1e-12
    )


@given(transfers=drawn_transfers, capacity=capacities, until=st.floats(0.1, 30.0))
def test_the_link_never_carries_more_than_it_can(transfers, capacity, until):
    link = SharedLink(capacity)
    numbers = [link.add(begin, size, rate.pieces(begin)) for begin, size, rate in transfers]
    before = np.zeros(len(numbers))
    for moment in (until / 2, until, until * 1.5):
        link.advance(moment)
        moved = np.array([link.moved_bytes(number) for number in numbers])
        assert (moved >= before - 1e-9).all()
        assert (moved <= [size for _, size, _ in transfers]).all()
        assert (moved - before).sum() <= capacity * (until / 2) * (1 + 1e-9) + 1e-9
        peaks = [rate.peak_bytes_per_s for _, _, rate in transfers]
        assert (
            moved - before <= np.array(peaks) * until / 2 * (1 + 1e-9) + 1e-9
        ).all() or moment == until / 2
        before = moved


def test_constant_rates_agree_with_the_solver_for_them():
    rng = np.random.default_rng(5)
    begin, size, own = rng.random(300) * 20, rng.random(300) * 1e6, rng.lognormal(11, 1, 300)
    for share in (0.9, 3, 10):
        capacity = own.sum() / share
        transfers = zip(begin.tolist(), size.tolist(), map(StepwiseRate.constant, own), strict=True)
        np.testing.assert_allclose(
            ends_of(capacity, list(transfers)), finish_times(begin, 0.0, size, own, capacity), rtol=1e-10
        )


def test_long_transfers_share_what_steps_of_one_leave_them():
    """Four that take all they get, from one moment on, beside one whose own rate steps every second."""
    steps = StepwiseRate([0.0, 1.0, 2.0], [2.0, 5.0, 3.0], 3.0)
    transfers = [(0.0, 60.0, steps), *[(1.5, 400.0 + n, StepwiseRate.constant(inf)) for n in range(4)]]
    np.testing.assert_allclose(ends_of(100.0, transfers), filled_anew(100.0, transfers), rtol=1e-12)


def test_a_weight_is_so_many_equal_transfers():
    rate = StepwiseRate([0.0, 1.0], [10.0, 2.0], 2.0)
    other = StepwiseRate.constant(7.0)
    link = SharedLink(20.0)
    link.add(0.0, 30.0, rate.pieces(0.0), weight=3)
    link.add(0.5, 30.0, other.pieces(0.5))
    ends = [moment for moment, _ in sorted(link.advance(), key=lambda pair: pair[1])]
    expected = ends_of(20.0, [(0.0, 30.0, rate)] * 3 + [(0.5, 30.0, other)])
    np.testing.assert_allclose(ends, [expected[0], expected[3]], rtol=1e-12)


def test_what_is_removed_leaves_its_share_to_the_others():
    link = SharedLink(10.0)
    stays, leaves = (link.add(0.0, 100.0, StepwiseRate.constant(inf).pieces(0.0)) for _ in range(2))
    assert link.advance(4.0) == []
    assert link.moved_bytes(stays) == 20.0
    assert link.remove(leaves) == 20.0
    assert link.advance() == [(12.0, stays)]
    assert link.moved_bytes(leaves) == 20.0
    waits = link.add(20.0, 5.0, StepwiseRate.constant(1.0).pieces(20.0))
    assert link.next_event_s() == 20.0
    assert link.remove(waits) == 0.0
    assert link.next_event_s() == inf
    assert link.advance(30.0) == []


def test_impossible_transfers_are_refused():
    with pytest.raises(EmulationError, match="shared_bytes_per_s"):
        SharedLink(0.0)
    link = SharedLink(1.0)
    link.advance(5.0)
    with pytest.raises(EmulationError, match=r"begin_s: 4\.0 found"):
        link.add(4.0, 1.0, StepwiseRate.constant(1.0).pieces(4.0))
    with pytest.raises(EmulationError, match=r"size_bytes: -1\.0 found"):
        link.add(6.0, -1.0, StepwiseRate.constant(1.0).pieces(6.0))
    link.add(6.0, 5.0, iter([(1.0, 7.0), (0.0, inf)]))
    with pytest.raises(EmulationError, match="never ends"):
        link.advance()
