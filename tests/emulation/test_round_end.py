"""The end of a round: who is in time, late or dropped."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.emulation_schema import EmulationConfig, NetworkConfig
from fedmpi.config.schema import ClientsConfig, Config
from fedmpi.emulation.devices import assign
from fedmpi.emulation.round_end import EndRule, drawn_dropouts, ended_round, round_end
from fedmpi.emulation.timeline import round_timeline

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
        ([3, 1, inf, 2], [inf, inf, 9.0, inf], {"wanted": 3}, (3.0, "iili")),  # as many as are wanted
        ([3, 1, inf, 2], [inf, inf, 9.0, inf], {"wanted": 4}, (9.0, "iidi")),
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


def test_decimals_that_add_up_to_the_deadline_are_in_time():
    arrival = 0.05 + 0.5 + 0.05
    assert arrival > 0.6
    assert ended([arrival, 0.3], [inf, inf], deadline_s=0.6) == (arrival, "ii")
    assert ended([0.6 + 1e-9, 0.3], [inf, inf], deadline_s=0.6) == (0.6, "li")


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


def a_round(clients, rule=None, leaves=None, fractions=None, **network):
    """1 MB down and up for everybody, 1 s of training; 8 Mbit/s are 1 MB/s."""
    links = NetworkConfig(**{"uplink_mbit_per_s": 8.0, "downlink_mbit_per_s": 8.0, **network})
    config = Config(clients=ClientsConfig(count=clients), emulation=EmulationConfig(network=links))
    fleet = assign(config, 0)

    def simulate(stop_s):
        return round_timeline(
            100.0, fleet, np.arange(clients), 1_000_000, np.ones(clients), 1_000_000, stop_s=stop_s
        )

    nobody = np.full(clients, inf)
    return ended_round(
        simulate,
        rule or EndRule(),
        nobody if leaves is None else np.array(leaves, float),
        nobody if fractions is None else np.array(fractions, float),
    )


def test_a_late_participant_is_charged_up_to_the_deadline():
    timeline, end = a_round(3, EndRule(deadline_s=3.25), uplink_mbit_per_s=(8.0, 4.0, 0.8))
    np.testing.assert_allclose(timeline.download_s, 1.0)
    np.testing.assert_allclose(timeline.compute_s, 1.0)
    np.testing.assert_allclose(timeline.upload_s, [1.0, 1.25, 1.25])
    np.testing.assert_allclose(timeline.wait_s, [0.25, 0.0, 0.0], atol=1e-12)
    assert timeline.bytes_up.tolist() == [1_000_000, 625_000, 125_000]
    assert timeline.bytes_up.dtype == np.int64
    assert (timeline.duration_s, timeline.end_s) == (3.25, 103.25)
    assert end.late.tolist() == [False, True, True]
    assert timeline.trained.all()


def test_it_may_be_stopped_in_its_training_or_download():
    timeline, _ = a_round(2, EndRule(deadline_s=1.5), downlink_mbit_per_s=(8.0, 4.0))
    assert timeline.downloaded.tolist() == [True, False]
    assert not timeline.trained.any()
    assert timeline.bytes_down.tolist() == [1_000_000, 750_000]
    assert timeline.bytes_up.tolist() == [0, 0]
    np.testing.assert_allclose(timeline.compute_s, [0.5, 0.0])
    np.testing.assert_allclose(timeline.work_s, 1.5)


def test_one_that_leaves_as_it_arrives_has_arrived():
    """Moments are known to some 1e-14 s of 100: a client whose interval ends then is no sooner gone."""
    for beside_s in (1e-12, 0.0, -1e-12):
        timeline, end = a_round(2, leaves=[3.0 + beside_s, 2.5])
        assert end.in_time.tolist() == [True, False]
        assert timeline.arrived.tolist() == [True, False]
        assert timeline.bytes_up.tolist() == [1_000_000, 500_000]
        assert timeline.duration_s == pytest.approx(3.0)
        assert timeline.wait_s[0] >= 0.0
    assert a_round(2, leaves=[3.0 - 1e-9, inf])[1].dropped.tolist() == [True, False]


def test_one_that_leaves_gives_its_share_of_the_link_to_the_others():
    """Both share 1 MB/s up from 2 s on; at 3 s client 1 is gone, after 0.5 MB."""
    timeline, end = a_round(2, leaves=[inf, 3.0], server_ingress_mbit_per_s=8.0)
    assert end.dropped.tolist() == [False, True]
    np.testing.assert_allclose(timeline.upload_s, [1.5, 1.0])
    assert timeline.bytes_up.tolist() == [1_000_000, 500_000]
    assert timeline.duration_s == pytest.approx(3.5)


def test_one_that_vanishes_does_so_at_a_fraction_of_its_round():
    timeline, end = a_round(3, fractions=[0.5, inf, 0.0])
    np.testing.assert_allclose(timeline.work_s, [1.5, 3.0, 0.0])
    assert end.dropped.tolist() == [True, False, True]
    assert end.duration_s == 3.0
    np.testing.assert_allclose(timeline.wait_s, [0.0, 0.0, 0.0])


def test_what_never_binds_changes_nothing():
    links = {"server_ingress_mbit_per_s": 10.0, "uplink_mbit_per_s": (1.7, 2.3, 3.1, 0.9), "latency_s": 0.013}
    plain, _ = a_round(4, **links)
    bound, end = a_round(4, EndRule(1e6, 4), [1e5] * 4, **links)
    assert end.in_time.all()
    for name in ("download_s", "compute_s", "upload_s", "wait_s", "bytes_up", "duration_s"):
        np.testing.assert_array_equal(getattr(plain, name), getattr(bound, name))


@given(seed=st.integers(0, 10**6))
def test_seconds_and_bytes_of_any_round(seed):
    rng = np.random.default_rng(seed)
    clients = int(rng.integers(1, 7))
    rule = EndRule(float(rng.choice([inf, rng.uniform(0.1, 6)])), int(rng.integers(0, clients + 1)))
    leaves = np.where(rng.random(clients) < 0.3, rng.uniform(0, 6, clients), inf)
    fractions = np.where(rng.random(clients) < 0.3, rng.random(clients), inf)
    network = {
        "uplink_mbit_per_s": tuple(rng.uniform(2, 20, clients).tolist()),
        "server_ingress_mbit_per_s": float(rng.uniform(3, 50)),
        "server_egress_mbit_per_s": float(rng.uniform(8, 50)),
        "latency_s": float(rng.uniform(0, 0.2)),
    }
    timeline, end = a_round(clients, rule, leaves, fractions, **network)
    assert (timeline.work_s <= timeline.duration_s + 1e-9).all()
    np.testing.assert_allclose((timeline.work_s + timeline.wait_s)[end.in_time], timeline.duration_s)
    assert (timeline.bytes_up[end.in_time] == 1_000_000).all()
    assert ((timeline.bytes_down >= 0) & (timeline.bytes_down <= 1_000_000)).all()
    assert (timeline.bytes_up[~timeline.trained] == 0).all()
    assert (timeline.trained <= timeline.downloaded).all()
    assert (timeline.arrived <= timeline.trained).all()
    stopped = ~timeline.arrived
    np.testing.assert_allclose(timeline.work_s[stopped & end.late], timeline.duration_s)


def test_a_round_that_all_end_in_time_is_the_one_that_was_simulated():
    """To the last bit: sums of its parts are rounded otherwise than its ends."""
    fleet = assign(Config(clients=ClientsConfig(count=2)), 0)
    timeline = round_timeline(0.0, fleet, np.arange(2), 10, np.array([0.1, 0.3]), 10)
    nobody = np.full(2, inf)
    found, end = ended_round(lambda stop_s: timeline, EndRule(0.5, 2), nobody, nobody)
    assert found is timeline
    assert end.in_time.all()
