"""Rounds charged to devices, and by the cost model of FAB-top-k."""

import numpy as np
import pytest

from fedmpi.config import loads
from fedmpi.emulation.devices import assign
from fedmpi.federation.accounts import (
    Feedback,
    Work,
    feedback_arrival_s,
    loss_report_bytes,
    make_accountant,
)
from fedmpi.federation.plan import Action, RoundPlan

DIMENSION, CLIENTS = 1000, 3


def plan_of(k: int, k_probe: int = 0, start_s: float = 0.0) -> RoundPlan:
    return RoundPlan(4, Action.NONE, k, k_probe, 0.1, start_s, np.arange(CLIENTS))


def work_of(entries: int, bytes_up: int = 9) -> Work:
    each = np.ones(CLIENTS, dtype=np.int64)
    return Work(20 * each, 1.0 * each, entries * each, bytes_up * each)


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
    accountant = make_accountant(config, assign(config, 0), DIMENSION)
    plan = plan_of(entries, k_probe, start_s=3.0)
    sent = accountant.round(plan, work_of(entries))
    closed = accountant.close(plan, sent, k_down, None)
    training = 1 + 1 / 32 if k_probe else 1
    assert closed.duration_s == pytest.approx(training + beta * communication, rel=1e-14)
    assert closed.end_s == 3.0 + closed.duration_s
    parts = closed.download_s + closed.compute_s + closed.upload_s + closed.wait_s
    np.testing.assert_allclose(parts, closed.duration_s, rtol=1e-14)
    np.testing.assert_array_equal(closed.compute_s, training)
    assert (sent.arrival_s <= closed.end_s).all()
    assert closed.bytes_down.tolist() == [20] * CLIENTS
    assert closed.bytes_up.tolist() == [9] * CLIENTS


def test_a_probe_adds_bytes_but_no_messages_to_the_published_cost_model() -> None:
    config = loads("", ["sparsification.method=fab", "emulation.compute.model=normalized"])
    accountant = make_accountant(config, assign(config, 0), DIMENSION)
    plan = plan_of(10, 9)
    sent = accountant.round(plan, work_of(10))
    feedback = Feedback(bytes_down=500, compute_s=np.ones(CLIENTS), bytes_up=loss_report_bytes(3))
    closed, plain = accountant.close(plan, sent, 10, feedback), accountant.close(plan, sent, 10, None)
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
    accountant = make_accountant(config, assign(config, 0), DIMENSION)
    plan = plan_of(10, 9, start_s=7.0)
    sent = accountant.round(plan, work_of(10, bytes_up=100))
    assert sent.duration_s == pytest.approx(0.52 + 1.0 + 0.6)
    feedback = Feedback(bytes_down=200, compute_s=np.array([0.25, 0.5, 0.0]), bytes_up=30)
    closed = accountant.close(plan, sent, 10, feedback)
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
    assert accountant.close(plan, sent, 10, None) is sent


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
    accountant = make_accountant(config, assign(config, 0), DIMENSION)
    time = accountant.round_time(40, 60, never_pruned=200, prunable_layers=2, period=period)
    assert time.constant_s == pytest.approx(constant, rel=1e-12)
    assert time.seconds_per_parameter == pytest.approx([each, each], rel=1e-12)
