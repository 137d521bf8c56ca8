"""PruneFL: adaptive pruning by importance per second (Jiang et al., IEEE TNNLS 2022; arXiv 1909.12326).

Every ``reconfigure_every`` rounds the mask is reconfigured; the fraction of weights that a reconfiguration
drops at most halves every ``half_life_rounds``. Two things the publication does not have: with ``interval``
"adaptive" a mask stays until what its making cost has been paid back by what it gained (``pruning.interval``); with
``joint`` a mask is taken only where it gains on what a round takes with the present one, perhaps with dense kernels.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import floor

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import PruningConfig
from fedmpi.k_control import Draw
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.interval import next_interval, next_try, payback_rounds, relative_gain
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import Reconfiguration, allowed_active, reconfigure
from fedmpi.pruning.round_time import RoundTime

_NAME = "prunefl"
_ROUNDING = 1e-9
"""A smaller relative gain is one of the order in which sums were made."""


@dataclass(frozen=True)
class PruneFLState(State):
    """``rounds_since`` rounds have ended since the mask was last reconfigured, or since the start.

    It is reconfigured after ``interval_rounds`` of them.
    """

    rounds_since: int
    interval_rounds: int


def decrease_fraction(config: PruningConfig, round_index: int) -> float:
    """f = max_decrease_fraction x 0.5^(round / half_life_rounds); half lives may be infinite."""
    return float(config.max_decrease_fraction * 0.5 ** (round_index / config.half_life_rounds))


def density_limit(config: PruningConfig, round_index: int, rounds: int) -> float:
    """The density allowed after a round: from ``max_density`` on a line to ``target_density``, if there is one.

    The target is reached with the last of ``rounds`` rounds and holds after it.
    """
    if config.target_density is None:
        return config.max_density
    progress = min(1.0, (round_index + 1) / rounds)
    return (1.0 - progress) * config.max_density + progress * config.target_density


def init(setup: Setup, mask: Mask) -> PruneFLState:
    """Start with ``mask``, that of initial pruning or a full one."""
    return PruneFLState(mask, rounds_since=0, interval_rounds=setup.config.reconfigure_every)


def most_returned(setup: Setup, mask: Mask, round_index: int) -> int:
    """At most so many pruned parameters come back in a reconfiguration after this round.

    The limit of the density leaves no more room where all are dropped that may be. Where it makes layers give up more,
    what each has left is rounded down, by less than one.
    """
    fraction = decrease_fraction(setup.config, round_index)
    active = mask.active_per_layer(setup.prunable).tolist()
    kept = sum(count - floor(fraction * count) for count in active)
    limit = density_limit(setup.config, round_index, setup.rounds)
    return max(len(active) - 1, allowed_active(limit, int(setup.sizes.sum())) - kept)


def needs(setup: Setup, state: PruneFLState, round_index: int) -> Needs:
    """Weights, importance and time in the round after which the mask is reconfigured.

    Clients gather importance in every round; it is sent in that one and starts from zero after it.
    """
    if state.rounds_since + 1 < state.interval_rounds:
        return Needs.NOTHING
    return Needs.WEIGHTS | Needs.IMPORTANCE | Needs.TIME


def step(
    setup: Setup, state: PruneFLState, observation: Observation, draw: Draw
) -> tuple[PruneFLState, Change | None]:
    """Reconfigure when it is due; takes no draw.

    Where nothing is of any importance, as nobody's arrived, the mask stays for another interval.
    """
    if needs(setup, state, observation.round_index) is Needs.NOTHING:
        return replace(state, rounds_since=state.rounds_since + 1), None
    time = required(observation.time, "time", _NAME)
    importance = required(observation.importance, "importance", _NAME)
    if not importance.any():
        return replace(state, rounds_since=0), None
    limit = density_limit(setup.config, observation.round_index, setup.rounds)
    result = reconfigure(
        required(observation.weights, "weights", _NAME),
        importance,
        state.mask,
        setup.layers,
        time.seconds_per_parameter,
        time.constant_s,
        decrease_fraction(setup.config, observation.round_index),
        limit,
    )
    change, interval = change_of(result, state.mask), setup.config.reconfigure_every
    joint, adaptive = setup.config.joint, setup.config.interval == "adaptive"
    if joint or adaptive:
        gain = _gain(result, importance, state.mask, setup, time)
        facts, stays = {"gain": gain}, joint and gain <= _ROUNDING and _is_within(state.mask, limit, setup)
        if adaptive:
            cost_s = required(observation.change_s, "cost of a change", _NAME)(result.mask)
            payback = payback_rounds(cost_s, gain, result.round_s)
            present = state.interval_rounds
            interval = next_try(present, interval) if stays else next_interval(payback, interval)
            interval = _until_target(interval, observation.round_index, setup)
            facts = {"cost_s": cost_s, "gain": gain, "payback_rounds": payback, "interval_rounds": interval}
        change = replace(change, facts={**change.facts, **facts})
        if stays:
            change = replace(change, mask=state.mask, is_new=False)
    return PruneFLState(change.mask, rounds_since=0, interval_rounds=interval), change


def _is_within(mask: Mask, max_density: float, setup: Setup) -> bool:
    """Whether no more is active than may be."""
    active = int(mask.active_per_layer(setup.prunable).sum())
    return active <= allowed_active(max_density, int(setup.sizes.sum()))


def _until_target(interval: int, round_index: int, setup: Setup) -> int:
    """The ``interval`` from this round on, where there is a target density no longer than to the last round of all."""
    left = setup.rounds - round_index - 1
    shortest = setup.config.reconfigure_every
    return min(interval, max(left, shortest)) if setup.config.target_density is not None else interval


def _gain(
    result: Reconfiguration, importance: NDArray[np.floating], before: Mask, setup: Setup, time: RoundTime
) -> float:
    """By which part a reconfiguration raises importance per second."""
    of_mask_s = time.seconds(before.active_per_layer(setup.prunable))
    return relative_gain(
        float(importance.sum(where=before.flags(), dtype=np.float64)),
        time.present_s if setup.config.joint else of_mask_s,
        result.importance,
        result.round_s,
    )


def change_of(result: Reconfiguration, before: Mask) -> Change:
    """The change that a reconfiguration makes, with what is recorded of it."""
    return Change(
        result.mask,
        {
            "active_before": before.count,
            "active": result.mask.count,
            "dropped": int(result.dropped.sum()),
            "put_back": int(result.put_back.sum()),
            "importance": result.importance,
            "round_s": result.round_s,
        },
    )


METHOD = Method(
    summary="drops the smallest weights and takes back those worth their time, every so many rounds",
    source="Jiang et al., IEEE TNNLS 2022 (arXiv 1909.12326)",
    state=PruneFLState,
    init=init,
    needs=needs,
    step=step,
    importance=True,
    most_returned=most_returned,
    adapts_interval=True,
    time_by_parameter=True,
    by_time=True,
    starts_pruned=True,
)
