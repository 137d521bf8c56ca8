"""Rounds charged to devices, and by the cost model of FAB-top-k."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi.config import Config, loads
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.compute import Work as ModelWork
from fedmpi.emulation.devices import Fleet, assign
from fedmpi.emulation.jitter import draw_jitter
from fedmpi.federation.accountants import DeviceAccountant, make_accountant
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import (
    ExpectedMessages,
    ExpectedRound,
    Feedback,
    Work,
    feedback_arrival_s,
    loss_report_bytes,
)
from fedmpi.pruning.round_time import RoundTime

DIMENSION, CLIENTS = 1000, 3


def positions_sent(config: Config) -> bool:
    return config.sparsification.method not in ("dense", "fedavg")


def start_of(second_model: bool = False, start_s: float = 0.0) -> RoundStart:
    return RoundStart(4, start_s, np.arange(CLIENTS), second_model)


def work_of(entries: int, bytes_up: int = 9) -> Work:
    each = np.ones(CLIENTS, dtype=np.int64)
    return Work(20 * each, 1.0 * each, entries * each, bytes_up * each)


def expected_of(
    compute_s: np.ndarray,
    participants: Any = range(CLIENTS),
    steps: Any = (1.0,) * CLIENTS,
    active: Any = (),
    **given: Any,
) -> ExpectedRound:
    values = {
        "never_pruned": 0,
        "k": 0,
        "k_down": 0,
        "bytes_up": (0.0, 0.0),
        "bytes_down": (0.0, 0.0),
        **given,
    }
    return ExpectedRound(np.array(participants), np.array(steps), compute_s, np.array(active), **values)


@pytest.mark.parametrize("beta", [0.1, 10.0])
@pytest.mark.parametrize(
    ("method", "entries", "k_down", "k_probe", "communication"),
    [
        ("fab", 10, 10, 0, 1 / 2000 * (20 + 20)),
        ("fab", 10, 10, 9, 1 / 2000 * (20 + 20)),
        ("unidirectional", 10, 27, 0, 1 / 2000 * (20 + 54)),
        ("periodic", 10, 10, 0, 1 / 1000 * 20),
        ("dense", 1000, 1000, 0, 1.0),
        ("fedavg", 1000, 1000, 0, 1.0),
        ("fedavg", 0, 0, 0, 0.0),
    ],
)
def test_the_published_cost_model(
    beta: float, method: str, entries: int, k_down: int, k_probe: int, communication: float
) -> None:
    config = loads(
        "",
        [
            f"sparsification.method={method}",
            "emulation.compute.model=normalized",
            f"emulation.compute.beta={beta}",
        ],
    )
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=positions_sent(config))
    start = start_of(k_probe > 0, start_s=3.0)
    sent = accountant.round(start, work_of(entries))
    closed = accountant.close(start, sent, k_down, None)
    training = 1 + 1 / 32 if k_probe else 1
    assert closed.duration_s == pytest.approx(training + beta * communication, rel=1e-14)
    assert closed.end_s == 3.0 + closed.duration_s
    parts = closed.download_s + closed.compute_s + closed.upload_s + closed.wait_s
    np.testing.assert_allclose(parts, closed.duration_s, rtol=1e-14)
    np.testing.assert_array_equal(closed.compute_s, training)
    assert (sent.arrival_s <= closed.end_s).all()
    assert closed.bytes_down.tolist() == [20] * CLIENTS
    assert closed.bytes_up.tolist() == [9] * CLIENTS


def test_who_stops_early_is_charged_up_to_there_by_the_published_cost_model() -> None:
    """Training takes 1 and an upload of 100 pairs 0.5: one stops in training, one half way up, one when it is done."""
    config = loads("", ["sparsification.method=fab", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=True)
    work = Work(*(np.full(3, each) for each in (20, 1.0, 50, 9)))
    stopped = accountant.round(start_of(start_s=2.0), work, np.array([0.25, 1.25, 1.5]))
    assert stopped.compute_s.tolist() == [0.25, 1.0, 1.0]
    assert stopped.upload_s.tolist() == [0.0, 0.25, 0.5]
    assert stopped.wait_s.tolist() == [0.0, 0.0, 0.0]
    assert stopped.bytes_up.tolist() == [0, 4, 9]
    assert stopped.bytes_down.tolist() == [20] * 3
    assert stopped.download_s.tolist() == [0.0] * 3
    assert stopped.downloaded.all()
    assert stopped.trained.tolist() == [False, True, True]
    assert stopped.arrived.tolist() == [False, False, True]
    assert stopped.duration_s == 1.5
    staying = np.array([False, False, True])
    closed = accountant.close(start_of(), stopped, 100, Feedback(500, np.ones(3), 16), staying)
    assert closed.download_s.tolist() == [0.0, 0.0, 1.0]
    assert closed.bytes_down.tolist() == [20, 20, 520]
    assert closed.bytes_up.tolist() == [0, 4, 25]
    assert closed.duration_s == 2.5


def test_a_round_of_nobody_takes_no_time_by_the_published_cost_model() -> None:
    config = loads("", ["sparsification.method=fab", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=True)
    nothing = np.empty(0, np.int64)
    alone = accountant.round(RoundStart(0, 1.0, nothing), Work(nothing, nothing * 1.0, nothing, nothing))
    assert (alone.duration_s, alone.end_s) == (0.0, 1.0)


def test_a_probe_adds_bytes_but_no_messages_to_the_published_cost_model() -> None:
    config = loads("", ["sparsification.method=fab", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=positions_sent(config))
    start = start_of(True)
    sent = accountant.round(start, work_of(10))
    feedback = Feedback(bytes_down=500, compute_s=np.ones(CLIENTS), bytes_up=loss_report_bytes(3))
    closed, plain = accountant.close(start, sent, 10, feedback), accountant.close(start, sent, 10, None)
    assert closed.duration_s == plain.duration_s
    assert closed.bytes_down.tolist() == [520] * CLIENTS
    assert closed.bytes_up.tolist() == [9 + 16 + 12] * CLIENTS


def test_feedback_on_devices_by_hand() -> None:
    """1000 bytes/s each way, 0.5 s latency: download, training, upload; then update, trial, losses."""
    config = loads(
        "",
        [
            f"clients.count={CLIENTS}",
            "emulation.network.uplink_mbit_per_s=0.008",
            "emulation.network.downlink_mbit_per_s=0.008",
            "emulation.network.latency_s=0.5",
        ],
    )
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=positions_sent(config))
    start = start_of(True, start_s=7.0)
    sent = accountant.round(start, work_of(10, bytes_up=100))
    assert sent.duration_s == pytest.approx(0.52 + 1.0 + 0.6)
    feedback = Feedback(bytes_down=200, compute_s=np.array([0.25, 0.5, 0.0]), bytes_up=30)
    closed = accountant.close(start, sent, 10, feedback)
    assert closed.duration_s == pytest.approx(2.12 + 0.7 + 0.5 + 0.53)
    assert closed.end_s == pytest.approx(7.0 + 3.85)
    np.testing.assert_allclose(closed.download_s, 0.52 + 0.7)
    np.testing.assert_allclose(closed.upload_s, 0.6 + 0.53)
    np.testing.assert_allclose(closed.wait_s, [0.25, 0.0, 0.5], atol=1e-12)
    np.testing.assert_allclose(
        feedback_arrival_s(sent, closed), 7.0 + 2.12 + 0.7 + np.array([0.25, 0.5, 0.0]) + 0.53
    )
    assert closed.bytes_down.tolist() == [220] * CLIENTS
    assert closed.bytes_up.tolist() == [130] * CLIENTS
    assert accountant.close(start, sent, 10, None) is sent


@pytest.mark.parametrize(
    ("method", "period", "constant", "each"),
    [
        ("dense", 1, 1 + 10 * 0.2, 0.01),
        ("fedavg", 4, 1 + 10 * 0.2 / 4, 0.0025),
        ("fab", 1, 1 + 0.4 + 0.6, 0.0),
    ],
)
def test_the_time_of_a_masked_round_by_the_published_cost_model(
    method: str, period: int, constant: float, each: float
) -> None:
    """beta = 10, of 1000 parameters 200 are never pruned; 40 pairs go up and 60 come down, where k do."""
    config = loads("", [f"sparsification.method={method}", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=positions_sent(config))
    time = accountant.round_time(
        expected_of(np.ones(CLIENTS), active=[300, 500], never_pruned=200, k=40, k_down=60, period=period)
    )
    assert time.constant_s == pytest.approx(constant, rel=1e-12)
    assert time.seconds_per_parameter == pytest.approx([each, each], rel=1e-12)
    assert time.present_s == pytest.approx(constant + 800 * each, rel=1e-12)


NETWORK = """
[clients]
count = 4
[emulation.compute]
model = "{model}"
profile = {{"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}}
[emulation.network]
uplink_mbit_per_s = [1.0, 2.0, 4.0, 8.0]
downlink_mbit_per_s = 8.0
latency_s = 0.25
server_ingress_mbit_per_s = 6.0
"""
SOME, ACTIVE = np.array([0, 2, 3]), np.array([500, 20])


WORK = ModelWork((1e6, 1e4), (1000, 40), other_flops=0.0, values=100.0, parameters=1050)


def time_of(
    fleet: Fleet,
    steps: np.ndarray,
    compute_s: np.ndarray,
    bytes_up: tuple[float, float],
    bytes_down: tuple[float, float],
    active: np.ndarray,
    period: int = 1,
) -> RoundTime:
    expected = expected_of(
        compute_s, SOME, steps, active, bytes_up=bytes_up, bytes_down=bytes_down, period=period
    )
    return DeviceAccountant(fleet, seed=0).round_time(expected)


@pytest.mark.parametrize("model", ["linear", "flops", "unit"])
def test_round_time_is_that_of_the_slowest_client(model: str) -> None:
    """Three clients share 6 Mbit/s of the server, 250,000 bytes/s for each; the first has half of that itself."""
    fleet = assign(loads(NETWORK.format(model=model)), seed=3, work=WORK)
    steps = np.array([4.0, 4.0, 2.0])
    compute_s = fleet.compute.seconds(LocalTraining.of(SOME, steps, ACTIVE, density=0.5))
    time = time_of(fleet, steps, compute_s, (1000, 4.0), (300, 0.125), ACTIVE)
    sent, received = 1000 + 4 * ACTIVE.sum(), 300 + ACTIVE.sum() / 8
    up, down = np.array([125e3, 250e3, 250e3]), 1e6
    expected = compute_s + 0.5 + sent / up + received / down
    assert time.seconds(ACTIVE) == pytest.approx(expected.max(), rel=1e-12)
    assert time.present_s == pytest.approx(expected.max(), rel=1e-12)
    quicker = time_of(fleet, steps, compute_s / 2, (1000, 4.0), (300, 0.125), ACTIVE)
    assert quicker.present_s == pytest.approx(
        (compute_s / 2 + 0.5 + sent / up + received / down).max(), rel=1e-12
    )


@pytest.mark.parametrize("transport", ["fluid", "tcp"])
def test_rounds_that_differ_in_messages_take_what_the_time_by_the_mask_says(transport: str) -> None:
    connection = ["emulation.network.connection=new"] if transport == "tcp" else []
    text = NETWORK.format(model="unit")
    fleet = assign(loads(text, [f"emulation.network.transport={transport}", *connection]), seed=3)
    compute_s = np.array([1.0, 2.0, 1.5])
    bytes_up, bytes_down = np.array([1000.0, 300e3, 40e3]), np.array([300.0, 4000.0, 900e3])
    seconds = DeviceAccountant(fleet, seed=0).round_seconds(
        ExpectedMessages(SOME, compute_s, np.arange(3), np.arange(3), bytes_up, bytes_down)
    )
    for n in range(3):
        time = time_of(fleet, np.ones(3), compute_s, (bytes_up[n], 0.0), (bytes_down[n], 0.0), ACTIVE)
        assert seconds[n] == pytest.approx(time.seconds(ACTIVE), rel=1e-12)


def test_a_sketch_takes_as_long_as_its_bytes_in_pairs_in_the_published_cost_model() -> None:
    """16 bytes are two pairs: rounds with them are as long as rounds with two entries more up."""
    config = loads("", ["sparsification.method=fab", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION, positions_sent=True)
    sketched = accountant.round(start_of(), replace(work_of(10), sketch_bytes=16))
    closed = accountant.close(start_of(), sketched, 7, None)
    longer = accountant.close(start_of(), accountant.round(start_of(), work_of(12)), 7, None)
    assert closed.duration_s == pytest.approx(longer.duration_s, rel=1e-14)
    each = np.ones(1)
    expected = ExpectedMessages(np.arange(3), np.ones(3), np.array([10]), np.array([7]), each, each, 16)
    assert accountant.round_seconds(expected)[0] == pytest.approx(closed.duration_s, rel=1e-14)
    trying = accountant.round_seconds(replace(expected, tries_second_model=True))[0]
    assert trying - closed.duration_s == pytest.approx(1 / config.training.batch_size, rel=1e-9)
    of_mask = expected_of(np.ones(3), k=10, k_down=7, active=(5, 5), sketch_bytes=16)
    assert accountant.round_time(of_mask).constant_s == pytest.approx(closed.duration_s, rel=1e-14)


def test_parameters_take_no_time_where_neither_steps_nor_messages_depend_on_them() -> None:
    """A sparse exchange sends k entries whatever is pruned."""
    fleet = assign(loads(NETWORK.format(model="unit")), seed=3)
    time = time_of(fleet, np.full(3, 4.0), np.ones(3), (1000, 0.0), (1000, 0.0), ACTIVE)
    assert not time.seconds_per_parameter.any()
    assert time.constant_s > 1.5


def test_masks_are_chosen_by_the_time_of_sparse_kernels() -> None:
    """Whatever the model is trained with now: T(M) is the time of the model that a mask will make."""
    fleet = assign(
        loads(NETWORK.format(model="linear"), ["model.name=conv2", "training.batch_size=20"]), seed=3
    )
    active = np.array([800, 51_200, 6_422_528, 126_976])
    dense = fleet.compute.seconds(LocalTraining.of(SOME, 5.0, active, density=1.0))
    time = time_of(fleet, np.full(3, 5.0), dense, (0.0, 0.0), (0.0, 0.0), active)
    pi3 = fleet.relative_speed[SOME].min()
    coefficients = 5 * np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7]) / pi3
    assert time.seconds_per_parameter == pytest.approx(coefficients, rel=1e-12)
    assert time.constant_s == pytest.approx(5 * 1.2492789765 / pi3 + 0.5, rel=1e-12)


def test_links_that_vary_count_with_their_mean_and_tcp_with_headers_and_connections(tmp_path: Path) -> None:
    """1 and 3 Mbit/s in turn are 2; a new connection takes a round trip, two latencies, in each direction."""
    (tmp_path / "link").write_text("0 1\n1 3\n")
    text = NETWORK.format(model="unit").replace(
        "uplink_mbit_per_s = [1.0, 2.0, 4.0, 8.0]", f'uplink_trace = "{tmp_path}"'
    )
    arguments = (np.full(3, 4.0), np.ones(3), (1000, 4.0), (300, 0.0), ACTIVE)
    fluid = time_of(assign(loads(text), seed=3), *arguments)
    assert fluid.seconds_per_parameter == pytest.approx(np.full(2, 4 / 250e3), rel=1e-12)
    assert fluid.constant_s == pytest.approx(1.0 + 0.5 + 1000 / 250e3 + 300 / 1e6, rel=1e-12)
    new = ["emulation.network.transport=tcp", "emulation.network.connection=new"]
    tcp = time_of(assign(loads(text, new), seed=3), *arguments)
    assert tcp.seconds_per_parameter == pytest.approx(np.full(2, 4 / 250e3 * 1500 / 1448), rel=1e-12)
    messages = (1000 / 250e3 + 300 / 1e6) * 1500 / 1448
    assert tcp.constant_s == pytest.approx(1.0 + 1.5 + messages, rel=1e-12)


def test_messages_of_every_third_round_count_a_third() -> None:
    fleet = assign(loads(NETWORK.format(model="unit")), seed=3)
    arguments = (fleet, np.full(3, 4.0), np.ones(3), (1000.0, 4.0), (300.0, 0.0), ACTIVE)
    each, third = time_of(*arguments), time_of(*arguments, period=3)
    assert third.seconds_per_parameter == pytest.approx(each.seconds_per_parameter / 3, rel=1e-12)
    assert third.constant_s - 1.0 == pytest.approx((each.constant_s - 1.0) / 3, rel=1e-12)


def test_jitter_of_a_round_is_drawn_for_each_of_its_four_transfers() -> None:
    config = loads(
        "",
        [
            f"clients.count={CLIENTS}",
            "emulation.network.latency_s=1",
            "emulation.network.jitter_s=0.5",
        ],
    )
    fleet = assign(config, 0)
    accountant, start = DeviceAccountant(fleet, seed=3), start_of()
    jitter_s = draw_jitter(3, 4, np.arange(CLIENTS), np.full(CLIENTS, 0.5))
    assert len(np.unique(jitter_s)) == 4 * CLIENTS
    sent = accountant.round(start, work_of(10))
    np.testing.assert_allclose(sent.download_s, 1.0 + jitter_s[:, 0])
    np.testing.assert_allclose(sent.upload_s, 1.0 + jitter_s[:, 1])
    feedback = Feedback(bytes_down=20, compute_s=np.zeros(CLIENTS), bytes_up=9)
    closed = accountant.close(start, sent, 10, feedback)
    np.testing.assert_allclose(closed.download_s - sent.download_s, 1.0 + jitter_s[:, 2])
    np.testing.assert_allclose(closed.upload_s - sent.upload_s, 1.0 + jitter_s[:, 3])
    whole = closed.download_s + closed.compute_s + closed.upload_s + closed.wait_s
    np.testing.assert_allclose(whole, closed.duration_s)


def test_links_of_the_server_limit_the_time_by_the_mask_both_ways() -> None:
    limits = [
        "emulation.network.server_egress_mbit_per_s=0.6",
        "emulation.network.server_ingress_mbit_per_s=6.0",
    ]
    fleet = assign(loads(NETWORK.format(model="unit"), limits), seed=3)
    time = time_of(fleet, np.full(3, 4.0), np.ones(3), (0.0, 0.0), (1000.0, 2.0), ACTIVE)
    assert time.constant_s == pytest.approx(1.0 + 0.5 + 1000 / 25e3)
    assert time.seconds_per_parameter == pytest.approx([2 / 25e3] * 2)
