"""Local SGD on one client, on the flat vector of a model.

The step is that of ``torch.optim.SGD`` (no dampening, no Nesterov), written without an optimizer object: the
gradients of ``torch.autograd.grad`` are used where they lie, so that a plain step passes over the
parameters once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import Augmentation
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import training_alone
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.readjustment import OwnMask, readjusting, samples_of_pass, steps_before
from fedmpi.learning.summed_linear import Total, summed_linear

CONVERTED_BYTES = 2**22
"""Samples are taken and made float32 in groups of batches of at most this size, or one by one if larger."""

_Tensors = tuple[Tensor, ...] | list[Tensor]
_Batch = tuple[Tensor, Tensor]


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
    batches = taken(x, y, torch.from_numpy(order).to(x.device), bounds, changes)
    mask, passed = None if task.mask is None else task.mask.to(torch.float32), 0
    if task.own_mask is not None:
        if task.direction_sum is not None:
            raise ValueError("a client with an own mask has no sum of directions")
        mask = torch.ones_like(model.vector[: model.parameter_count]) if mask is None else mask.clone()
        before = steps_before(len(bounds), _steps_of_epoch(len(x), training))
        batches = readjusting(model, batches, training.loss, before, task.own_mask, mask)
        passed = samples_of_pass(bounds, before)
    written = len(bounds) if need_weights else len(bounds) - 1
    mean = descend_from(
        model,
        start,
        batches,
        training,
        task.learning_rate,
        mask,
        task.direction_sum,
        written,
        task.torch_seed,
    )
    return LocalResult(len(order) + passed, loss=mean, steps=len(bounds), probe_sample=int(order[0]))


def descend_from(
    model: FlatModel,
    start: Tensor,
    batches: Iterable[_Batch],
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
        step = _SgdStep(model, training, learning_rate, sums, mask_views, start, totals)
        return _descend(model, batches, training.loss, step, steps_written)


def taken(
    x: Tensor, y: Tensor, order: Tensor, bounds: Sequence[tuple[int, int]], changes: Augmentation | None
) -> Iterator[_Batch]:
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


def train_batches(
    model: FlatModel,
    batches: Sequence[_Batch],
    training: TrainingConfig,
    learning_rate: float,
    mask: Tensor | None = None,
    *,
    on_gradient: Callable[[_Tensors], None] | None = None,
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
    step = _SgdStep(model, training, learning_rate, None, mask_views, model.vector, {})
    with training_alone(model, torch_seed):
        return _descend(model, batches, training.loss, step, len(batches), on_gradient)


def _descend(
    model: FlatModel,
    batches: Iterable[_Batch],
    loss_name: str,
    step: _SgdStep,
    steps_written: int,
    on_gradient: Callable[[_Tensors], None] | None = None,
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


def _steps_of_epoch(samples: int, training: TrainingConfig) -> int:
    """How many batches ``batch_order`` makes of an epoch of so many samples."""
    batch = min(training.batch_size, samples)
    return -(-samples // batch) if training.local_epochs else samples // batch


def _epochs(samples: int, used: int, epochs: int, rng: np.random.Generator) -> np.ndarray:
    """The first ``used`` of the samples in each of several random orders."""
    if epochs == 1:  # the usual case of a few steps, where joining would cost as much as drawing
        return rng.permutation(samples)[:used]
    return np.concatenate([rng.permutation(samples)[:used] for _ in range(epochs)])


class _SgdStep:
    """One SGD step on the views of a model's vector; holds the momentum of one client's round.

    ``totals`` (see ``summed_linear``) are the layers whose directions add themselves up: their weights follow from
    ``start`` and the sum.
    """

    def __init__(
        self,
        model: FlatModel,
        training: TrainingConfig,
        learning_rate: float,
        sums: _Tensors | None,
        mask_views: _Tensors | None,
        start: Tensor,
        totals: Mapping[int, Total],
    ) -> None:
        self.parameters = model.parameters
        self._rate = learning_rate
        self._momentum = training.momentum
        self._decay = training.weight_decay
        self._proximal_mu = training.proximal_mu
        self._others = [position for position in range(len(model.views)) if position not in totals]
        self._weights = self._of_others(model.views)
        self._sums = None if sums is None else self._of_others(sums)
        self._mask = None if mask_views is None else self._of_others(mask_views)
        starts = model.parameter_views(start)
        self._starts = self._of_others(starts)
        self._summed = [
            (
                total,
                starts[position],
                None if mask_views is None else mask_views[position],
                model.views[position],
            )
            for position, total in totals.items()
        ]
        self._velocity: list[Tensor] = []
        self._first = True
        self._unsummed: _Tensors = ()

    def _of_others(self, tensors: _Tensors) -> list[Tensor]:
        return [tensors[position] for position in self._others]

    def directions(self, loss: Tensor) -> list[Tensor]:
        """The gradients of ``loss`` that do not add themselves up, zeros for parameters on which it does not depend."""
        gradients = self._of_others(torch.autograd.grad(loss, self.parameters, allow_unused=True))
        return [
            torch.zeros_like(weights) if gradient is None else gradient
            for gradient, weights in zip(gradients, self._weights, strict=True)
        ]

    def take(self, directions: _Tensors, write: bool) -> None:
        """Add ``directions`` (the gradients) to the sums and, if ``write``, move the weights along them."""
        if self._decay:
            directions = torch._foreach_add(directions, self._weights, alpha=self._decay)
        if self._proximal_mu and not self._first:  # at the start there is no distance yet
            distance = torch._foreach_sub(self._weights, self._starts)
            directions = torch._foreach_add(directions, distance, alpha=self._proximal_mu)
        if self._momentum:
            directions = self._with_momentum(directions)
        if self._sums is not None:
            self._sum(self._sums, directions)
        self._first = False
        if not write:
            return
        if self._mask is None:
            torch._foreach_add_(self._weights, directions, alpha=-self._rate)
        else:
            torch._foreach_addcmul_(self._weights, directions, self._mask, value=-self._rate)
        for total, start, mask, weights in self._summed:
            if total.fresh:
                continue
            if mask is None:
                torch.add(start, total.total, alpha=-self._rate, out=weights)
            else:
                torch.addcmul(start, total.total, mask, value=-self._rate, out=weights)

    def finish(self) -> None:
        """Complete the sums after the last step."""
        if self._unsummed and self._sums is not None:
            torch._foreach_copy_(self._sums, self._unsummed)
        for total, *_ in self._summed:
            if total.fresh:
                total.total.zero_()

    def _sum(self, sums: _Tensors, directions: _Tensors) -> None:
        """Add up; the first directions wait for the second, which saves a pass, unless momentum will change them."""
        if self._first and self._momentum:
            torch._foreach_copy_(sums, directions)
        elif self._first:
            self._unsummed = directions
        elif self._unsummed:
            for first, second, total in zip(self._unsummed, directions, sums, strict=True):
                torch.add(first, second, out=total)
            self._unsummed = ()
        else:
            torch._foreach_add_(sums, directions)

    def _with_momentum(self, directions: _Tensors) -> list[Tensor]:
        if self._first:
            self._velocity = [direction.clone() for direction in directions]
        else:
            torch._foreach_mul_(self._velocity, self._momentum)
            torch._foreach_add_(self._velocity, directions)
        return self._velocity
