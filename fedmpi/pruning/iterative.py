"""Iterative magnitude pruning, as PruneFL is compared with it (Jiang et al., IEEE TNNLS 2022).

20 prunings at equal distances over the first half of the run, each removing from every layer the same fraction of what
remains, so that the last one reaches the wanted density.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedmpi.k_control import Draw
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.magnitude import keep_largest
from fedmpi.pruning.mask import Mask

PRUNINGS = 20
_NAME = "iterative"


@dataclass(frozen=True)
class IterativeState(State):
    """``prunings`` of the 20 are done."""

    prunings: int


def prunings_by(round_index: int, rounds: int) -> int:
    """How many prunings have happened when a round has ended, of a run of ``rounds``.

    The i-th follows round ceil(i rounds / 40), counted from 1; runs of less than 40 rounds make several at once.
    """
    return min(PRUNINGS, 2 * PRUNINGS * (round_index + 1) // rounds)


def kept(size: int, density: float, prunings: int) -> int:
    """What is left of a layer: the nearest integer to size x density^(prunings / 20).

    Derived from the size, so that rounding does not add up over the prunings.
    """
    return round(size * density ** (prunings / PRUNINGS))


def init(setup: Setup, mask: Mask) -> IterativeState:
    """Start with ``mask``. Raises ValueError when ``pruning.target_density`` is not set."""
    setup.density()
    return IterativeState(mask, prunings=0)


def needs(setup: Setup, state: IterativeState, round_index: int) -> Needs:
    """The weights in the rounds after which the model is pruned."""
    return Needs.WEIGHTS if prunings_by(round_index, setup.rounds) > state.prunings else Needs.NOTHING


def step(
    setup: Setup, state: IterativeState, observation: Observation, draw: Draw
) -> tuple[IterativeState, Change | None]:
    """Prune when it is due; a layer that is already smaller stays as it is. Takes no draw."""
    prunings = prunings_by(observation.round_index, setup.rounds)
    if prunings <= state.prunings:
        return state, None
    present = state.mask.active_per_layer(setup.prunable).tolist()
    counts = [
        min(active, kept(size, setup.density(), prunings))
        for active, size in zip(present, setup.sizes.tolist(), strict=True)
    ]
    mask = keep_largest(required(observation.weights, "weights", _NAME), state.mask, setup.layers, counts)
    facts = {"active_before": state.mask.count, "active": mask.count, "pruning": prunings}
    return replace(state, mask=mask, prunings=prunings), Change(mask, facts)


METHOD = Method(
    summary="20 prunings by magnitude over the first half of the run",
    source="as compared with in Jiang et al., IEEE TNNLS 2022 (arXiv 1909.12326)",
    state=IterativeState,
    init=init,
    needs=needs,
    step=step,
    needs_target_density=True,
    changes="at fixed rounds of the first half",
)
