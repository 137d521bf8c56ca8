"""Check of a pruning method: its masks, the states that it keeps, and that it sees no more than it asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import PruningConfig
from fedmpi.pruning.interface import MASK, Losses, Method, Needs, Observation, Setup, State
from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.pruning.round_time import RoundTime

_ROUNDS = 12


@dataclass(frozen=True)
class _Layer:
    start: int
    stop: int
    prunable: bool


def check_pruning(
    method: Method, config: PruningConfig | None = None, examples: int = 20, start: Mask | None = None
) -> None:
    """Let ``method`` prune small random models over a few rounds, as ``config`` ([pruning]) says.

    Raises AssertionError where a mask prunes what is not prunable or has another size, where the state's mask is not
    that of the change, where a state does not survive a checkpoint, and where the same rounds give another mask.
    Without ``start``, a method with a first mask begins with that. Where it asks for votes, three clients take masks of
    their own, which must not change weights, gradients, or the mask of the round.
    """
    section = config or PruningConfig(reconfigure_every=2, target_density=0.4)
    for seed in range(examples):
        first, second = _run(method, section, seed, start), _run(method, section, seed, start)
        assert first == second, "the same rounds gave other masks"


def _run(method: Method, config: PruningConfig, seed: int, start: Mask | None) -> list[bytes]:
    rng = np.random.default_rng(seed)
    layers = (_Layer(0, 40, True), _Layer(40, 44, False), _Layer(44, 104, True), _Layer(104, 110, False))
    setup = Setup(config, _ROUNDS, layers)
    first = Mask(110)
    if method.first_mask is not None:
        first = method.first_mask(setup, rng.standard_normal(110).astype(np.float32))
        _check_mask(first, layers)
    state = method.init(setup, start or first)
    masks = []
    for round_index in range(_ROUNDS):
        needs = method.needs(setup, state, round_index)
        assert method.by_time or Needs.TIME not in needs, (
            "it asks for the time of a round, without by_time = True"
        )
        restored = _through_checkpoint(method, state)
        before = state.mask
        observation = _observation(rng, round_index, needs, before, method.signed_gradient)
        if Needs.VOTES in needs:
            observation = replace(observation, votes=_votes(method, setup, rng, round_index, before))
        state, change = method.step(setup, restored, observation, rng.random)
        assert type(state) is method.state, f"the state is {type(state)}, announced is {method.state}"
        assert (change is not None) or _same(state.mask, before), "the mask changed without a change"
        if change is not None:
            assert needs is not Needs.NOTHING, "the mask changed after a round of which nothing was asked"
            assert _same(change.mask, state.mask), "the mask of the change is not that of the state"
        _check_mask(state.mask, layers)
        masks.append(state.mask.to_bits().tobytes())
    return masks


def _through_checkpoint(method: Method, state: State) -> State:
    values: Mapping[str, Any] = state.to_dict()
    rest = json.loads(json.dumps({name: value for name, value in values.items() if name != MASK}))
    restored = method.state.from_dict({MASK: values[MASK], **rest})
    again = restored.to_dict()
    assert (again.pop(MASK) == values[MASK]).all(), "the mask changes in a checkpoint"
    assert json.dumps(again) == json.dumps(rest), f"{rest} becomes {again} in a checkpoint"
    return restored


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
    assert method.own_mask is not None, "it asks for votes, without an own_mask"
    votes = np.zeros(mask.dimension, np.int32)
    for samples in (5, 10, 20):
        weights, gradient = rng.standard_normal((2, mask.dimension)).astype(np.float32)
        mask.apply(weights)
        given = weights.copy(), gradient.copy(), mask.to_bits()
        own = method.own_mask(setup, round_index, weights, gradient, mask)
        for before, after in zip(given, (weights, gradient, mask.to_bits()), strict=True):
            assert np.array_equal(before, after), "own_mask changed what it was given"
        _check_mask(own, setup.layers)
        votes += np.int32(samples) * own.flags()
    return votes


def _check_mask(mask: Mask, layers: Sequence[LayerSlice]) -> None:
    assert mask.dimension == layers[-1].stop, f"a mask over {mask.dimension} of {layers[-1].stop} parameters"
    flags = mask.flags()
    for layer in layers:
        if not layer.prunable:
            assert flags[layer.start : layer.stop].all(), "parameters were pruned that cannot be"


def _same(left: Mask, right: Mask) -> bool:
    return bool((left.flags() == right.flags()).all())
