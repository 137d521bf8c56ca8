"""Training in batches: the bits of every client are those that it gets alone."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched import BatchTrainer, ManyTask, why_not
from fedmpi.learning.batched_trial import differing_samples
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.summed_linear import LARGE
from fedmpi.learning.training import LocalTask, batch_order, train

RATE = 0.05


def make_model(*sizes: int, bias: bool = True) -> FlatModel:
    layers: list[nn.Module] = [nn.Flatten()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for number, (fan_in, fan_out) in enumerate(pairwise(sizes)):
            layers += [nn.ReLU()] if number else []
            layers.append(nn.Linear(fan_in, fan_out, bias=bias))
    return FlatModel(nn.Sequential(*layers))


@dataclass(frozen=True)
class Case:
    """Clients of ``sizes`` samples of a model, and what is asked of their training."""

    model: FlatModel
    sizes: tuple[int, ...]
    x: Tensor
    y: Tensor
    starts: Tensor
    mask: Tensor | None
    training: TrainingConfig
    directions: bool
    weights: bool

    @property
    def begins(self) -> np.ndarray:
        return np.cumsum((0, *self.sizes))

    def alone(self, client: int) -> tuple[float, Tensor, Tensor | None]:
        total = torch.zeros(self.model.parameter_count) if self.directions else None
        own = slice(self.begins[client], self.begins[client + 1])
        task = LocalTask(
            self.training,
            RATE,
            np.random.default_rng(client),
            mask=self.mask,
            direction_sum=total,
            need_weights=self.weights,
        )
        result = train(self.model, self.starts[client], (self.x[own], self.y[own]), task)
        return result.loss, self.model.vector.clone(), total

    def together(self, trainer: BatchTrainer, clients: list[int], shared: bool) -> None:
        """Train ``clients``, all of one size, and compare each with what it gets alone."""
        size = self.sizes[clients[0]]
        drawn = [batch_order(size, self.training, np.random.default_rng(client)) for client in clients]
        orders = np.stack([order + self.begins[c] for c, (order, _) in zip(clients, drawn, strict=True)])
        start = self.starts[clients[0]] if shared else self.starts[clients]
        task = ManyTask(self.training, RATE, self.mask, self.directions, self.weights)
        found = trainer.train(self.x, self.y, torch.from_numpy(orders), drawn[0][1], start, task)
        kept = [None if each is None else each.clone() for each in (found.weights, found.directions)]
        assert (kept[0] is not None, kept[1] is not None) == (self.weights, self.directions)
        for position, client in enumerate(clients):
            loss, weights, directions = self.alone(client)
            assert found.losses[position] == loss
            if kept[0] is not None:
                assert_same_bits(kept[0][position], weights)
            if kept[1] is not None:
                assert directions is not None
                assert_same_bits(kept[1][position], directions)


def assert_same_bits(one: Tensor, other: Tensor) -> None:
    assert torch.equal(one.contiguous().view(torch.int32), other.view(torch.int32))


@st.composite
def cases(draw: st.DrawFn) -> tuple[Case, list[list[int]], bool]:
    """A case, a division of its clients into batches of one size each, and whether all start from the same weights."""
    width = st.sampled_from([2, 3, 5, 8, 16, 17, 33, 62, 64, 100])
    sizes = [draw(st.sampled_from([2, 3, 8, 33, 64, 784])), *draw(st.lists(width, max_size=2)), draw(width)]
    model = make_model(*sizes, bias=draw(st.booleans()))
    samples = draw(st.lists(st.sampled_from([1, 2, 3, 7, 10, 21, 33]), min_size=1, max_size=9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (sum(samples), 1, 1, sizes[0])
    uint8 = draw(st.booleans())
    x = rng.integers(0, 256, shape, dtype=np.uint8) if uint8 else rng.random(shape, dtype=np.float32) - 0.5
    y = rng.integers(0, sizes[-1], sum(samples))
    count = model.parameter_count
    mask = rng.random(count) < 0.5 if draw(st.booleans()) else np.ones(count, np.bool_)
    shared = draw(st.booleans())
    away = np.zeros(1) if shared else 0.1 * rng.standard_normal((len(samples), count))
    starts = np.where(mask, model.vector.numpy() + away, 0.0).astype(np.float32)
    directions = draw(st.booleans())
    training = TrainingConfig(
        local_steps=draw(st.integers(1, 4)),
        local_epochs=draw(st.sampled_from([0, 0, 1, 2])),
        batch_size=draw(st.sampled_from([1, 2, 3, 10, 20])),
        momentum=draw(st.sampled_from([0.0, 0.9])),
        weight_decay=draw(st.sampled_from([0.0, 1e-3])),
        proximal_mu=draw(st.sampled_from([0.0, 0.1])),
        loss=draw(st.sampled_from(["cross_entropy", "bce_one_hot"])),
    )
    case = Case(
        model=model,
        sizes=tuple(samples),
        x=torch.from_numpy(x),
        y=torch.from_numpy(y),
        starts=torch.from_numpy(np.broadcast_to(starts, (len(samples), count)).copy()),
        mask=None if mask.all() else torch.from_numpy(mask.astype(np.float32)),
        training=training,
        directions=directions,
        weights=not directions or draw(st.booleans()),
    )
    batches = []
    for size in sorted(set(samples)):
        clients = [client for client, own in enumerate(samples) if own == size]
        clients = draw(st.permutations(clients))
        cut = draw(st.integers(0, len(clients)))
        batches += [list(part) for part in (clients[:cut], clients[cut:]) if part]
    return case, batches, shared


@settings(max_examples=60, deadline=None)
@given(cases())
def test_bits_do_not_depend_on_who_is_in_the_batch(drawn: tuple[Case, list[list[int]], bool]) -> None:
    case, batches, shared = drawn
    assert why_not(case.model) is None
    trainer = BatchTrainer(case.model, case.training.loss)
    for clients in batches:
        case.together(trainer, clients, shared)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.Dropout(0.5)), "layer Dropout"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 3), nn.BatchNorm1d(3)), "float buffers"),
        (nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(4, 3)), "layer Conv2d"),
        (nn.Sequential(nn.Linear(4, 3)), "before the samples are flat"),
        (nn.Sequential(nn.Flatten(), nn.ReLU(), nn.Linear(4, 3)), "before the first linear layer"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4, 1), nn.Linear(1, 3)), "one input or one output"),
        (nn.Sequential(nn.Flatten(), nn.Linear(LARGE // 4, 4)), f"{LARGE} weights"),
        (nn.Linear(4, 3), "the model is Linear"),
    ],
)
def test_other_models_are_trained_one_by_one(module: nn.Module, reason: str) -> None:
    found = why_not(FlatModel(module))
    assert found is not None
    assert reason in found


def test_frozen_parameters_and_hooks_are_trained_one_by_one() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    module[1].bias.requires_grad_(False)
    assert why_not(FlatModel(module)) == "parameters are frozen"
    module = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    module[1].register_forward_hook(lambda *unused: None)
    assert why_not(FlatModel(module)) == "code of others runs in the model"


def test_a_trial_finds_other_bits() -> None:
    model = make_model(6, 4, 3)
    before = model.vector.clone()
    training = TrainingConfig(local_epochs=2, batch_size=4)
    trainer = BatchTrainer(model, "cross_entropy")
    assert differing_samples(trainer, training, (1, 2, 3), 3, [9, 4, 11]) is None
    of_many = trainer._loss

    def off_by_a_bit(logits: Tensor, labels: Tensor, gradient: Tensor) -> list[float]:
        losses = of_many(logits, labels, gradient)
        if labels.shape[1] == 3:
            gradient[0, 0, 0] *= 1 + 2**-23
        return losses

    trainer._loss = off_by_a_bit
    assert differing_samples(trainer, training, (1, 2, 3), 3, [8, 4, 11]) == 7  # a batch of 4, and one of 3
    assert torch.equal(model.vector, before)
