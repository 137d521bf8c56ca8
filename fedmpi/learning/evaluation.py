"""Losses and accuracy on held-out samples.

Samples are cut into fixed blocks, and what a block gives does not depend on who evaluates it: sums over
the blocks in their order are the same on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import evaluated_alone
from fedmpi.learning.losses import LOSSES


def block_slices(samples: int, block_size: int) -> list[slice]:
    """The fixed blocks of a set of samples; the last one may be smaller."""
    return [slice(start, min(start + block_size, samples)) for start in range(0, samples, block_size)]


def evaluate_blocks(
    model: FlatModel, blocks: Sequence[tuple[Tensor, Tensor]], loss: str, seeds: Sequence[int] = ()
) -> np.ndarray:
    """Evaluate blocks one by one under ``model.vector``, in evaluation mode.

    Each block is (x, y): float32 or uint8 (n, C, H, W) and int64 (n,), on the model's device. A model of unknown code
    takes its random numbers for each block from one of ``seeds`` (ValueError where there are fewer than blocks), and
    starts each with all outside of its parameters as it was. Returns float64 (blocks, 3): sum of the per-sample
    losses, correct predictions (the highest logit, ties to the lowest class), samples.
    """
    per_sample = LOSSES[loss].per_sample
    rows = []
    for index, (x, y) in enumerate(blocks):
        seed = seeds[index] if index < len(seeds) else None
        with evaluated_alone(model, seed), torch.no_grad():
            logits = model.module(_own_float32(x))
            loss_sum = per_sample(logits, y).sum(dtype=torch.float64)
            correct = torch.count_nonzero(logits.argmax(1) == y)
            rows.append((loss_sum.item(), correct.item(), len(y)))
    return np.array(rows, dtype=np.float64).reshape(-1, 3)


def sample_loss(model: FlatModel, x: Tensor, y: Tensor, loss: str, seed: int | None = None) -> float:
    """The loss of one sample, (1, C, H, W) and (1,), under ``model.vector``, in evaluation mode.

    Samples are taken one at a time because a larger batch may change the last bits of each. ``seed`` is for models of
    unknown code (see ``evaluate_blocks``).
    """
    return float(evaluate_blocks(model, [(x, y)], loss, () if seed is None else (seed,))[0, 0])


def _own_float32(x: Tensor) -> Tensor:
    """Samples as float32 in memory of their own.

    A model may change its input in place, and the next evaluation takes the same samples. A slice may also begin
    anywhere in its cache line, and matrix products may round differently there.
    """
    own = as_float32(x)
    return own.clone() if own is x else own
