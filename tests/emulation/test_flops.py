"""The time of a step from a model's floating-point work, alone and where linear has no table."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import loads
from fedmpi.emulation.compute import LocalTraining, Work
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.flops import step_cost
from fedmpi.emulation.profiles import Figures, at_speed, built_in_devices, left_out_factors

WORK = Work(layer_flops=(4e5, 6e6), layer_sizes=(800, 60_000), other_flops=1e5, values=3e4, parameters=61_000)
EVERYBODY = np.arange(4)
FIGURES = Figures(1e-7, 2e9)


def fleet(*overrides, work=WORK):
    text = "clients.count=4 model.name=cnn emulation.compute.profile=raspberry-pi-4 training.batch_size=20"
    return assign(loads("", [*text.split(), *overrides]), 0, work)


def seconds(devices, active, steps=1.0, density=0.5):
    return devices.compute.seconds(LocalTraining.of(EVERYBODY, steps, active, density=density))


def test_a_step_is_overhead_of_every_operation_and_work_over_the_rate():
    cost = step_cost(FIGURES, WORK, 10)
    assert cost.constant_s == pytest.approx(1e-7 * (10 * 3e4 + 61_000) + 3 * 10 * 1e5 / 2e9)
    assert cost.seconds_per_parameter == pytest.approx((30 * 4e5 / 2e9 / 800, 30 * 6e6 / 2e9 / 60_000))
    assert cost.dense_step_s is None


def test_all_of_a_models_work_is_charged_when_nothing_is_pruned():
    cost = step_cost(FIGURES, WORK, 10)
    whole = cost.constant_s + np.dot(cost.seconds_per_parameter, WORK.layer_sizes)
    assert whole == pytest.approx(1e-7 * (10 * 3e4 + 61_000) + 3 * 10 * WORK.flops / 2e9)


batches = st.integers(1, 512)
densities = st.lists(st.floats(0, 1), min_size=2, max_size=2)
flops = st.floats(0, 1e12)
works = st.builds(
    Work,
    layer_flops=st.tuples(flops, flops),
    layer_sizes=st.tuples(st.integers(1, 10**8), st.integers(1, 10**8)),
    other_flops=flops,
    values=st.floats(0, 1e9),
    parameters=st.integers(1, 10**9),
)
figures = st.builds(Figures, st.floats(0, 1e-3), st.floats(1e3, 1e15))


def step(cost, work, density):
    active = np.array(density) * work.layer_sizes
    return cost.constant_s + float(np.dot(cost.seconds_per_parameter, active))


@given(figures, works, batches, densities, st.integers(0, 1))
def test_a_denser_layer_never_takes_less(figures, work, batch, density, layer):
    cost = step_cost(figures, work, batch)
    denser = list(density)
    denser[layer] = min(1.0, density[layer] + 0.1)
    assert step(cost, work, density) <= step(cost, work, denser)
    assert cost.constant_s >= 0


@given(figures, works, batches, densities, st.floats(0.01, 100))
def test_a_faster_processor_takes_that_much_less(figures, work, batch, density, speed):
    slow = step(step_cost(figures, work, batch), work, density)
    fast = step(step_cost(at_speed(figures, speed), work, batch), work, density)
    assert fast * speed == pytest.approx(slow, rel=1e-9)


@given(figures, works, batches, densities)
def test_only_the_update_of_parameters_does_not_grow_with_the_batch(figures, work, batch, density):
    one, two = (step(step_cost(figures, work, size), work, density) for size in (batch, 2 * batch))
    update = figures.overhead_s * work.parameters
    assert two - update == pytest.approx(2 * (one - update), rel=1e-6, abs=1e-9 * (two + update))


def test_every_device_has_its_own_speed():
    devices = fleet(
        "emulation.compute.model=flops",
        'emulation.compute.profile={"raspberry-pi-4" = 0.5, "raspberry-pi-5" = 0.5}',
    )
    taken = seconds(devices, [400, 30_000], steps=3.0)
    cost = step_cost(built_in_devices()["raspberry-pi-4"].figures, WORK, 20)
    expected = 3 * (cost.constant_s + np.dot(cost.seconds_per_parameter, [400, 30_000]))
    np.testing.assert_allclose(taken * devices.relative_speed, expected, rtol=1e-12)
    alone = devices.compute.seconds(LocalTraining.of([2], 3.0, [400, 30_000], density=0.5))
    assert alone[0] == taken[2]


def test_masks_are_chosen_by_the_same_coefficients():
    devices = fleet("emulation.compute.model=flops")
    constant_s, per_parameter = devices.compute.step_coefficients(
        LocalTraining.of(EVERYBODY, 1, [0, 0], density=1.0)
    )
    active = np.array([123, 4567])
    np.testing.assert_array_equal(seconds(devices, active), constant_s + (per_parameter * active).sum(axis=1))
    assert (per_parameter > 0).all()


def test_linear_takes_the_same_for_a_model_without_a_table():
    estimated = seconds(fleet("emulation.compute.model=linear"), [800, 60_000], density=1.0)
    np.testing.assert_array_equal(
        estimated, seconds(fleet("emulation.compute.model=flops"), [800, 60_000], density=1.0)
    )
    tiny = Work((8192.0, 1280.0), (4096, 640), 0.0, 458.0, 4810)
    of_tiny = seconds(fleet("emulation.compute.model=linear", work=tiny), [4096, 640], density=1.0)
    assert (of_tiny < 0.01).all()  # and not the 1.25 s of the smallest model that was measured


def test_linear_keeps_the_published_table_where_there_is_one():
    conv2 = Work((1.0,) * 4, (800, 51_200, 6_422_528, 126_976), 0.0, 1.0, 6_603_710)
    devices = fleet("emulation.compute.model=linear", "model.name=conv2", work=conv2)
    active = np.array([800, 51_200, 6_422_528, 126_976]) // 2
    taken = seconds(devices, active)
    expected = 1.2492789765 + (np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7]) * active).sum()
    assert (taken == expected).all()
    assert not devices.compute.costs.estimated.any()


def test_a_device_without_figures_is_refused():
    with pytest.raises(EmulationError, match="'reference' for client 0, of which no overhead_s"):
        fleet("emulation.compute.model=flops", "emulation.compute.profile=reference")


def test_the_work_of_another_model_is_refused():
    with pytest.raises(
        EmulationError, match="the work of 2 prunable layers; needed: that of the 3 of the model"
    ):
        fleet("emulation.compute.model=flops").compute.check(3)
    with pytest.raises(
        EmulationError, match="'raspberry-pi-4' for client 0, which was not measured with a model of 2"
    ):
        fleet("emulation.compute.model=linear", work=None).compute.check(2)


def test_a_fleet_without_work_is_checked_and_not_timed():
    devices = fleet("emulation.compute.model=flops", work=None)
    with pytest.raises(EmulationError, match="needed: that of the 2 of the model"):
        seconds(devices, [1, 1])


def test_another_work_is_another_fleet():
    flops = "emulation.compute.model=flops"
    assert fleet(flops).digest() == fleet(flops).digest()
    assert fleet(flops).digest() != fleet(flops, work=replace(WORK, values=3e4 + 1)).digest()


def test_every_published_table_was_left_out_once():
    assert set(left_out_factors()) == set(built_in_devices()["raspberry-pi-4"].models)
    assert all(factor >= 1 for factor in left_out_factors().values())
