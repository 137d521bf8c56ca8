"""The rules of FedDST: clients adjust masks of their own, and the server takes what they kept.

Bibikar, Vikalo, Wang, Chen, "Federated dynamic sparse training: computing less, communicating less, yet learning
better", AAAI 2022 (arXiv 2112.09824). Pure functions over the weights of layers; biases are never pruned.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, floor, pi, prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.topk import largest
from fedmpi.pruning.magnitude import magnitudes

Flags = NDArray[np.bool_]
_ABOVE_ALL = np.uint32(1 << 31)


class Readjusted(NamedTuple):
    """A layer after a readjustment: what was left by pruning, what is ``active`` after growing, and what became 0."""

    pruned_to: Flags
    active: Flags
    reset: Flags


def kept_entries(shapes: Sequence[Sequence[int]], biases: Sequence[int], sparsity: float) -> list[int]:
    """keep_l of each layer, whose weights have ``shapes`` and beside which there are so many ``biases``.

    Layers are the sparser the nearer 1 - sum(shape) / prod(shape) is to 1. May be negative, or more than the weights:
    then pruning leaves the layer as it is.
    """
    sizes = [prod(shape) + beside for shape, beside in zip(shapes, biases, strict=True)]
    raw = [1 - sum(shape) / prod(shape) for shape in shapes]
    scale = sparsity * sum(sizes) / sum(part * size for part, size in zip(raw, sizes, strict=True))
    return [floor((1 - part * scale) * size) for part, size in zip(raw, sizes, strict=True)]


def decayed(alpha: float, round_index: int, end: int) -> float:
    """alpha_r = alpha / 2 (1 + cos(r pi / end)); 0 from round ``end`` on."""
    return alpha / 2 * (1 + cos(round_index * pi / end)) if round_index < end else 0.0


def pruned_to(weights: NDArray[np.float32], active: Flags, keep: int) -> Flags:
    """The flags of a layer of which the least |weights|, inactive ones first, are masked until ``keep`` are left.

    Among equal ones the lower index goes first. Unless 0 <= keep <= n the layer stays as it is.
    """
    if not 0 <= keep <= active.size:
        return active.copy()
    least = np.where(active, _ABOVE_ALL - 1 - magnitudes(weights), _ABOVE_ALL)
    flags = active.copy()
    flags[largest(least, active.size - keep)] = False
    return flags


def readjusted(
    weights: NDArray[np.float32],
    gradient: NDArray[np.float32],
    active: Flags,
    keep_pruned: int,
    keep_grown: int,
    program: bool = False,
) -> Readjusted:
    """Prune a layer to ``keep_pruned``, then take in the largest |gradient| until ``keep_grown`` are active.

    Only inactive entries are taken in, those that were pruned just now too; lower indices first. With ``program``, as
    the authors' program does it, the largest gradients of all entries are taken: active ones among them become 0, and
    the layer stays smaller than ``keep_grown``.
    """
    left = pruned_to(weights, active, keep_pruned)
    missing = max(0, min(keep_grown, active.size) - int(np.count_nonzero(left)))
    keys = magnitudes(gradient) + np.uint32(1)
    if not program:
        keys = np.where(left, np.uint32(0), keys)
    grown = np.zeros_like(left)
    grown[largest(keys, missing)] = True
    return Readjusted(left, left | grown, left & grown)


def voted(
    weights: NDArray[np.float32],
    masks: NDArray[np.bool_],
    samples: NDArray[np.integer],
    min_votes: float = 0.0,
) -> tuple[NDArray[np.float64], Flags]:
    """The mean (D,) of each entry over the clients that kept it, by samples, and which entries were kept by any.

    ``weights`` and ``masks`` are (n, D). Entries whose votes, the samples of those who kept them, do not exceed
    ``min_votes`` become 0 and are masked.
    """
    votes = samples.astype(np.float64) @ masks
    kept = votes > min_votes
    sums = samples.astype(np.float64) @ (weights * masks).astype(np.float64)
    return np.divide(sums, votes, out=np.zeros_like(sums), where=kept), kept
