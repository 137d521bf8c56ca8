"""Gradients by which masks change: of all parameters, on a client, beside its steps; and a mask of its own.

Such a gradient is that of one more backward pass, without a step, on the minibatch of the last step: dense, pruned
parameters too, and of the loss alone, without weight decay, momentum or a proximal term. The pass is in training mode.
An own mask is taken in the middle of local training, and batch norm sees that minibatch once more (as in the program of
FedDST, Bibikar et al., AAAI 2022); a gradient at the trained weights leaves buffers as training did.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import training_alone
from fedmpi.learning.losses import LOSSES

OwnMask = Callable[[NDArray[np.float32], NDArray[np.float32]], tuple[NDArray[np.bool_], NDArray[np.bool_]]]
"""``own_mask(weights, gradient)``, both (D,): which parameters (D,) the client trains from now on, and which of them
keep their values; all others start from 0."""


class _Kept:
    """A batch that is taken again after its step, in which the model may have changed its input in place."""

    def __init__(self, batch: tuple[Tensor, Tensor]) -> None:
        self._batch = batch
        self._x = batch[0].clone()

    def again(self) -> tuple[Tensor, Tensor]:
        """The batch as it was, where it was: sums may round differently elsewhere in memory."""
        self._batch[0].copy_(self._x)
        return self._batch


class LastBatch:
    """The ``batches``, one for each step, of which the last that was asked for is kept."""

    def __init__(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self._last: list[_Kept] = []

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for batch in self._batches:
            self._last = [_Kept(batch)]
            yield batch

    def gradient_into(self, gradient: Tensor, model: FlatModel, loss_name: str, seed: int | None) -> None:
        """Write the dense gradient on the last batch at the weights of ``model``, which stays, to ``gradient`` (D,).

        ``seed``: see ``training_alone``.
        """
        buffers = model.buffers.clone()
        with training_alone(model, seed):
            _dense_gradient(model, self._last[0].again(), loss_name, gradient)
        model.buffers.copy_(buffers)


def steps_before(steps: int, steps_of_epoch: int) -> int:
    """After how many of ``steps`` the mask is taken: before those of the last epoch, and no earlier than half-way.

    What comes back starts at 0, so at least one step follows; of a single step none comes before.
    """
    return steps - max(1, min(steps_of_epoch, steps // 2))


def samples_of_pass(bounds: Sequence[tuple[int, int]], before: int) -> int:
    """The samples of the backward pass after ``before`` of the batches ``bounds``."""
    start, stop = bounds[max(0, before - 1)]
    return stop - start


def readjusting(
    model: FlatModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    loss_name: str,
    before: int,
    own_mask: OwnMask,
    mask: Tensor,
) -> Iterator[tuple[Tensor, Tensor]]:
    """The ``batches``, one for each step; between two of them, after ``before`` steps, ``mask`` is changed in place.

    ``mask`` float32 (D,), on the model's device, is what the steps are masked by; weights that it prunes become 0, and
    those that do not keep their values. The step on a batch must have been made when the next one is asked for.
    """
    last: _Kept | None = None
    for index, batch in enumerate(batches):
        if index in (before - 1, before):
            kept = _Kept(batch)
            if index == before:
                _readjust(model, (last or kept).again(), loss_name, own_mask, mask)
                kept.again()
            last = kept
        yield batch


def _readjust(
    model: FlatModel, batch: tuple[Tensor, Tensor], loss_name: str, own_mask: OwnMask, mask: Tensor
) -> None:
    gradient = torch.empty_like(mask)
    _dense_gradient(model, batch, loss_name, gradient)
    weights = model.vector[: model.parameter_count]
    active, kept = own_mask(weights.detach().cpu().numpy(), gradient.cpu().numpy())
    mask.copy_(torch.from_numpy(active.copy()))
    weights.masked_fill_(torch.from_numpy(~(active & kept)).to(mask.device), 0.0)


def _dense_gradient(model: FlatModel, batch: tuple[Tensor, Tensor], loss_name: str, gradient: Tensor) -> None:
    """Write the gradient of the loss on a ``batch`` to ``gradient`` (D,), zeros where it does not depend on them."""
    x, y = batch
    loss = LOSSES[loss_name].mean(model.module(x), y)
    found = torch.autograd.grad(loss, model.parameters, allow_unused=True)
    for view, each in zip(model.parameter_views(gradient), found, strict=True):
        if each is None:
            view.zero_()
        else:
            view.copy_(each)
