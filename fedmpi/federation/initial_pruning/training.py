"""Local training for initial pruning: fixed batches of a few samples of one client or of the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.federation.distribution import ServerData
from fedmpi.federation.initial_pruning.schedule import BATCH_SIZE, BATCHES
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.evaluation import block_slices, evaluate_blocks
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.training import learning_rate_at, train_batches
from fedmpi.numerics.streams import Purpose, generator, torch_seed

SAMPLES = BATCHES * BATCH_SIZE


def draw_samples(config: Config, data: ServerData) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The samples (n, ...) and labels (n,) of initial pruning, in an order that is drawn once.

    Those of the selected client, or of all training samples where the server prunes; 200 of them, or all if there are
    fewer.
    """
    initial, seed = config.pruning.initial, config.experiment.seed
    if initial.where == "client":
        known = data.samples[initial.client]
        draw = generator(seed, Purpose.INITIAL_PRUNING, client=1 + initial.client)
    else:
        known = np.arange(len(data.dataset.train_y))
        draw = generator(seed, Purpose.INITIAL_PRUNING)
    chosen = draw.permutation(known)[:SAMPLES]
    return data.dataset.train_x[chosen], data.dataset.train_y[chosen]


class InitialTraining:
    """Local rounds on ``model``: each makes a step on every batch, in an order that never changes.

    The steps are those of ``[training]`` with the learning rate of round 0, on the samples as they are, without
    augmentation.
    """

    def __init__(self, config: Config, model: FlatModel, x: NDArray[Any], y: NDArray[np.int64]) -> None:
        self.model = model
        self.samples = len(y)
        self.learning_rate = learning_rate_at(config.training, 0)
        """That of all local rounds."""
        self._config = config
        self._seed = config.experiment.seed
        device = model.vector.device
        self._x = as_float32(torch.from_numpy(x)).to(device)
        self._y = torch.from_numpy(y).to(device)
        self._batches = [
            (self._x[at].clone(), self._y[at].clone()) for at in block_slices(self.samples, BATCH_SIZE)
        ]

    def round(
        self,
        number: int,
        mask: torch.Tensor | None,
        on_gradient: Callable[[Sequence[torch.Tensor]], None],
    ) -> float:
        """Make local round ``number``, counted from 0; returns the mean loss of its steps."""
        return train_batches(
            self.model,
            [(x.clone(), y) for x, y in self._batches],  # a model may change its input in place
            self._config.training,
            self.learning_rate,
            mask,
            on_gradient=on_gradient,
            torch_seed=torch_seed(self._seed, Purpose.DROPOUT, -1 - number) if self.model.draws else None,
        )

    def accuracy(self) -> float:
        """The share of all samples that the model gets right, in evaluation mode."""
        blocks, seed = [(self._x, self._y)], torch_seed(self._seed, Purpose.EVALUATION, -1)
        ((_, correct, count),) = evaluate_blocks(self.model, blocks, self._config.training.loss, [seed])
        return float(correct / count)
