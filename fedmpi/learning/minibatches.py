"""The minibatches of a client: the order of its samples, where each batch begins, and the batches themselves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import Augmentation
from fedmpi.learning.datasets.dataset import as_float32

CONVERTED_BYTES = 2**22
"""Samples are taken and made float32 in groups of batches of at most this size, or one by one if larger."""

Batch = tuple[Tensor, Tensor]
"""float32 samples x and int64 labels y."""


def batch_order(
    samples: int, training: TrainingConfig, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The samples of all steps, int64 positions in [0, samples), and the (start, stop) of each batch in them.

    Every epoch is drawn anew without replacement. With ``local_steps`` all batches have the same size,
    min(batch_size, samples), and an epoch ends when less than a batch is left of it; ``local_epochs`` > 0
    takes whole epochs, the last batch of each being what is left.
    """
    batch = min(training.batch_size, samples)
    if training.local_epochs > 0:
        order = _epochs(samples, samples, training.local_epochs, rng)
        bounds = [
            (epoch + start, epoch + min(start + batch, samples))
            for epoch in range(0, order.size, samples)
            for start in range(0, samples, batch)
        ]
        return order, bounds
    steps = training.local_steps
    batches_of_epoch = samples // batch
    order = _epochs(samples, batches_of_epoch * batch, -(-steps // batches_of_epoch), rng)
    return order[: steps * batch], [(step * batch, (step + 1) * batch) for step in range(steps)]


def deciding_bounds(samples: NDArray[np.int64], training: TrainingConfig) -> NDArray[np.int64]:
    """What decides on the bounds of ``batch_order`` for clients with so many ``samples`` (n,): equal, equal bounds."""
    return samples if training.local_epochs else np.minimum(samples, training.batch_size)


def steps_of_epoch(samples: int, training: TrainingConfig) -> int:
    """How many batches ``batch_order`` makes of an epoch of so many samples."""
    batch = min(training.batch_size, samples)
    return -(-samples // batch) if training.local_epochs else samples // batch


def _epochs(samples: int, used: int, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """The first ``used`` of the samples in each of several random orders."""
    if epochs == 1:  # the usual case of a few steps, where joining would cost as much as drawing
        return rng.permutation(samples)[:used]
    return np.concatenate([rng.permutation(samples)[:used] for _ in range(epochs)])


def taken(
    x: Tensor, y: Tensor, order: Tensor, bounds: Sequence[tuple[int, int]], changes: Augmentation | None
) -> Iterator[Batch]:
    """The batches of one client: ``bounds`` in ``order``, changed and as float32, a group of them at a time."""
    for group in batch_groups(bounds, 4 * x[0].numel()):
        begin = group[0][0]
        taken = order[begin : group[-1][1]]
        samples, labels = x.index_select(0, taken), y.index_select(0, taken)
        samples = as_float32(samples if changes is None else changes(samples, begin))
        for first, stop in group:
            yield samples[first - begin : stop - begin], labels[first - begin : stop - begin]


def batch_groups(bounds: Sequence[tuple[int, int]], sample_bytes: int) -> Iterator[list[tuple[int, int]]]:
    """The batches ``bounds`` in groups that are taken at once: of at most CONVERTED_BYTES, or of one batch."""
    index = 0
    while index < len(bounds):
        begin = bounds[index][0]
        group = [bounds[index]]
        for bound in bounds[index + 1 :]:
            if (bound[1] - begin) * sample_bytes > CONVERTED_BYTES:
                break
            group.append(bound)
        index += len(group)
        yield group
