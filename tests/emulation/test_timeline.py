"""Rounds in emulated time."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.config.emulation_schema import EmulationConfig, NetworkConfig
from fedmpi.config.schema import ClientsConfig, Config
from fedmpi.emulation.devices import assign
from fedmpi.emulation.jitter import TRANSFERS, draw_jitter
from fedmpi.emulation.timeline import round_timeline


def fleet(clients, **network):
    return assign(
        Config(
            clients=ClientsConfig(count=clients), emulation=EmulationConfig(network=NetworkConfig(**network))
        ),
        0,
    )


def test_a_round_by_hand():
    """1 MB/s down, 0.5 MB/s up, 0.1 s latency; the server takes no more than 0.6 MB/s."""
    devices = fleet(
        3, uplink_mbit_per_s=4.0, downlink_mbit_per_s=8.0, latency_s=0.1, server_ingress_mbit_per_s=4.8
    )
    timeline = round_timeline(
        50.0, devices, np.array([0, 2]), bytes_down=1_000_000, compute_s=[2.0, 3.0], bytes_up=1_000_000
    )
    np.testing.assert_allclose(timeline.download_s, [1.1, 1.1])
    np.testing.assert_allclose(timeline.compute_s, [2.0, 3.0])
    # Client 0 sends alone from 3.2 to 4.2 (0.5 MB), then both share 0.6 MB/s: 0.5 MB take until 5.8667;
    # client 2 has then sent as much, and sends the rest at its own 0.5 MB/s.
    np.testing.assert_allclose(timeline.upload_s, [0.1 + 1 + 0.5 / 0.3, 0.1 + 0.5 / 0.3 + 1.0])
    np.testing.assert_allclose(timeline.wait_s, [1.0, 0.0], atol=1e-12)
    assert timeline.end_s == pytest.approx(50 + 4.2 + 0.5 / 0.3 + 1.0)
    np.testing.assert_allclose(timeline.arrival_s, timeline.end_s - timeline.wait_s)


def test_downloads_share_the_servers_egress():
    devices = fleet(4, downlink_mbit_per_s=8.0, server_egress_mbit_per_s=16.0)
    timeline = round_timeline(0.0, devices, np.arange(4), 1_000_000, 0.0, 0)
    np.testing.assert_allclose(timeline.download_s, [2.0] * 4)
    np.testing.assert_array_equal(timeline.upload_s, [0.0] * 4)


def test_a_round_without_participants_takes_no_time():
    timeline = round_timeline(7.0, fleet(2), np.array([], dtype=np.int64), 10, 1.0, 10)
    assert timeline.end_s == 7.0
    assert timeline.download_s.shape == (0,)


drawn_rounds = st.integers(1, 9).flatmap(
    lambda n: st.tuples(
        st.just(n),
        st.integers(0, 2**32 - 1),
        st.lists(st.integers(0, 10_000_000), min_size=n, max_size=n),
        st.lists(st.floats(0, 100), min_size=n, max_size=n),
        st.lists(st.integers(0, 10_000_000), min_size=n, max_size=n),
    )
)
LINKS = {
    "uplink_mbit_per_s": {"distribution": "lognormal", "median": 5.0, "sigma": 0.7},
    "downlink_mbit_per_s": {"distribution": "uniform", "low": 1.0, "high": 20.0},
    "latency_s": 0.05,
    "server_ingress_mbit_per_s": 12.0,
    "server_egress_mbit_per_s": 30.0,
}


@settings(max_examples=100)
@given(drawn=drawn_rounds)
def test_parts_add_up_and_nothing_depends_on_order_or_start(drawn):
    n, seed, down, compute, up = drawn
    devices = fleet(9, **LINKS)
    rng = np.random.default_rng(seed)
    clients = np.sort(rng.choice(9, n, replace=False))
    arrays = [np.array(a, dtype=np.float64) for a in (down, compute, up)]
    jitter = draw_jitter(seed, 4, clients, np.full(9, 0.3))[:, :2]
    timeline = round_timeline(0.0, devices, clients, *arrays, jitter)
    parts = timeline.download_s + timeline.compute_s + timeline.upload_s + timeline.wait_s
    np.testing.assert_allclose(parts, timeline.duration_s, rtol=1e-12)
    assert timeline.wait_s.min() == 0.0
    assert (timeline.upload_s[arrays[2] > 0] >= 0.05).all()
    assert (timeline.upload_s[arrays[2] == 0] == 0).all()

    order = rng.permutation(n)
    permuted = round_timeline(0.0, devices, clients[order], *(a[order] for a in arrays), jitter[order])
    late = round_timeline(123_456.7, devices, clients, *arrays, jitter)
    for name in ("download_s", "compute_s", "upload_s", "wait_s"):
        np.testing.assert_array_equal(getattr(permuted, name), getattr(timeline, name)[order])
        np.testing.assert_array_equal(getattr(late, name), getattr(timeline, name))
    assert permuted.duration_s == late.duration_s == timeline.duration_s
    assert late.end_s == 123_456.7 + timeline.duration_s


def test_fewer_bytes_never_make_a_round_longer():
    devices = fleet(9, **LINKS)
    durations = [
        round_timeline(0.0, devices, np.arange(9), 8 * k, 1.0, 8 * k).duration_s
        for k in (0, 10, 1000, 100_000)
    ]
    assert durations == sorted(durations)
    assert durations[0] < durations[-1]


def test_no_message_takes_no_time():
    devices = fleet(2, latency_s=0.5)
    timeline = round_timeline(0.0, devices, np.arange(2), [0, 9], 1.0, [9, 0], np.full((2, 2), 0.25))
    np.testing.assert_array_equal(timeline.download_s, [0.0, 0.75])
    np.testing.assert_array_equal(timeline.upload_s, [0.75, 0.0])


def test_jitter_delays_its_own_transfer():
    devices = fleet(2, uplink_mbit_per_s=8.0, downlink_mbit_per_s=8.0)
    jitter = np.array([[0.5, 0.0], [0.0, 0.25]])
    timeline = round_timeline(0.0, devices, np.arange(2), 1_000_000, 1.0, 1_000_000, jitter)
    np.testing.assert_allclose(timeline.download_s, [1.5, 1.0])
    np.testing.assert_allclose(timeline.upload_s, [1.0, 1.25])


def test_jitter_is_drawn_for_each_client_and_round():
    most = np.full(50, 0.2)
    all_clients = draw_jitter(3, 7, np.arange(50), most)
    assert all_clients.shape == (50, len(TRANSFERS))
    assert 0 <= all_clients.min() < 0.02
    assert 0.18 < all_clients.max() <= 0.2
    np.testing.assert_array_equal(draw_jitter(3, 7, np.array([30, 4]), most), all_clients[[30, 4]])
    assert (draw_jitter(3, 8, np.arange(50), most) != all_clients).all()
    assert (draw_jitter(4, 7, np.arange(50), most) != all_clients).all()
    np.testing.assert_array_equal(draw_jitter(3, 7, np.arange(5), 0.0 * most), np.zeros((5, len(TRANSFERS))))
    most[[4, 30]] = 0.1, 0.0
    np.testing.assert_array_equal(
        draw_jitter(3, 7, np.array([4, 30, 31]), most), all_clients[[4, 30, 31]] * [[0.5], [0.0], [1.0]]
    )
