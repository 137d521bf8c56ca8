"""Every kind of step is measured; how long it takes is not asserted."""

import numpy as np
import pytest
import torch

from fedmpi.calibration.measure import measure, points
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


def without_layers(input_shape, classes):
    module = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, classes))
    module[1].prunable = False
    return module


def test_a_model_without_prunable_layers_is_refused():
    with pytest.raises(ConfigError, match="without_layers has no prunable layers"):
        measure(ModelConfig(f"{__name__}:without_layers"), (1, 4, 4), 3, 2, (0.1, 0.5), 1)
