"""Time models of local training."""

import numpy as np
import pytest

from fedmpi.config import parts
from fedmpi.config.emulation_schema import ComputeConfig, EmulationConfig
from fedmpi.config.schema import ClientsConfig, Config, ModelConfig, TrainingConfig
from fedmpi.emulation.compute import Compute, ComputeModel, LocalTraining
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.linear import DENSE_FROM_DENSITY

CONV2 = np.array([800, 51_200, 6_422_528, 126_976])  # prunable parameters of PruneFL's Conv2
EVERYBODY = np.arange(4)
SPARSE = 0.5


def fleet(model, profile="raspberry-pi-4", network="conv2", batch_size=20, **compute):
    return assign(
        Config(
            clients=ClientsConfig(count=4),
            model=ModelConfig(name=network),
            training=TrainingConfig(batch_size=batch_size),
            emulation=EmulationConfig(compute=ComputeConfig(model=model, profile=profile, **compute)),
        ),
        0,
    )


def compute_seconds(fleet, clients, steps, active, host_s=np.nan, *, density):
    return fleet.compute.seconds(LocalTraining.of(clients, steps, active, density=density, host_s=host_s))


def linear_coefficients(fleet, clients, layers):
    return fleet.compute.step_coefficients(LocalTraining.of(clients, 1, np.zeros(layers), density=1.0))


def test_unit_is_the_same_whatever_is_computed():
    seconds = compute_seconds(fleet("unit", unit_s=2.5), np.array([0, 3]), [1, 9], CONV2, density=1.0)
    np.testing.assert_array_equal(seconds, [2.5, 2.5])


def test_linear_is_the_sum_over_layers_of_the_published_coefficients():
    """The authors measured 2.8981 s for a step of the unpruned model with sparse kernels (batch 20)."""
    seconds = compute_seconds(fleet("linear"), EVERYBODY, [1, 2, 5, 5], CONV2, density=SPARSE)
    step = 1.2492789765 + 51_200 * 7.098850e-6 + 6_422_528 * 1.927325e-7 + 126_976 * 1.782308e-7
    np.testing.assert_allclose(seconds, np.array([1, 2, 5, 5]) * step, rtol=1e-14)
    assert seconds[0] == pytest.approx(2.898095353249955, rel=0.01)


