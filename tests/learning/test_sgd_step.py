"""Steps of SGD: against torch's own optimizer, its gradients, and what a mask and the proximal term do."""

from dataclasses import replace

import pytest
import torch
from small_model import LABELS, RATE, SAMPLES, draws, small_module, task, torch_round
from torch import nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, train


@pytest.mark.parametrize("loss", ["cross_entropy", "bce_one_hot"])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("local_epochs", [0, 2])
def test_equals_torch_sgd(loss: str, momentum: float, weight_decay: float, local_epochs: int) -> None:
    training = TrainingConfig(
        local_steps=7,
        local_epochs=local_epochs,
        batch_size=6,
        momentum=momentum,
        weight_decay=weight_decay,
        loss=loss,
    )
    expected, expected_loss = torch_round(small_module(), training)
    model = FlatModel(small_module())
    start = model.vector.clone()
    sums = torch.full((model.parameter_count,), torch.nan)
    result = train(model, start, (SAMPLES, LABELS), task(training, sums))
    assert torch.equal(model.vector, expected)
    assert result.loss == pytest.approx(expected_loss, rel=1e-12)
    assert result.steps == (7 if local_epochs == 0 else 8)
    assert result.samples == (42 if local_epochs == 0 else 46)
    torch.testing.assert_close(start - RATE * sums, expected, rtol=0, atol=1e-6)


def test_one_step_gives_exactly_the_gradient() -> None:
    training = TrainingConfig(local_steps=1, batch_size=5)
    model = FlatModel(small_module())
    start = model.vector.clone()
    sums = torch.empty(model.parameter_count)
    result = train(model, start, (SAMPLES, LABELS), task(training, sums))

    order, _ = batch_order(len(SAMPLES), training, draws())
    reference = small_module()
    nn.functional.cross_entropy(reference(SAMPLES[order]), LABELS[order]).backward()
    gradient = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert torch.equal(sums, gradient)
    assert torch.equal(model.vector, start.add(gradient, alpha=-RATE))
    assert result.probe_sample in order


@pytest.mark.parametrize("from_own_vector", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_proximal_term_pulls_towards_the_start(momentum: float, from_own_vector: bool) -> None:
    training = TrainingConfig(local_steps=5, batch_size=6, momentum=momentum, proximal_mu=2.0)
    expected, mean_loss = torch_round(small_module(), training)
    model = FlatModel(small_module())
    start = model.vector.clone()
    sums = torch.empty(model.parameter_count)
    result = train(
        model,
        model.vector if from_own_vector else start,
        (SAMPLES, LABELS),
        LocalTask(training, RATE, draws(), direction_sum=sums),
    )
    torch.testing.assert_close(model.vector, expected)
    torch.testing.assert_close(start - RATE * sums, expected)
    assert result.loss == pytest.approx(mean_loss, rel=1e-6)
    free, _ = torch_round(small_module(), replace(training, proximal_mu=0.0))
    assert (expected - start).norm() < (free - start).norm()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.05)])
def test_masked_weights_stay_exactly_zero(dtype: torch.dtype, momentum: float, weight_decay: float) -> None:
    model = FlatModel(small_module(nn.BatchNorm1d(8)))
    count = model.parameter_count
    mask = (torch.arange(count) % 3 > 0).to(dtype)
    start = model.vector.clone()
    start[:count] *= mask
    sums = torch.empty(count)
    training = TrainingConfig(local_steps=4, batch_size=6, momentum=momentum, weight_decay=weight_decay)
    train(model, start, (SAMPLES, LABELS), LocalTask(training, RATE, draws(), direction_sum=sums, mask=mask))
    kept = mask.bool()
    assert not model.vector[:count][~kept].any()
    assert sums[~kept].any()
    torch.testing.assert_close((start[:count] - RATE * sums)[kept], model.vector[:count][kept])
    assert not torch.equal(model.vector[count:], start[count:])


def test_a_mask_of_ones_keeps_every_step() -> None:
    model, twin = FlatModel(small_module()), FlatModel(small_module())
    training = TrainingConfig(local_steps=4, batch_size=6)
    ones = torch.ones(model.parameter_count)
    train(model, model.vector.clone(), (SAMPLES, LABELS), LocalTask(training, RATE, draws(), mask=ones))
    train(twin, twin.vector.clone(), (SAMPLES, LABELS), task(training))
    torch.testing.assert_close(model.vector, twin.vector, rtol=0, atol=1e-6)


def test_unused_parameters_do_not_move() -> None:
    module = small_module()
    module.register_parameter("unused", nn.Parameter(torch.ones(4)))
    model = FlatModel(module)
    layer = next(layer for layer in model.layers if layer.name == "unused")
    sums = torch.empty(model.parameter_count)
    train(
        model,
        model.vector.clone(),
        (SAMPLES, LABELS),
        LocalTask(TrainingConfig(), RATE, draws(), direction_sum=sums),
    )
    assert torch.equal(model.vector[layer.start : layer.stop], torch.ones(4))
    assert not sums[layer.start : layer.stop].any()
