"""Check of a pruning method: its masks, the states that it keeps, and that it sees no more than it asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.guarding import PURE, Guard, Replayed, same
from fedmpi.config.schema import PruningConfig
from fedmpi.pruning.guarded import guarded
from fedmpi.pruning.interface import MASK, Losses, Method, Needs, Observation, Setup
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.round_time import RoundTime
from fedmpi.testing.asserting import asserting, guard_of

_ROUNDS = 12


@dataclass(frozen=True)
class _Layer:
    start: int
    stop: int
    prunable: bool


@asserting
def check_pruning(
    method: Method, config: PruningConfig | None = None, examples: int = 20, start: Mask | None = None
) -> None:
    """Let ``method`` prune small random models over a few rounds, as ``config`` ([pruning]) says.

    Raises AssertionError, in one line that names the function, where a mask prunes what is not prunable or has another
    size, where the state's mask is not that of the change, where a state does not survive a checkpoint, where more is
    asked for than the descriptor says, and where a step depends on anything but its arguments, or changes them. Without
    ``start``, a method with a first mask begins with that. Where it asks for votes, three clients take masks of their
    own.
    """
    guard = guard_of("check_pruning", method, Method)
    section = config or PruningConfig(reconfigure_every=2, target_density=0.4)
    for seed in range(examples):
        _run(method, guarded(method, guard), guard, section, seed, start)


def _run(
    method: Method, watched: Method, guard: Guard, config: PruningConfig, seed: int, start: Mask | None
) -> None:
    """``watched`` is ``method`` under ``guard``."""
    rng = np.random.default_rng(seed)
    layers = (_Layer(0, 40, True), _Layer(40, 44, False), _Layer(44, 104, True), _Layer(104, 110, False))
    setup = Setup(config, _ROUNDS, layers)
    other = Setup(config, 2 * _ROUNDS, (_Layer(0, 30, True), _Layer(30, 36, False)))
    first = Mask(110)
    if watched.first_mask is not None:
        first = watched.first_mask(setup, rng.standard_normal(110).astype(np.float32))
    state = watched.init(setup, start or first)
    for round_index in range(_ROUNDS):
        restored = method.state.from_dict(_through_json(state.to_dict()))
        needs = watched.needs(setup, restored, round_index)
        before = state.mask
        if Needs.IMPORTANCE in needs:
            for announced in (watched.gradient_entries, watched.most_returned):
                if announced is not None:
                    announced(setup, before, round_index)
        observation = _observation(rng, round_index, needs, before, method.signed_gradient)
        if Needs.VOTES in needs:
            observation = replace(observation, votes=_votes(watched, setup, rng, round_index, before))
        draw = Replayed(rng.random)
        state, change = watched.step(setup, restored, observation, draw)
        guard.call("init", method.init, other, Mask(36))
        again = guard.call("step", method.step, setup, restored, observation, draw.again())
        if not same((state.to_dict(), change), (again[0].to_dict(), again[1])):
            guard.refuse("step", "depends on the init of another run", PURE)
        guard.call("init", method.init, setup, start or first)


def _through_json(values: Mapping[str, Any]) -> dict[str, Any]:
    rest = json.loads(json.dumps({name: value for name, value in values.items() if name != MASK}))
    return {MASK: values[MASK], **rest}


def _observation(
    rng: np.random.Generator, round_index: int, needs: Needs, mask: Mask, signed: bool
) -> Observation:
    size = mask.dimension
    weights = rng.standard_normal(size).astype(np.float32)
    mask.apply(weights)
    gradient = rng.standard_normal(size).astype(np.float32)
    time = RoundTime(1.0, rng.uniform(0.001, 0.1, 2))
    losses = Losses(*sorted(rng.uniform(0, 3, 3).tolist(), reverse=True))
    return Observation(
        round_index,
        weights=weights if Needs.WEIGHTS in needs else None,
        gradient=gradient if Needs.GRADIENT in needs else None,
        importance=gradient.astype(np.float64) ** (1 if signed else 2) if Needs.IMPORTANCE in needs else None,
        time=time if Needs.TIME in needs else None,
        change_s=(lambda changed: 0.01 * changed.count) if Needs.TIME in needs else None,
        losses=losses if Needs.LOSSES in needs else None,
    )


def _votes(
    method: Method, setup: Setup, rng: np.random.Generator, round_index: int, mask: Mask
) -> NDArray[np.int32]:
    """The samples of three clients with masks of their own, by what each kept."""
    assert method.own_mask is not None
    votes = np.zeros(mask.dimension, np.int32)
    for samples in (5, 10, 20):
        weights, gradient = rng.standard_normal((2, mask.dimension)).astype(np.float32)
        mask.apply(weights)
        votes += np.int32(samples) * method.own_mask(setup, round_index, weights, gradient, mask).flags()
        if method.own_kept is not None:
            method.own_kept(setup, round_index, weights, gradient, mask)
    return votes
