"""Local SGD."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import augmenter
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, learning_rate_at, train

SAMPLES = torch.rand(23, 1, 4, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (23,), generator=torch.Generator().manual_seed(2))
RATE = 0.1


def _module(*extra: nn.Module) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), *extra, nn.Linear(8, 3))


def _draws(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


def _reference(module: nn.Module, training: TrainingConfig) -> tuple[Tensor, float]:
    """The same round by torch's own optimizer: flat parameters and mean loss."""
    optimizer = torch.optim.SGD(
        module.parameters(), lr=RATE, momentum=training.momentum, weight_decay=training.weight_decay
    )
    order, bounds = batch_order(len(SAMPLES), training, _draws())
    begin = [p.detach().clone() for p in module.parameters()]
    losses = []
    for first, stop in bounds:
        taken = torch.from_numpy(order[first:stop])
        optimizer.zero_grad()
        loss = LOSSES[training.loss].mean(module(SAMPLES[taken]), LABELS[taken])
        distance = sum(((p - b) ** 2).sum() for p, b in zip(module.parameters(), begin, strict=True))
        (loss + training.proximal_mu / 2 * distance).backward()
        optimizer.step()
        losses.append(loss.item())
    return torch.cat([p.detach().flatten() for p in module.parameters()]), sum(losses) / len(losses)


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
    expected, expected_loss = _reference(_module(), training)
    model = FlatModel(_module())
    start = model.vector.clone()
    sums = torch.full((model.parameter_count,), torch.nan)
    result = train(model, start, (SAMPLES, LABELS), _task(training, sums))
    assert torch.equal(model.vector, expected)
    assert result.loss == pytest.approx(expected_loss, rel=1e-12)
    assert result.steps == (7 if local_epochs == 0 else 8)
    assert result.samples == (42 if local_epochs == 0 else 46)
    torch.testing.assert_close(start - RATE * sums, expected, rtol=0, atol=1e-6)


def _task(training: TrainingConfig, sums: Tensor | None = None) -> LocalTask:
    return LocalTask(training, RATE, _draws(), direction_sum=sums)


def test_one_step_gives_exactly_the_gradient() -> None:
    training = TrainingConfig(local_steps=1, batch_size=5)
    model = FlatModel(_module())
    start = model.vector.clone()
    sums = torch.empty(model.parameter_count)
    result = train(model, start, (SAMPLES, LABELS), _task(training, sums))

    order, _ = batch_order(len(SAMPLES), training, _draws())
    reference = _module()
    nn.functional.cross_entropy(reference(SAMPLES[order]), LABELS[order]).backward()
    gradient = torch.cat([p.grad.flatten() for p in reference.parameters() if p.grad is not None])
    assert torch.equal(sums, gradient)
    assert torch.equal(model.vector, start.add(gradient, alpha=-RATE))
    assert result.probe_sample in order


def test_starts_from_start_every_time() -> None:
    model = FlatModel(_module())
    start = model.vector.clone()
    training = TrainingConfig(local_steps=3, batch_size=5, momentum=0.9)
    train(model, start, (SAMPLES, LABELS), _task(training))
    first = model.vector.clone()
    train(model, start, (SAMPLES, LABELS), _task(training))
    assert torch.equal(model.vector, first)
    assert not torch.equal(first, start)


def test_weights_nobody_needs_are_not_written() -> None:
    model = FlatModel(_module())
    start = model.vector.clone()
    one = TrainingConfig(local_steps=1, batch_size=5)
    sums, expected = torch.empty(model.parameter_count), torch.empty(model.parameter_count)
    train(model, start, (SAMPLES, LABELS), LocalTask(one, RATE, _draws(), direction_sum=expected))
    train(
        model,
        start,
        (SAMPLES, LABELS),
        LocalTask(one, RATE, _draws(), direction_sum=sums, need_weights=False),
    )
    assert torch.equal(model.vector, start)
    assert torch.equal(sums, expected)

    three = replace(one, local_steps=3)
    train(model, start, (SAMPLES, LABELS), LocalTask(three, RATE, _draws(), direction_sum=expected))
    train(
        model,
        start,
        (SAMPLES, LABELS),
        LocalTask(three, RATE, _draws(), direction_sum=sums, need_weights=False),
    )
    assert torch.equal(sums, expected)


