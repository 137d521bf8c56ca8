"""Check of a pruning method: its masks, the states that it keeps, and that it sees no more than it asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmpi.config.schema import PruningConfig
from fedmpi.pruning.interface import MASK, Losses, Method, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask
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
    """
    section = config or PruningConfig(reconfigure_every=2, target_density=0.4)
    for seed in range(examples):
        first, second = _run(method, section, seed, start), _run(method, section, seed, start)
        assert first == second, "the same rounds gave other masks"


def _run(method: Method, config: PruningConfig, seed: int, start: Mask | None) -> list[bytes]:
    rng = np.random.default_rng(seed)
    layers = (_Layer(0, 40, True), _Layer(40, 44, False), _Layer(44, 104, True), _Layer(104, 110, False))
    setup = Setup(config, _ROUNDS, layers)
    state = method.init(setup, start or Mask(110))
    masks = []
    for round_index in range(_ROUNDS):
        needs = method.needs(setup, state, round_index)
        assert method.by_time or Needs.TIME not in needs, (
            "it asks for the time of a round, without by_time = True"
        )
        restored = _through_checkpoint(method, state)
        before = state.mask
        state, change = method.step(
            setup, restored, _observation(rng, round_index, needs, before, method.signed_gradient), rng.random
        )
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


def _check_mask(mask: Mask, layers: tuple[_Layer, ...]) -> None:
    assert mask.dimension == layers[-1].stop, f"a mask over {mask.dimension} of {layers[-1].stop} parameters"
    flags = mask.flags()
    for layer in layers:
        if not layer.prunable:
            assert flags[layer.start : layer.stop].all(), "parameters were pruned that cannot be"


def _same(left: Mask, right: Mask) -> bool:
    return bool((left.flags() == right.flags()).all())
