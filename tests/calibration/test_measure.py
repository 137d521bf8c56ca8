"""Every kind of step is measured; how long it takes is not asserted."""

import sys

import numpy as np
import pytest
import torch

from fedmpi.calibration.measure import measure, points, spread
from fedmpi.config import ConfigError
from fedmpi.config.schema import ModelConfig


def test_layers_vary_together_and_alone():
    assert points(2, (0.1, 0.2, 0.4)) == [(0, 0), (1, 1), (2, 2), (1, 0), (2, 0), (0, 1), (0, 2)]
    assert points(1, (0.1, 0.2)) == [(0,), (1,)]


@pytest.mark.parametrize(
    ("name", "shape"), [("mlp", (1, 4, 4)), ("conv2", (1, 8, 8)), ("conv4", (3, 16, 16))]
)
def test_a_model_is_measured_at_every_point(name, shape):
    threads = torch.get_num_threads()
    found = measure(ModelConfig(name, (9,)), shape, 3, batch_size=2, densities=(0.1, 0.5), steps=1)
    assert torch.get_num_threads() == threads
    layers = len(found.layers)
    assert all(layer.endswith("weight") for layer in found.layers)
    assert found.active.shape == (layers + 2, layers)
    assert found.seconds.shape == (layers + 2,)
    assert (found.seconds > 0).all()
    assert found.dense_step_s > 0
    low, high = found.active[0] / found.sizes, found.active[1] / found.sizes
    np.testing.assert_allclose(low, 0.1, atol=0.1)
    np.testing.assert_allclose(high, 0.5, atol=0.2)
    for layer in range(layers):
        expected = found.active[0].copy()
        expected[layer] = found.active[1, layer]
        assert found.active[2 + layer].tolist() == expected.tolist()


def test_held_out_densities_are_measured_apart():
    found = measure(
        ModelConfig("mlp", (9,)), (1, 4, 4), 3, 2, densities=(0.1, 0.5), steps=2, held_out=(0.2, 0.9)
    )
    assert found.active.shape == (4, 2)
    assert found.held_out_densities == (0.2, 0.9)
    assert found.held_out_active.shape == (2, 2)
    assert (found.held_out_active[0] < found.held_out_active[1]).all()
    assert (found.held_out_seconds > 0).all()
    assert found.repetitions == 2


@pytest.mark.parametrize(("spreads", "repetitions"), [([0.05], 2), ([0.2, 0.1], 4), ([0.2, 0.2, 0.2], 6)])
def test_it_repeats_until_the_spread_is_small_or_it_has_repeated_enough(spreads, repetitions, monkeypatch):
    told = iter([*spreads, spreads[-1]])
    monkeypatch.setattr(sys.modules[measure.__module__], "spread", lambda times: next(told))
    found = measure(ModelConfig("logistic"), (1, 4, 4), 3, 2, (0.1, 0.5), 2, most_spread=0.1, most_steps=6)
    assert found.repetitions == repetitions
    assert found.spread == spreads[-1]


def test_the_spread_is_that_of_two_halves_and_the_largest_of_all():
    assert spread([[1.0, 1.0, 1.2, 1.2]]) == pytest.approx(0.2 / 1.1)
    assert spread([[1.0, 1.2, 1.0, 1.2]]) == 0.0
    assert spread([[1.0, 1.0], [2.0, 3.0]]) == pytest.approx(1.0 / 2.5)
    assert spread([[1.0]]) == np.inf


def without_layers(input_shape, classes):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, classes))
    module[1].prunable = False
    return module


def test_a_model_without_prunable_layers_is_refused():
    with pytest.raises(ConfigError, match="without_layers has no prunable layers"):
        measure(ModelConfig(f"{__name__}:without_layers"), (1, 4, 4), 3, 2, (0.1, 0.5), 1)
