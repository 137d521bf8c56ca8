"""Local SGD on one client, on the flat vector of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import Augmentation
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import training_alone
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.minibatches import Batch, batch_order, steps_of_epoch, taken
from fedmpi.learning.readjustment import LastBatch, OwnMask, readjusting, samples_of_pass, steps_before
from fedmpi.learning.sgd_step import SgdStep, Tensors
from fedmpi.learning.summed_linear import summed_linear


@dataclass(frozen=True)
class LocalResult:
    """What a client did in a round.

    ``samples``: processed, counted once per step and for a backward pass without one; ``loss``: mean of the minibatch
    losses, each before its step; ``probe_sample``: position in ``x`` of one random sample of the first minibatch.
    """

    samples: int
    loss: float
    steps: int
    probe_sample: int


@dataclass(frozen=True)
class LocalTask:
    """How a client trains in a round, and what is wanted of it.

    ``batches`` draws the order of its samples. ``augment`` is called once with the number of samples of all steps, and
    gives what changes them in the order in which they are taken; the type of the samples stays. ``torch_seed`` seeds
    the global generators for models that draw in training (``FlatModel.draws``); they are put back.

    ``mask``, bool or float32 (D,) of zeros and ones: parameters at zero are zero in the weights that training starts
    from (the caller's duty) and throughout; their directions are in ``direction_sum`` all the same, because the
    importance of pruned parameters is made of them. A float32 mask is faster.

    ``direction_sum``, contiguous float32 (D,), receives the sum over the steps of the direction that the
    learning rate multiplies: the gradient, with momentum and weight decay where those are set. It is the
    update divided by the learning rate, without the rounding of the weights; for one step of plain SGD it is
    the gradient itself.

    ``need_weights=False`` says that nobody reads the trained parameters: the last step then leaves them
    unwritten, and the model keeps those from which the last step started.

    ``own_mask`` gives the mask of the last part of the training (``learning.readjustment``). It does not go with
    ``direction_sum``: weights do not follow from where they started and the sum any more.

    ``end_gradient``, contiguous float32 (D,), receives the dense gradient at the trained weights, on the minibatch of
    the last step (``learning.readjustment``).
    """

    training: TrainingConfig
    learning_rate: float
    batches: np.random.Generator
    augment: Callable[[int], Augmentation] | None = None
    torch_seed: int | None = None
    mask: Tensor | None = None
    direction_sum: Tensor | None = None
    need_weights: bool = True
    own_mask: OwnMask | None = None
    end_gradient: Tensor | None = None


def train(model: FlatModel, start: Tensor, samples: tuple[Tensor, Tensor], task: LocalTask) -> LocalResult:
    """Train one client from ``start`` and leave its weights and buffers in ``model.vector``.

    ``start``: float32 (D + B,), or ``model.vector`` itself (no copy is made). ``samples``: x float32 or uint8
    (n, C, H, W), the latter scaled by ``as_float32`` where it is used, and y int64 (n,), n >= 1.
    All on the model's device. Momentum starts at zero, and all that the module holds outside of its vector as it was
    built (``FlatModel``).

    Raises ValueError where there are no samples, for an own mask with a sum of directions, and for a model that draws
    random numbers in training and gets no seed for them. A gradient that is not finite is not caught here: it shows in
    the result.
    """
    x, y = samples
    training, need_weights = task.training, task.need_weights
    if len(x) == 0:
        raise ValueError("a client without samples cannot be trained")
    order, bounds = batch_order(len(x), training, task.batches)
    changes = None if task.augment is None else task.augment(len(order))
    batches: Iterable[Batch] = taken(x, y, torch.from_numpy(order).to(x.device), bounds, changes)
    mask, passed = None if task.mask is None else task.mask.to(torch.float32), 0
    if task.own_mask is not None:
        if task.direction_sum is not None:
            raise ValueError("a client with an own mask has no sum of directions")
        mask = torch.ones_like(model.vector[: model.parameter_count]) if mask is None else mask.clone()
        before = steps_before(len(bounds), steps_of_epoch(len(x), training))
        batches = readjusting(model, batches, training.loss, before, task.own_mask, mask)
        passed = samples_of_pass(bounds, before)
    last = LastBatch(batches)
    written = len(bounds) if need_weights or task.end_gradient is not None else len(bounds) - 1
    mean = descend_from(
        model,
        start,
        batches if task.end_gradient is None else last,
        training,
        task.learning_rate,
        mask,
        task.direction_sum,
        written,
        task.torch_seed,
    )
    if task.end_gradient is not None:
        last.gradient_into(task.end_gradient, model, training.loss, task.torch_seed)
        passed += samples_of_pass(bounds, len(bounds))
    return LocalResult(len(order) + passed, loss=mean, steps=len(bounds), probe_sample=int(order[0]))


def descend_from(
    model: FlatModel,
    start: Tensor,
    batches: Iterable[Batch],
    training: TrainingConfig,
    learning_rate: float,
    mask: Tensor | None,
    direction_sum: Tensor | None,
    steps_written: int,
    torch_seed: int | None = None,
) -> float:
    """What ``train`` does with batches that are drawn already: float32 x, and a float32 mask.

    The first ``steps_written`` steps move the weights. Returns the mean of the losses.
    """
    mask_views = None if mask is None else model.parameter_views(mask)
    model.load(start)
    sums = None if direction_sum is None else model.parameter_views(direction_sum)
    if training.proximal_mu and start is model.vector:
        start = start.clone()
    changed = training.momentum or training.weight_decay or training.proximal_mu
    plain = not changed and start is not model.vector
    with training_alone(model, torch_seed), summed_linear(model, sums if plain else None) as totals:
        step = SgdStep(model, training, learning_rate, sums, mask_views, start, totals)
        return _descend(model, batches, training.loss, step, steps_written)


def train_batches(
    model: FlatModel,
    batches: Sequence[Batch],
    training: TrainingConfig,
    learning_rate: float,
    mask: Tensor | None = None,
    *,
    on_gradient: Callable[[Tensors], None] | None = None,
    torch_seed: int | None = None,
) -> float:
    """One step on each of ``batches`` in turn, from ``model.vector`` on; returns the mean of their losses.

    Each batch is (x, y) as ``train`` takes them, float32 x. ``mask`` float32 (D,) holds in all steps; what it prunes
    must be zero already. ``on_gradient`` gets the gradient of every step before it is made, one tensor for each
    layer, of pruned parameters too and without momentum and weight decay; it must not change or keep them. Momentum
    starts at zero. What the module holds outside of its vector starts as in ``train``, and ValueError is raised alike
    for a model that draws random numbers.
    """
    mask_views = None if mask is None else model.parameter_views(mask)
    step = SgdStep(model, training, learning_rate, None, mask_views, model.vector, {})
    with training_alone(model, torch_seed):
        return _descend(model, batches, training.loss, step, len(batches), on_gradient)


def _descend(
    model: FlatModel,
    batches: Iterable[Batch],
    loss_name: str,
    step: SgdStep,
    steps_written: int,
    on_gradient: Callable[[Tensors], None] | None = None,
) -> float:
    """A step on each batch, the first ``steps_written`` of which move the weights; the mean of the losses before."""
    mean_loss = LOSSES[loss_name].mean
    losses = []
    for index, (x, y) in enumerate(batches):
        loss = mean_loss(model.module(x), y)
        gradients = step.directions(loss)
        losses.append(loss.detach())
        if on_gradient is not None:
            on_gradient(gradients)
        step.take(gradients, write=index < steps_written)
    step.finish()
    return sum(loss.item() for loss in losses) / len(losses)


def learning_rate_at(training: TrainingConfig, round_index: int) -> float:
    """The learning rate of a round: halved every ``learning_rate_half_life_rounds`` (inf: constant)."""
    return float(training.learning_rate * 0.5 ** (round_index / training.learning_rate_half_life_rounds))