def test_start_may_be_the_vector_of_the_model() -> None:
    model, twin = FlatModel(_module()), FlatModel(_module())
    training = TrainingConfig(local_steps=2, batch_size=5)
    train(model, model.vector, (SAMPLES, LABELS), _task(training))
    train(twin, twin.vector.clone(), (SAMPLES, LABELS), _task(training))
    assert torch.equal(model.vector, twin.vector)


@pytest.mark.parametrize("from_own_vector", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_the_proximal_term_pulls_towards_the_start(momentum: float, from_own_vector: bool) -> None:
    training = TrainingConfig(local_steps=5, batch_size=6, momentum=momentum, proximal_mu=2.0)
    expected, mean_loss = _reference(_module(), training)
    model = FlatModel(_module())
    start = model.vector.clone()
    sums = torch.empty(model.parameter_count)
    result = train(
        model,
        model.vector if from_own_vector else start,
        (SAMPLES, LABELS),
        LocalTask(training, RATE, _draws(), direction_sum=sums),
    )
    torch.testing.assert_close(model.vector, expected)
    torch.testing.assert_close(start - RATE * sums, expected)
    assert result.loss == pytest.approx(mean_loss, rel=1e-6)
    free, _ = _reference(_module(), replace(training, proximal_mu=0.0))
    assert (expected - start).norm() < (free - start).norm()


@pytest.mark.parametrize("dtype", [torch.bool, torch.float32])
@pytest.mark.parametrize(("momentum", "weight_decay"), [(0.0, 0.0), (0.9, 0.05)])
def test_masked_weights_stay_exactly_zero(dtype: torch.dtype, momentum: float, weight_decay: float) -> None:
    model = FlatModel(_module(nn.BatchNorm1d(8)))
    count = model.parameter_count
    mask = (torch.arange(count) % 3 > 0).to(dtype)
    start = model.vector.clone()
    start[:count] *= mask
    sums = torch.empty(count)
    training = TrainingConfig(local_steps=4, batch_size=6, momentum=momentum, weight_decay=weight_decay)
    train(model, start, (SAMPLES, LABELS), LocalTask(training, RATE, _draws(), direction_sum=sums, mask=mask))
    kept = mask.bool()
    assert not model.vector[:count][~kept].any()
    assert sums[~kept].any()
    torch.testing.assert_close((start[:count] - RATE * sums)[kept], model.vector[:count][kept])
    assert not torch.equal(model.vector[count:], start[count:])


def test_a_mask_of_ones_keeps_every_step() -> None:
    model, twin = FlatModel(_module()), FlatModel(_module())
    training = TrainingConfig(local_steps=4, batch_size=6)
    ones = torch.ones(model.parameter_count)
    train(model, model.vector.clone(), (SAMPLES, LABELS), LocalTask(training, RATE, _draws(), mask=ones))
    train(twin, twin.vector.clone(), (SAMPLES, LABELS), _task(training))
    torch.testing.assert_close(model.vector, twin.vector, rtol=0, atol=1e-6)


def test_uint8_samples_are_scaled() -> None:
    bytes_x = (SAMPLES * 255).to(torch.uint8)
    model, twin = FlatModel(_module()), FlatModel(_module())
    training = TrainingConfig(local_steps=3, batch_size=6)
    train(model, model.vector.clone(), (bytes_x, LABELS), _task(training))
    train(twin, twin.vector.clone(), (bytes_x.float() / 255, LABELS), _task(training))
    assert torch.equal(model.vector, twin.vector)


@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("converted", [1, 2 * 6 * 64, 3 * 6 * 64 - 1, 10**9])
def test_how_many_samples_are_converted_at_once_changes_nothing(
    epochs: int, converted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainingConfig(local_steps=7, local_epochs=epochs, batch_size=6)
    whole: list[Tensor] = []
    for limit in (10**9, converted):
        monkeypatch.setattr("fedmpi.learning.minibatches.CONVERTED_BYTES", limit)
        sizes: list[int] = []

        def noted(x: Tensor, sizes: list[int] = sizes) -> Tensor:
            sizes.append(len(x))
            return as_float32(x)

        monkeypatch.setattr("fedmpi.learning.minibatches.as_float32", noted)
        model = FlatModel(_module())
        augment = augmenter("flip_crop", 1, 2, 3)
        start, x = model.vector.clone(), (SAMPLES * 255).to(torch.uint8)
        train(model, start, (x, LABELS), LocalTask(training, RATE, _draws(), augment=augment))
        whole.append(model.vector.clone())
    assert torch.equal(*whole)
    assert sum(sizes) == (42 if epochs == 0 else 46)
    largest = {1: 6, 2 * 6 * 64: 12, 3 * 6 * 64 - 1: 12 if epochs == 0 else 6 + 6 + 5, 10**9: sum(sizes)}
    assert max(sizes) == largest[converted]


def test_dropout_depends_on_its_seed_alone() -> None:
    training = TrainingConfig(local_steps=2, batch_size=8)
    model = FlatModel(_module(nn.Dropout(0.5)))
    start = model.vector.clone()

    def run(seed: int) -> Tensor:
        train(model, start, (SAMPLES, LABELS), LocalTask(training, RATE, _draws(), torch_seed=seed))
        return model.vector.clone()

    first = run(11)
    torch.manual_seed(99)
    state = torch.get_rng_state()
    assert torch.equal(run(11), first)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(run(12), first)
    with pytest.raises(ValueError, match="needs a torch_seed"):
        train(model, start, (SAMPLES, LABELS), _task(training))


def test_unused_parameters_do_not_move() -> None:
    module = _module()
    module.register_parameter("unused", nn.Parameter(torch.ones(4)))
    model = FlatModel(module)
    layer = next(layer for layer in model.layers if layer.name == "unused")
    sums = torch.empty(model.parameter_count)
    train(
        model,
        model.vector.clone(),
        (SAMPLES, LABELS),
        LocalTask(TrainingConfig(), RATE, _draws(), direction_sum=sums),
    )
    assert torch.equal(model.vector[layer.start : layer.stop], torch.ones(4))
    assert not sums[layer.start : layer.stop].any()


def test_what_is_not_finite_reaches_the_caller() -> None:
    model = FlatModel(_module())
    sums = torch.empty(model.parameter_count)
    bad = torch.full((4, 1, 4, 4), torch.inf)
    result = train(
        model,
        model.vector.clone(),
        (bad, LABELS[:4]),
        LocalTask(TrainingConfig(), RATE, _draws(), direction_sum=sums),
    )
    assert not np.isfinite(result.loss)
    assert not torch.isfinite(sums).all()


def test_a_client_without_samples_is_refused() -> None:
    model = FlatModel(_module())
    with pytest.raises(ValueError, match="without samples"):
        train(model, model.vector, (SAMPLES[:0], LABELS[:0]), LocalTask(TrainingConfig(), RATE, _draws()))


@given(
    samples=st.integers(1, 60), batch=st.integers(1, 70), steps=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_steps_draw_full_batches_without_replacement(samples: int, batch: int, steps: int, seed: int) -> None:
    training = TrainingConfig(local_steps=steps, batch_size=batch)
    order, bounds = batch_order(samples, training, _draws(seed))
    size = min(batch, samples)
    assert bounds == [(step * size, (step + 1) * size) for step in range(steps)]
    assert order.size == steps * size
    assert order.min() >= 0
    assert order.max() < samples
    epoch = samples // size * size
    for first in range(0, order.size, epoch):
        part = order[first : first + epoch]
        assert np.unique(part).size == part.size


@given(
    samples=st.integers(1, 60), batch=st.integers(1, 70), epochs=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_epochs_take_every_sample_once(samples: int, batch: int, epochs: int, seed: int) -> None:
    training = TrainingConfig(local_epochs=epochs, local_steps=3, batch_size=batch)
    order, bounds = batch_order(samples, training, _draws(seed))
    for epoch in range(epochs):
        part = order[epoch * samples : (epoch + 1) * samples]
        assert np.array_equal(np.sort(part), np.arange(samples))
    assert [start for start, _ in bounds] == [0, *[stop for _, stop in bounds[:-1]]]
    assert bounds[-1][1] == order.size
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) == min(batch, samples)
    assert len(bounds) == epochs * -(-samples // min(batch, samples))


def test_every_sample_can_come_first() -> None:
    training = TrainingConfig(local_steps=1, batch_size=2)
    firsts = {int(batch_order(5, training, _draws(seed))[0][0]) for seed in range(80)}
    assert firsts == set(range(5))


def test_learning_rate_halves() -> None:
    halving = TrainingConfig(learning_rate=0.4, learning_rate_half_life_rounds=10.0)
    assert learning_rate_at(halving, 0) == 0.4
    assert learning_rate_at(halving, 20) == pytest.approx(0.1)
    assert learning_rate_at(TrainingConfig(learning_rate=0.4), 10**6) == 0.4
