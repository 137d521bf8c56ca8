"""Whether training in batches gives every client the bits that it gets alone: tried where the run will train.

The same products of matrices give the same bits by construction (see ``batched``); another processor or version of
torch may still compute a layer, or its gradient, otherwise than it is done there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.batched import BatchTrainer, ManyTask
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import batch_order
from fedmpi.learning.training import LocalTask, train

_CLIENTS = 3
_LEARNING_RATE = 0.1
_MOST_STEPS = 2


def differing_samples(
    trainer: BatchTrainer,
    training: TrainingConfig,
    input_shape: tuple[int, ...],
    classes: int,
    samples: Iterable[int],
) -> int | None:
    """The first of the numbers of ``samples`` of a client with which a bit differs; None where none does.

    Tried are a few clients with random samples, in up to two steps and one epoch; ``trainer.model`` stays as it was.
    """
    tried = replace(
        training,
        local_epochs=min(training.local_epochs, 1),
        local_steps=min(training.local_steps, _MOST_STEPS),
    )
    kept = trainer.model.vector.clone()
    try:
        for count in sorted({_fewest_like(each, training.batch_size) for each in samples}):
            if not _agrees(trainer, tried, input_shape, classes, count):
                return count
    finally:
        trainer.model.load(kept)
    return None


def _fewest_like(samples: int, batch: int) -> int:
    """So many samples as make a full batch and the same rest."""
    return samples if samples <= batch else batch + samples % batch


def _agrees(
    trainer: BatchTrainer, training: TrainingConfig, input_shape: tuple[int, ...], classes: int, count: int
) -> bool:
    model: FlatModel = trainer.model
    rng = np.random.default_rng(0)
    clients = min(_CLIENTS, trainer.most_clients)
    x = torch.from_numpy(rng.random((clients * count, *input_shape), dtype=np.float32))
    y = torch.from_numpy(rng.integers(0, classes, clients * count))
    start = model.vector.clone()
    orders = [batch_order(count, training, np.random.default_rng(client)) for client in range(clients)]
    taken = torch.from_numpy(np.stack([order + n * count for n, (order, _) in enumerate(orders)]))
    task = ManyTask(training, _LEARNING_RATE, mask=None, need_directions=True, need_weights=True)
    found = trainer.train(x, y, taken, orders[0][1], start, task)
    assert found.weights is not None
    assert found.directions is not None
    for client in range(clients):
        own, directions = slice(client * count, (client + 1) * count), torch.empty(model.parameter_count)
        alone = LocalTask(training, _LEARNING_RATE, np.random.default_rng(client), direction_sum=directions)
        result = train(model, start, (x[own], y[own]), alone)
        same = (
            result.loss == found.losses[client]
            and torch.equal(model.vector, found.weights[client])
            and torch.equal(directions, found.directions[client])
        )
        if not same:
            return False
    return True
