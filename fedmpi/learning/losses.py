"""Training losses and their per-sample values."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Loss:
    """``mean``: the scalar that is trained, (n, classes) logits and (n,) int64 labels -> ().

    ``per_sample``: the same loss of every sample, -> (n,); its mean over samples is ``mean``.
    """

    mean: Callable[[Tensor, Tensor], Tensor]
    per_sample: Callable[[Tensor, Tensor], Tensor]


def _one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    return torch.zeros_like(logits).scatter_(1, labels.unsqueeze(1), 1.0)


def _cross_entropy_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits, labels, reduction="none")


def _bce_one_hot(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy with logits on one-hot labels, mean over samples and classes (PruneFL)."""
    return F.binary_cross_entropy_with_logits(logits, _one_hot(logits, labels))


def _bce_one_hot_per_sample(logits: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, _one_hot(logits, labels), reduction="none").mean(1)


LOSSES = {
    "cross_entropy": Loss(F.cross_entropy, _cross_entropy_per_sample),
    "bce_one_hot": Loss(_bce_one_hot, _bce_one_hot_per_sample),
}