def test_linear_falls_with_what_is_pruned_and_grows_with_the_batch():
    full = compute_seconds(fleet("linear"), EVERYBODY, 5, CONV2, density=SPARSE)
    pruned = compute_seconds(fleet("linear"), EVERYBODY, 5, CONV2 // 10, density=0.1)
    assert (pruned < full).all()
    np.testing.assert_allclose(
        compute_seconds(fleet("linear", batch_size=40), EVERYBODY, 5, CONV2, density=SPARSE),
        2 * full,
        rtol=1e-14,
    )


def test_a_dense_model_takes_what_was_measured_with_dense_kernels():
    """Whatever is pruned, until the density is below 0.9."""
    dense = compute_seconds(fleet("linear"), EVERYBODY, 5, CONV2, density=1.0)
    np.testing.assert_array_equal(dense, 5 * 2.2486449218005875)
    less = CONV2 * 9 // 10
    at_bound = compute_seconds(fleet("linear"), EVERYBODY, 5, less, density=DENSE_FROM_DENSITY)
    np.testing.assert_array_equal(at_bound, dense)
    below = compute_seconds(fleet("linear"), EVERYBODY, 5, less, density=np.nextafter(0.9, 0))
    np.testing.assert_allclose(
        below, 5 * (1.2492789765 + (less * [0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7]).sum()), rtol=1e-14
    )
    larger_batch = compute_seconds(fleet("linear", batch_size=40), EVERYBODY, 5, CONV2, density=1.0)
    np.testing.assert_allclose(larger_batch, 2 * dense, rtol=1e-14)


def test_dense_kernels_follow_the_speed_of_each_device():
    mixed = fleet("linear", {"raspberry-pi-4": 0.5, "raspberry-pi-5": 0.5})
    seconds = compute_seconds(mixed, EVERYBODY, 2, CONV2, density=1.0)
    np.testing.assert_allclose(seconds * mixed.relative_speed, 2 * 2.2486449218005875, rtol=1e-14)


def test_linear_follows_each_clients_own_device():
    mixed = fleet("linear", {"raspberry-pi-4": 0.5, "raspberry-pi-5": 0.5})
    seconds = compute_seconds(mixed, EVERYBODY, 1, CONV2, density=SPARSE)
    np.testing.assert_allclose(
        seconds * mixed.relative_speed, seconds[mixed.relative_speed == 1][0], rtol=1e-14
    )
    one = compute_seconds(mixed, np.array([2]), 1, CONV2, density=SPARSE)
    assert one[0] == seconds[2]


def test_the_coefficients_are_those_of_the_layers():
    constant_s, per_parameter = linear_coefficients(fleet("linear"), EVERYBODY, 4)
    np.testing.assert_array_equal(constant_s, [1.2492789765] * 4)
    np.testing.assert_array_equal(per_parameter[1], [0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7])
    assert linear_coefficients(fleet("linear"), EVERYBODY, 7)[1].shape == (4, 7)


def test_a_csv_fleet_trains_at_its_own_cost(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text(
        "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter\n"
        + "".join(f"d{i},1,1,0,{i},1e-6\n" for i in range(4))
    )
    devices = fleet("linear", str(path), batch_size=64)
    seconds = compute_seconds(devices, EVERYBODY, 2, [600_000, 400_000], density=1.0)
    np.testing.assert_allclose(seconds, 2 * (np.arange(4) + 1.0))


def test_measured_is_host_time_times_slowdown_over_relative_speed():
    mixed = fleet("measured", {"reference": 0.5, "raspberry-pi-5": 0.5}, slowdown=12.0)
    seconds = compute_seconds(mixed, EVERYBODY, 1, CONV2, host_s=[0.5, 0.5, 0.5, 0.5], density=1.0)
    np.testing.assert_allclose(seconds, 6.0 / mixed.relative_speed, rtol=1e-14)


@pytest.mark.parametrize("model", ["unit", "linear", "measured"])
def test_devices_of_twice_the_speed_take_half_as_long(model):
    times = [
        compute_seconds(fleet(model, speed=speed), EVERYBODY, [1, 2, 3, 4], CONV2, host_s=0.5, density=SPARSE)
        for speed in (1.0, 2.0)
    ]
    np.testing.assert_array_equal(times[1], times[0] / 2)
    assert (times[1] > 0).all()


def test_masks_are_chosen_at_the_speed_of_the_devices():
    slow = linear_coefficients(fleet("linear", speed=0.5), EVERYBODY, 4)
    for found, at_speed_one in zip(slow, linear_coefficients(fleet("linear"), EVERYBODY, 4), strict=True):
        np.testing.assert_array_equal(found, 2 * at_speed_one)


def test_devices_train_as_fast_as_their_model_says_unless_told_otherwise():
    model = fleet("linear").compute.model
    costs, training = fleet("linear").compute.costs, LocalTraining.of(EVERYBODY, 1, CONV2, density=1.0)
    np.testing.assert_array_equal(Compute(model, costs).seconds(training), model.seconds(costs, training))


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("unit", ()),
        ("linear", ("needs_work",)),
        ("flops", ("needs_work",)),
        ("measured", ("needs_host_time",)),
        ("normalized", ("prices_rounds",)),
    ],
)
def test_what_each_model_asks_for(name, needs):
    model = parts.build("emulation.compute.model", name, {}, ComputeModel)
    flags = ("needs_work", "needs_host_time", "prices_rounds")
    assert tuple(flag for flag in flags if getattr(model, flag)) == needs


def test_a_fleet_of_another_speed_is_another_one():
    digests = [fleet("linear", **speed).digest() for speed in ({}, {"speed": 1.0}, {"speed": 2.0})]
    assert digests[0] == digests[1] != digests[2]


def test_measured_without_a_measurement_is_refused():
    measured = fleet("measured")
    with pytest.raises(EmulationError, match="host_s: found nan for client 3"):
        compute_seconds(measured, np.array([3]), 1, CONV2, density=1.0)
    with pytest.raises(EmulationError, match=r"host_s: found -1\.0 for client 1"):
        compute_seconds(measured, np.array([0, 1]), 1, CONV2, host_s=[1.0, -1.0], density=1.0)
