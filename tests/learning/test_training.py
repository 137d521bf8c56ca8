"""Local SGD of a client."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_model import LABELS, RATE, SAMPLES, draws, small_module, task
from torch import Tensor, nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.training import LocalTask, learning_rate_at, train


def test_starts_from_start_every_time() -> None:
    model = FlatModel(small_module())
    start = model.vector.clone()
    training = TrainingConfig(local_steps=3, batch_size=5, momentum=0.9)
    train(model, start, (SAMPLES, LABELS), task(training))
    first = model.vector.clone()
    train(model, start, (SAMPLES, LABELS), task(training))
    assert torch.equal(model.vector, first)
    assert not torch.equal(first, start)


def test_weights_nobody_needs_are_not_written() -> None:
    model = FlatModel(small_module())
    start = model.vector.clone()
    one = TrainingConfig(local_steps=1, batch_size=5)
    sums, expected = torch.empty(model.parameter_count), torch.empty(model.parameter_count)
    train(model, start, (SAMPLES, LABELS), LocalTask(one, RATE, draws(), direction_sum=expected))
    train(
        model,
        start,
        (SAMPLES, LABELS),
        LocalTask(one, RATE, draws(), direction_sum=sums, need_weights=False),
    )
    assert torch.equal(model.vector, start)
    assert torch.equal(sums, expected)

    three = replace(one, local_steps=3)
    train(model, start, (SAMPLES, LABELS), LocalTask(three, RATE, draws(), direction_sum=expected))
    train(
        model,
        start,
        (SAMPLES, LABELS),
        LocalTask(three, RATE, draws(), direction_sum=sums, need_weights=False),
    )
    assert torch.equal(sums, expected)


def test_start_may_be_the_vector_of_the_model() -> None:
    model, twin = FlatModel(small_module()), FlatModel(small_module())
    training = TrainingConfig(local_steps=2, batch_size=5)
    train(model, model.vector, (SAMPLES, LABELS), task(training))
    train(twin, twin.vector.clone(), (SAMPLES, LABELS), task(training))
    assert torch.equal(model.vector, twin.vector)


def test_uint8_samples_are_scaled() -> None:
    bytes_x = (SAMPLES * 255).to(torch.uint8)
    model, twin = FlatModel(small_module()), FlatModel(small_module())
    training = TrainingConfig(local_steps=3, batch_size=6)
    train(model, model.vector.clone(), (bytes_x, LABELS), task(training))
    train(twin, twin.vector.clone(), (bytes_x.float() / 255, LABELS), task(training))
    assert torch.equal(model.vector, twin.vector)


def test_dropout_depends_on_its_seed_alone() -> None:
    training = TrainingConfig(local_steps=2, batch_size=8)
    model = FlatModel(small_module(nn.Dropout(0.5)))
    start = model.vector.clone()

    def run(seed: int) -> Tensor:
        train(model, start, (SAMPLES, LABELS), LocalTask(training, RATE, draws(), torch_seed=seed))
        return model.vector.clone()

    first = run(11)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(run(11), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(12), first)
    with pytest.raises(ValueError, match="needs a torch_seed"):
        train(model, start, (SAMPLES, LABELS), task(training))


def test_what_is_not_finite_reaches_the_caller() -> None:
    model = FlatModel(small_module())
    sums = torch.empty(model.parameter_count)
    bad = torch.full((4, 1, 4, 4), torch.inf)
    result = train(
        model,
        model.vector.clone(),
        (bad, LABELS[:4]),
        LocalTask(TrainingConfig(), RATE, draws(), direction_sum=sums),
    )
    assert not np.isfinite(result.loss)
    assert not torch.isfinite(sums).all()


def test_a_client_without_samples_is_refused() -> None:
    model = FlatModel(small_module())
    with pytest.raises(ValueError, match="without samples"):
        train(model, model.vector, (SAMPLES[:0], LABELS[:0]), LocalTask(TrainingConfig(), RATE, draws()))


def test_learning_rate_halves() -> None:
    halving = TrainingConfig(learning_rate=0.4, learning_rate_half_life_rounds=10.0)
    assert learning_rate_at(halving, 0) == 0.4
    assert learning_rate_at(halving, 20) == pytest.approx(0.1)
    assert learning_rate_at(TrainingConfig(learning_rate=0.4), 10**6) == 0.4
