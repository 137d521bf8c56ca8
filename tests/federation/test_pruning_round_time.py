import numpy as np
import pytest

from fedmpi.config import loads
from fedmpi.emulation.compute import LocalTraining, Work
from fedmpi.emulation.devices import assign
from fedmpi.federation.pruning import round_time

TEXT = """
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
CLIENTS, ACTIVE = np.array([0, 2, 3]), np.array([500, 20])
WORK = Work((1e6, 1e4), (1000, 40), other_flops=0.0, values=100.0, parameters=1050)


@pytest.mark.parametrize("model", ["linear", "flops", "unit"])
def test_round_time_is_that_of_the_slowest_client(model: str) -> None:
    """Three clients share 6 Mbit/s of the server, 250,000 bytes/s for each; the first has half of that itself."""
    fleet = assign(loads(TEXT.format(model=model)), seed=3, work=WORK)
    steps = np.array([4.0, 4.0, 2.0])
    compute_s = fleet.compute.seconds(LocalTraining.of(CLIENTS, steps, ACTIVE, density=0.5))
    time = round_time(fleet, CLIENTS, steps, compute_s, (1000, 4.0), (300, 0.125), ACTIVE)
    sent, received = 1000 + 4 * ACTIVE.sum(), 300 + ACTIVE.sum() / 8
    up, down = np.array([125e3, 250e3, 250e3]), 1e6
    expected = compute_s + 0.5 + sent / up + received / down
    assert time.seconds(ACTIVE) == pytest.approx(expected.max(), rel=1e-12)


def test_parameters_take_no_time_where_neither_steps_nor_messages_depend_on_them() -> None:
    """A sparse exchange sends k entries whatever is pruned."""
    fleet = assign(loads(TEXT.format(model="unit")), seed=3)
    time = round_time(fleet, CLIENTS, np.full(3, 4.0), np.ones(3), (1000, 0.0), (1000, 0.0), ACTIVE)
    assert not time.seconds_per_parameter.any()
    assert time.constant_s > 1.5


def test_masks_are_chosen_by_the_time_of_sparse_kernels() -> None:
    """Whatever the model is trained with now: T(M) is the time of the model that a mask will make."""
    fleet = assign(loads(TEXT.format(model="linear"), ["model.name=conv2", "training.batch_size=20"]), seed=3)
    active = np.array([800, 51_200, 6_422_528, 126_976])
    dense = fleet.compute.seconds(LocalTraining.of(CLIENTS, 5.0, active, density=1.0))
    time = round_time(fleet, CLIENTS, np.full(3, 5.0), dense, (0.0, 0.0), (0.0, 0.0), active)
    pi3 = fleet.relative_speed[CLIENTS].min()
    coefficients = 5 * np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7]) / pi3
    assert time.seconds_per_parameter == pytest.approx(coefficients, rel=1e-12)
    assert time.constant_s == pytest.approx(5 * 1.2492789765 / pi3 + 0.5, rel=1e-12)


def test_messages_of_every_third_round_count_a_third() -> None:
    fleet = assign(loads(TEXT.format(model="unit")), seed=3)
    arguments = (fleet, CLIENTS, np.full(3, 4.0), np.ones(3), (1000.0, 4.0), (300.0, 0.0), ACTIVE)
    each, third = round_time(*arguments), round_time(*arguments, period=3)
    assert third.seconds_per_parameter == pytest.approx(each.seconds_per_parameter / 3, rel=1e-12)
    assert third.constant_s - 1.0 == pytest.approx((each.constant_s - 1.0) / 3, rel=1e-12)
