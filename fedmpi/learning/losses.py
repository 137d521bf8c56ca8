"""Training losses and their per-sample values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """``mean``: the scalar that is trained, (n, classes) logits and (n,) int64 labels -> ().

    ``per_sample``: the same loss of every sample, -> (n,); its mean over samples is ``mean``. ``of_many``: (m, n,
    classes) logits and (m, n) labels of m clients -> their means; the gradients of these go into a third argument like
    the logits. Every client's bits are those of ``mean`` and of autograd.
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    per_sample: Callable[[Tensor, Tensor], Tensor]
    of_many: Callable[[Tensor, Tensor, Tensor], list[float]]


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1.0)


def _cross_entropy_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _bce_one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits on one-hot labels, mean over samples and classes (PruneFL)."""
    return F.binary_cross_entropy_with_logits(logits, _one_hot(logits, labels))


def _bce_one_hot_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, _one_hot(logits, labels), reduction="none").mean(1)


def _cross_entropy_of_many(logits: Tensor, labels: Tensor, gradient: Tensor) -> list[float]:
    """Rows of logits are treated by themselves, so those of all clients go through together; means do not."""
    _, count, classes = logits.shape
    log_p = torch.log_softmax(logits.reshape(-1, classes), 1)
    share = float(np.float32(1) / np.float32(count))  # a float32, as in the mean's own gradient
    of_log_p = torch.zeros_like(log_p).scatter_(1, labels.reshape(-1, 1), -share)
    # What autograd calls; for a loss this small autograd itself takes most of the time.
    of_logits = torch._log_softmax_backward_data(of_log_p, log_p, 1, log_p.dtype)
    gradient.copy_(of_logits.view(logits.shape))
    picked = log_p.gather(1, labels.reshape(-1, 1)).view(-1, count)
    losses: list[float] = _negative_means(picked.numpy()).tolist()
    return losses


_GROUP = 16


def _negative_means(log_p: NDArray[np.float32]) -> NDArray[np.float32]:
    """-mean of every row (m, n), added up as ``F.nll_loss`` does: sums of 16, then of 16 of these, and so on.

    The first value is in none of them; what is left of each level counts from the lowest, and then that value.
    """
    total = np.zeros(len(log_p), np.float32)
    values = log_p[:, 1:]
    while count := values.shape[1]:
        whole = count - count % _GROUP
        if whole < count:
            total -= np.add.accumulate(values[:, whole:], axis=1)[:, -1]  # one after the other, unlike a sum
        groups = values[:, :whole].reshape(len(values), -1, _GROUP)
        values = np.add.accumulate(groups, axis=2)[:, :, -1]
    total -= log_p[:, 0]
    return total / np.float32(log_p.shape[1])


def _bce_one_hot_of_many(logits: Tensor, labels: Tensor, gradient: Tensor) -> list[float]:
    """One client after the other: the last values of a tensor may be rounded otherwise than those before."""
    losses = []
    for own_logits, own_labels, own_gradient in zip(logits, labels, gradient, strict=True):
        leaf = own_logits.detach().requires_grad_()
        loss = _bce_one_hot(leaf, own_labels)
        own_gradient.copy_(torch.autograd.grad(loss, leaf)[0])
        losses.append(loss.item())
    return losses


LOSSES = {
    "cross_entropy": Loss(F.cross_entropy, _cross_entropy_per_sample, _cross_entropy_of_many),
    "bce_one_hot": Loss(_bce_one_hot, _bce_one_hot_per_sample, _bce_one_hot_of_many),
}
