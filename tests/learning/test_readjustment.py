"""Own masks of clients, taken in the middle of their training, and gradients at the weights that they trained to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.readjustment import OwnMask, steps_before
from fedmpi.learning.training import LocalTask, train

SAMPLES = torch.rand(23, 1, 4, 4, generator=torch.Generator().manual_seed(1))
LABELS = torch.randint(0, 3, (23,), generator=torch.Generator().manual_seed(2))
RATE = 0.1
KEPT = np.arange(163) % 3 != 1


def model() -> FlatModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return FlatModel(nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 3)))


class Choice:
    """An own mask of every other entry in the order of gradients, and what it was chosen by.

    Of three entries in a row the first does not keep its value.
    """

    def __init__(self) -> None:
        self.seen: list[tuple[NDArray[np.float32], NDArray[np.float32]]] = []
        self.flags = np.empty(0, np.bool_)

    def __call__(
        self, weights: NDArray[np.float32], gradient: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        self.seen.append((weights.copy(), gradient.copy()))
        self.flags = np.zeros(gradient.size, np.bool_)
        self.flags[np.argsort(-np.abs(gradient), kind="stable")[::2]] = True
        return self.flags, KEPT


def task(training: TrainingConfig, choice: Choice, mask: torch.Tensor | None = None) -> LocalTask:
    return LocalTask(training, RATE, np.random.default_rng(7), mask=mask, own_mask=choice)


@given(st.integers(1, 200), st.integers(1, 50))
def test_at_least_one_step_and_at_most_the_last_epoch_follow(steps: int, of_epoch: int) -> None:
    after = steps - steps_before(steps, of_epoch)
    assert 1 <= after <= max(1, of_epoch)
    assert after <= max(1, steps // 2)


@pytest.mark.parametrize(
    ("steps", "of_epoch", "before"), [(40, 4, 36), (4, 4, 2), (3, 9, 2), (2, 1, 1), (1, 1, 0)]
)
def test_the_mask_is_taken_before_the_last_epoch(steps: int, of_epoch: int, before: int) -> None:
    assert steps_before(steps, of_epoch) == before


@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize(("epochs", "steps", "before"), [(3, 1, 8), (1, 1, 2), (0, 5, 3), (0, 1, 0)])
def test_training_goes_on_under_the_own_mask(momentum: float, epochs: int, steps: int, before: int) -> None:
    """As by hand: masked steps, a dense gradient of the last batch, and steps under the other mask."""
    training = TrainingConfig(
        local_epochs=epochs, local_steps=steps, batch_size=6, momentum=momentum, weight_decay=0.05
    )
    flat, choice = model(), Choice()
    first = torch.from_numpy((np.arange(flat.parameter_count) % 3 > 0).astype(np.float32))
    start = flat.vector * first
    result = train(flat, start, (SAMPLES, LABELS), task(training, choice, first))

    other = model()
    other.load(start)
    order, bounds = batch_order(23, training, np.random.default_rng(7))
    mask, velocity = first, torch.zeros(other.parameter_count)

    def gradient_of(place: int) -> torch.Tensor:
        taken = torch.from_numpy(order[slice(*bounds[place])])
        loss = LOSSES[training.loss].mean(other.module(SAMPLES[taken]), LABELS[taken])
        return torch.cat([each.flatten() for each in torch.autograd.grad(loss, other.parameters)])

    for place in range(len(bounds)):
        if place == before:
            gradient = gradient_of(max(0, place - 1))
            np.testing.assert_allclose(choice.seen[0][0], other.vector.numpy(), rtol=1e-5, atol=1e-7)
            np.testing.assert_allclose(choice.seen[0][1], gradient.numpy(), rtol=1e-4, atol=1e-7)
            mask = torch.from_numpy(choice.flags.astype(np.float32))
            other.load(other.vector * mask * torch.from_numpy(KEPT))
        velocity = momentum * velocity + gradient_of(place) + 0.05 * other.vector
        other.load(other.vector - RATE * mask * velocity)
    assert len(choice.seen) == 1
    torch.testing.assert_close(flat.vector, other.vector, rtol=1e-6, atol=1e-7)
    assert (flat.vector.numpy()[~choice.flags] == 0).all()
    assert (flat.vector.numpy()[choice.flags & (first.numpy() == 0)] != 0).any()
    assert result.samples == len(order) + bounds[max(0, before - 1)][1] - bounds[max(0, before - 1)][0]
    assert result.steps == len(bounds)


def test_the_mask_of_the_round_stays_and_without_one_all_are_trained_at_first() -> None:
    training = TrainingConfig(local_steps=4, batch_size=6)
    mask = torch.ones(model().parameter_count)
    ends = []
    for given_mask in (mask, None):
        flat, choice = model(), Choice()
        train(flat, flat.vector.clone(), (SAMPLES, LABELS), task(training, choice, given_mask))
        ends.append(flat.vector.clone())
        assert not choice.flags.all()
    assert torch.equal(*ends)
    assert (mask == 1).all()


def test_sums_of_directions_are_refused() -> None:
    flat = model()
    sums = torch.zeros(flat.parameter_count)
    with pytest.raises(ValueError, match="own mask has no sum of directions"):
        train(
            flat,
            flat.vector.clone(),
            (SAMPLES, LABELS),
            replace(task(TrainingConfig(), Choice()), direction_sum=sums),
        )


class Normed(nn.Module):
    """Batch norm, whose statistics a forward pass changes, and a layer on which no loss depends."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(), nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)
        )
        self.unused = nn.Linear(2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.layers(x)
        return found


def normed() -> FlatModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return FlatModel(Normed())


@pytest.mark.parametrize("make", [model, normed])
@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.5])
@pytest.mark.parametrize("steps", [1, 4])
def test_a_gradient_at_the_trained_weights_is_dense_and_changes_nothing(
    make: Callable[[], FlatModel], summed: bool, momentum: float, steps: int
) -> None:
    """As by hand on the minibatch of the last step, also under a mask, and where nobody reads the weights."""
    training = TrainingConfig(local_steps=steps, batch_size=6, momentum=momentum, weight_decay=0.05)
    plain, flat = make(), make()
    mask = torch.from_numpy((np.arange(flat.parameter_count) % 3 > 0).astype(np.float32))
    start = flat.vector.clone()
    start[: len(mask)] *= mask
    gradient, sums = (
        torch.full_like(mask, torch.nan),
        [torch.zeros_like(mask) if summed else None for _ in "ab"],
    )
    tasks = [
        LocalTask(
            training,
            RATE,
            np.random.default_rng(7),
            torch_seed=5,
            mask=mask,
            direction_sum=each,
            need_weights=not summed or end is None,
            end_gradient=end,
        )
        for each, end in zip(sums, (None, gradient), strict=True)
    ]
    results = [
        train(which, start, (SAMPLES, LABELS), each) for which, each in zip((plain, flat), tasks, strict=True)
    ]
    assert torch.equal(flat.vector, plain.vector)
    if summed:
        assert sums[0] is not None
        assert sums[1] is not None
        assert torch.equal(sums[1], sums[0])
    order, bounds = batch_order(23, training, np.random.default_rng(7))
    taken = torch.from_numpy(order[slice(*bounds[-1])])
    loss = LOSSES[training.loss].mean(plain.module(SAMPLES[taken]), LABELS[taken])
    found = torch.autograd.grad(loss, plain.parameters, allow_unused=True)
    for view, each in zip(flat.parameter_views(gradient), found, strict=True):
        torch.testing.assert_close(view, torch.zeros_like(view) if each is None else each)
    assert (gradient[mask == 0] != 0).any()
    assert [each.samples for each in results] == [len(order), len(order) + bounds[-1][1] - bounds[-1][0]]
    assert results[0].loss == results[1].loss


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_a_model_may_change_its_input_in_place(steps: int) -> None:
    """A batch that is taken once more is as it was: own masks and gradients are those without such changes."""
    training = TrainingConfig(local_steps=steps, batch_size=6)
    found = []
    for inplace in (False, True):
        torch.manual_seed(3)
        flat = FlatModel(nn.Sequential(nn.SiLU(inplace=inplace), nn.Flatten(), nn.Linear(16, 3)))
        start, samples, choice = flat.vector.clone(), SAMPLES.clone(), Choice()
        train(flat, start, (samples, LABELS), replace(task(training, choice), own_mask=every_other(choice)))
        own = flat.vector.clone()
        gradient = torch.empty(flat.parameter_count)
        plain = LocalTask(training, RATE, np.random.default_rng(7), end_gradient=gradient)
        train(flat, start, (samples, LABELS), plain)
        assert torch.equal(samples, SAMPLES)
        found.append((torch.from_numpy(choice.seen[0][1]), own, gradient, flat.vector.clone()))
    assert all(map(torch.equal, *found))


def every_other(choice: Choice) -> OwnMask:
    def own_mask(
        weights: NDArray[np.float32], gradient: NDArray[np.float32]
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        flags, _ = choice(weights, gradient)
        return flags, flags

    return own_mask
