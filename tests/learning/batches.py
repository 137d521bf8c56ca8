"""Cases of training in batches, and what is compared with training alone."""

from dataclasses import dataclass, field

import numpy as np
import torch
from hypothesis import note
from hypothesis import strategies as st
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched import BatchTrainer, ManyResults, ManyTask
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, train

RATE = 0.05


@dataclass(frozen=True)
class Case:
    """Clients of ``sizes`` samples of a model, and what is asked of their training."""

    model: FlatModel
    sizes: tuple[int, ...]
    x: Tensor = field(repr=False)
    y: Tensor = field(repr=False)
    starts: Tensor = field(repr=False)
    mask: Tensor | None = field(repr=False)
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

    def batch(self, trainer: BatchTrainer, clients: list[int], shared: bool) -> ManyResults:
        """Train ``clients``, all of one size, at once."""
        size = self.sizes[clients[0]]
        drawn = [batch_order(size, self.training, np.random.default_rng(client)) for client in clients]
        orders = np.stack([order + self.begins[c] for c, (order, _) in zip(clients, drawn, strict=True)])
        start = self.starts[clients[0]] if shared else self.starts[clients]
        task = ManyTask(self.training, RATE, self.mask, self.directions, self.weights)
        return trainer.train(self.x, self.y, torch.from_numpy(orders), drawn[0][1], start, task)

    def compare(self, trainer: BatchTrainer, clients: list[int], shared: bool) -> None:
        """Train ``clients``, all of one size, and compare each with what it gets alone."""
        note(self.model.module)
        found = self.batch(trainer, clients, shared)
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
def cases(
    draw: st.DrawFn, model: FlatModel, input_shape: tuple[int, ...], classes: int, samples_of: tuple[int, ...]
) -> tuple[Case, list[list[int]], bool]:
    """A case, a division of its clients into batches of one size each, and whether all start from the same weights.

    Every client has one of the numbers ``samples_of`` of samples.
    """
    samples = draw(st.lists(st.sampled_from(samples_of), min_size=1, max_size=9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (sum(samples), *input_shape)
    uint8 = draw(st.booleans())
    x = rng.integers(0, 256, shape, dtype=np.uint8) if uint8 else rng.random(shape, dtype=np.float32) - 0.5
    y = rng.integers(0, classes, sum(samples))
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
