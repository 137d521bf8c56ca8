"""Progressive pruning of FedTiny: small weights make room for pruned ones of large gradients, layer by layer.

Huang, Zhang, Sun, Fang, Yuan, Wu, "Distributed pruning towards tiny neural networks in federated learning", IEEE ICDCS
2023 (arXiv 2212.01977). Round 0 begins with a mask by magnitude. All prunable layers are adjusted at once, as in the
program of the same group. Gradients travel dense as there, or as in the paper: a client sends only as many of the
largest of pruned parameters as may come in, layer by layer, and what it does not send counts as 0. The paper's
selection of batch-norm statistics is not here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import cos, pi, prod

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.errors import ConfigError
from fedmpi.k_control import Draw
from fedmpi.numerics.topk import largest
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.magnitude import keep_largest, magnitudes
from fedmpi.pruning.mask import Mask

DENSE, TOP_K = "dense", "topk"
"""In which form gradients travel."""

_NAME = "fedtiny"
_ABOVE_ALL = np.uint32(1 << 31)


def prunable_density(parameters: int, never_pruned: int, target: float) -> float:
    """The density of prunable parameters with which int(``target`` x ``parameters``) of all are active.

    Raises ConfigError where those that are never pruned are as many already.
    """
    density = (int(parameters * target) - never_pruned) / (parameters - never_pruned)
    if density <= 0.0:
        problem = f"found {target}, and {never_pruned} of {parameters} parameters are never pruned and count as active"
        raise ConfigError("pruning.target_density", problem, f"above {(never_pruned + 1) / parameters:.6g}")
    return density


def erk_densities(shapes: Sequence[Sequence[int]], density: float) -> list[float]:
    """The density of each layer where ``density`` of all are active (Erdos-Renyi with kernels, as in RigL).

    In proportion to sum(shape) / prod(shape); layers that would exceed 1 become dense, those of the largest such number
    first.
    """
    raw = [sum(shape) / prod(shape) for shape in shapes]
    sizes, dense = [prod(shape) for shape in shapes], set[int]()
    while len(dense) < len(raw):
        others = [layer for layer in range(len(raw)) if layer not in dense]
        room = sum(int(sizes[layer] * density) for layer in others)
        room -= sum(int(sizes[layer] * (1 - density)) for layer in dense)
        scale = room / sum(raw[layer] * sizes[layer] for layer in others)
        most = max(raw[layer] for layer in others)
        if scale * most <= 1.0:
            return [1.0 if layer in dense else scale * raw[layer] for layer in range(len(raw))]
        dense.update(layer for layer in others if raw[layer] == most)
    return [1.0] * len(raw)


def adjusted(active: int, size: int, alpha: float, round_number: int, last_round: int) -> int:
    """How many entries of a layer change places: int(alpha / 2 (1 + cos(t pi / T)) active).

    At most as many as are inactive.
    """
    return min(int(alpha / 2 * (1 + cos(round_number * pi / last_round)) * active), size - active)


def exchange_entries(
    weights: NDArray[np.float32], gradient: NDArray[np.float32], active: NDArray[np.bool_], count: int
) -> NDArray[np.bool_]:
    """The flags of a layer whose ``count`` least weights were pruned, and as many of the largest gradients taken in.

    What was pruned just now may come back. Ties go to the lowest index. The number of active entries stays.
    """
    flags = active.copy()
    least = np.where(active, _ABOVE_ALL - magnitudes(weights), np.uint32(0))
    flags[largest(least, count)] = False
    keys = np.where(flags, np.uint32(0), magnitudes(gradient) + np.uint32(1))
    flags[largest(keys, count)] = True
    return flags


def fedtiny(alpha: float = 0.3, last_round: int = 300, gradients: str = DENSE) -> Method:
    """Masks are adjusted in rounds that are multiples of ``reconfigure_every``, from 0 on but not in it.

    ``last_round`` is the last that may be one; ``alpha``: the part of a layer that changes at first.
    ``gradients``: "dense", a client sends those of all parameters, or "topk", pairs of the largest of pruned ones.
    Raises ValueError unless 0 < alpha <= 1, last_round >= 1, and for another form.
    """
    if not 0.0 < alpha <= 1.0:
        raise ValueError(f"alpha is {alpha}, allowed are numbers above 0 and at most 1")
    if last_round < 1:
        raise ValueError(f"last_round is {last_round}, allowed are numbers from 1 on")
    if gradients not in (DENSE, TOP_K):
        raise ValueError(f"gradients is {gradients!r}, allowed are {DENSE}, {TOP_K}")

    def first_mask(setup: Setup, weights: NDArray[np.float32]) -> Mask:
        return keep_largest(weights, Mask(weights.size), setup.layers, _kept(setup))

    def init(setup: Setup, mask: Mask) -> State:
        _kept(setup)
        return State(mask)

    def needs(setup: Setup, state: State, round_index: int) -> Needs:
        due = round_index % setup.config.reconfigure_every == 0 and 0 < round_index <= last_round
        return Needs.WEIGHTS | Needs.IMPORTANCE if due else Needs.NOTHING

    def step(setup: Setup, state: State, observation: Observation, draw: Draw) -> tuple[State, Change | None]:
        del draw
        if needs(setup, state, observation.round_index) is Needs.NOTHING:
            return state, None
        weights = required(observation.weights, "weights", _NAME)
        gradient = required(observation.importance, "gradient", _NAME).astype(np.float32)
        if not gradient.any():  # as where nobody's arrived
            return state, None
        mask = _adjusted_mask(setup, state.mask, weights, gradient, observation.round_index)
        moved = int(np.count_nonzero(mask.flags() & ~state.mask.flags()))
        facts = {"active_before": state.mask.count, "active": mask.count, "put_back": moved}
        return State(mask), Change(mask, facts)

    def entries(setup: Setup, mask: Mask, round_index: int) -> list[int]:
        sizes, active = setup.sizes.tolist(), mask.active_per_layer(setup.prunable).tolist()
        return [
            adjusted(count, size, alpha, round_index, last_round)
            for count, size in zip(active, sizes, strict=True)
        ]

    def _adjusted_mask(
        setup: Setup,
        mask: Mask,
        weights: NDArray[np.float32],
        gradient: NDArray[np.float32],
        round_number: int,
    ) -> Mask:
        flags = np.array(mask.flags())
        for layer in setup.prunable:
            inside = slice(layer.start, layer.stop)
            active = int(np.count_nonzero(flags[inside]))
            count = adjusted(active, layer.stop - layer.start, alpha, round_number, last_round)
            flags[inside] = exchange_entries(weights[inside], gradient[inside], flags[inside], count)
        return Mask.of(flags)

    return Method(
        summary="the smallest weights give way to pruned ones of the largest gradients; a layer's number stays",
        source="Huang et al., IEEE ICDCS 2023 (arXiv 2212.01977)",
        init=init,
        needs=needs,
        step=step,
        first_mask=first_mask,
        importance=True,
        signed_gradient=True,
        gradient_entries=entries if gradients == TOP_K else None,
        needs_target_density=True,
        changes="in rounds that are multiples of reconfigure_every",
    )


def _kept(setup: Setup) -> list[int]:
    """The active entries of each prunable layer."""
    sizes = setup.sizes.tolist()
    parameters = max(layer.stop for layer in setup.layers)
    density = prunable_density(parameters, parameters - sum(sizes), setup.density())
    densities = erk_densities(setup.shapes, density)
    return [int(size * part) for size, part in zip(sizes, densities, strict=True)]
