"""SNIP: single-shot pruning by connection sensitivity (Lee, Ajanthan, Torr, ICLR 2019), after the first round.

As PruneFL compares it: the sensitivity of a weight is |w g|, g being the aggregated update over the learning
rate, and the largest over all prunable layers together stay.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control import Draw
from fedmpi.numerics.topk import top_k
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.mask import LayerSlice, Mask

_NAME = "snip"


@dataclass(frozen=True)
class SnipState(State):
    """``pruned``: whether the one pruning is done."""

    pruned: bool


def prune(
    weights: NDArray[np.float32],
    gradient: NDArray[np.float32],
    layers: Sequence[LayerSlice],
    density: float,
) -> Mask:
    """Keep the round(density x prunable parameters) of largest |w g|; ties go to the lowest index.

    ``weights`` and ``gradient`` float32 (D,). Raises ValueError unless 0 <= density <= 1 and every
    sensitivity is finite.
    """
    if not 0.0 <= density <= 1.0:
        raise ValueError(f"density is {density}, allowed from 0 to 1")
    prunable = [layer for layer in layers if layer.prunable]
    sizes = [layer.stop - layer.start for layer in prunable]
    sensitivities = np.empty(sum(sizes), np.float32)
    ends = np.cumsum(sizes, dtype=np.int64).tolist()
    with np.errstate(over="ignore", invalid="ignore"):
        for layer, size, end in zip(prunable, sizes, ends, strict=True):
            inside = slice(layer.start, layer.stop)
            np.multiply(weights[inside], gradient[inside], out=sensitivities[end - size : end])
    if not np.isfinite(sensitivities).all():
        raise ValueError("weights or gradient are not finite, or so large that their product is not")
    stays = np.zeros(sensitivities.size, np.bool_)
    stays[top_k(sensitivities, round(density * stays.size))] = True
    active = np.ones(weights.size, np.bool_)
    for layer, size, end in zip(prunable, sizes, ends, strict=True):
        active[layer.start : layer.stop] = stays[end - size : end]
    return Mask.of(active)


def init(setup: Setup, mask: Mask) -> SnipState:
    """Start with ``mask``. Raises ValueError when ``pruning.target_density`` is not set."""
    setup.density()
    return SnipState(mask, pruned=False)


def needs(setup: Setup, state: SnipState, round_index: int) -> Needs:
    """Weights and gradient, once."""
    return Needs.NOTHING if state.pruned else Needs.WEIGHTS | Needs.GRADIENT


def step(
    setup: Setup, state: SnipState, observation: Observation, draw: Draw
) -> tuple[SnipState, Change | None]:
    """Prune to ``pruning.target_density`` after the first round; takes no draw."""
    if state.pruned:
        return state, None
    mask = prune(
        required(observation.weights, "weights", _NAME),
        required(observation.gradient, "gradient", _NAME),
        setup.layers,
        setup.density(),
    )
    facts = {"active_before": state.mask.count, "active": mask.count}
    return replace(state, mask=mask, pruned=True), Change(mask, facts)


METHOD = Method(
    summary="keeps the largest |w g| after the first round",
    source="Lee, Ajanthan, Torr, ICLR 2019, as compared with in Jiang et al., IEEE TNNLS 2022 (arXiv 1909.12326)",
    state=SnipState,
    init=init,
    needs=needs,
    step=step,
    needs_target_density=True,
    by_gradient=True,
    changes="after the first round",
)
