"""Check of a controller of k: bounds, states that survive a checkpoint, and results that draws alone decide."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np

from fedmpi.k_control.interface import Controller, Magnitudes, Observation, Setup

_ROUNDS = 60


def check_k_control(controller: Controller, examples: int = 50) -> None:
    """Let ``controller`` see ``examples`` random runs.

    Raises AssertionError where k leaves [k_min, k_max] or its probe is not below k, where a state is of another type or
    does not survive JSON, and where the same draws give another run.
    """
    for seed in range(examples):
        first, second = _run(controller, seed), _run(controller, seed)
        assert first == second, f"the same draws gave {first} and {second}"


def _run(controller: Controller, seed: int) -> list[tuple[int, int]]:
    rng = np.random.default_rng(seed)
    k_min = int(rng.integers(1, 50))
    k_max = k_min + int(rng.integers(0, 1000))
    setup = Setup(
        k_min, k_max, int(rng.integers(k_min, k_max + 1)), horizon_rounds=100, arms=int(rng.integers(0, 9))
    )
    layers = int(rng.integers(1, 5))
    sizes = tuple(int(size) for size in rng.integers(1, 1 + k_max, layers))
    setup = replace(setup, layer_sizes=sizes, layer_compressed=tuple(size % 2 == 0 for size in sizes))
    state = controller.init(setup, rng.random)
    seen = []
    for _ in range(_ROUNDS):
        assert setup.k_min <= state.k <= setup.k_max, (
            f"k is {state.k}, allowed {setup.k_min} to {setup.k_max}"
        )
        assert 0 <= state.k_probe < state.k, f"k_probe is {state.k_probe}, k is {state.k}"
        assert type(state) is controller.state, f"the state is {type(state)}, announced is {controller.state}"
        restored = controller.state.from_dict(json.loads(json.dumps(state.to_dict())))
        assert restored == state, f"{state} becomes {restored} in a checkpoint"
        seen.append((state.k, state.k_probe))
        observation = _observation(rng, state.k_probe, layers if controller.measures_update else 0)
        if controller.measures_magnitudes:
            observation = replace(observation, magnitudes=_magnitudes(rng, k_max))
        state = controller.step(restored, observation, rng.random)
    return seen


def _observation(rng: np.random.Generator, k_probe: int, layers: int) -> Observation:
    """A round's cost, and losses that fall, rise or were not measured."""
    measured = rng.random() < 0.8
    return Observation(
        cost=float(rng.uniform(0.1, 50)),
        cost_probe=float(rng.uniform(0.1, 100)) if k_probe and rng.random() < 0.7 else None,
        loss_prev=float(rng.uniform(0, 5)) if measured else None,
        loss=float(rng.uniform(0, 5)) if measured else None,
        update_norms=tuple(rng.choice([0.0, 0.5, 1.0, 2.0], layers).tolist())
        if layers and measured
        else None,
        learning_rate_falls=bool(layers) and rng.random() < 0.1,
    )


def _magnitudes(rng: np.random.Generator, k_max: int) -> Magnitudes | None:
    """Energies of random magnitudes, some or all of them zero, and rounds that may end early; or nothing."""
    if rng.random() < 0.2:
        return None
    active = int(rng.integers(1, k_max + 1))
    counts = np.unique(np.rint(np.geomspace(1, active, 9)).astype(np.int64))
    squares = np.sort(rng.exponential(1.0, active) ** 2 * (rng.random(active) < rng.choice([0.0, 0.5, 1.0])))
    fixed_s, each_s = float(rng.uniform(0.1, 10.0)), float(rng.uniform(0.0, 0.1))
    return Magnitudes(
        counts,
        np.cumsum(squares[::-1])[counts - 1],
        lambda k: np.asarray(fixed_s + each_s * k, np.float64),
        most_s=float(rng.choice([fixed_s / 2, fixed_s + each_s * active / 2, np.inf])),
    )
