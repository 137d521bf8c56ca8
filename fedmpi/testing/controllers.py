"""Check of a controller of k: bounds, states that survive a checkpoint, and results that draws alone decide."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np

from fedmpi.config.guarding import PURE, Guard, Replayed, same
from fedmpi.k_control.guarded import guarded
from fedmpi.k_control.interface import Controller, Magnitudes, Observation, Setup
from fedmpi.testing.asserting import asserting, guard_of

_ROUNDS = 60


@asserting
def check_k_control(controller: Controller, examples: int = 50) -> None:
    """Let ``controller`` see ``examples`` random runs.

    Raises AssertionError, in one line that names the function, where k leaves [k_min, k_max] or its probe is not below
    k, where a state is of another type or does not survive JSON, and where a step depends on anything but its
    arguments, which a resumed run does not have: what an earlier step, or the ``init`` of another run, left elsewhere.
    """
    guard = guard_of("check_k_control", controller, Controller)
    for seed in range(examples):
        _run(controller, guarded(controller, guard), guard, seed)


def _run(controller: Controller, watched: Controller, guard: Guard, seed: int) -> None:
    """``watched`` is ``controller`` under ``guard``."""
    rng = np.random.default_rng(seed)
    setup, other = _setup(rng), _setup(rng)
    layers = len(setup.layer_sizes)
    state = watched.init(setup, rng.random)
    for _ in range(_ROUNDS):
        restored = controller.state.from_dict(json.loads(json.dumps(state.to_dict())))
        observation = _observation(rng, state.k_probe, layers if controller.measures_update else 0)
        if controller.measures_magnitudes:
            seen = _magnitudes(rng, setup.k_max)
            observation = replace(observation, magnitudes=seen, too_late=seen is None and rng.random() < 0.5)
            if watched.decide is not None and seen is not None:
                watched.decide(restored, replace(seen, most_k=int(rng.integers(1, setup.k_max + 1))))
        draw = Replayed(rng.random)
        state = watched.step(restored, observation, draw)
        guard.call("init", controller.init, other, np.random.default_rng(seed).random)
        again = guard.call("step", controller.step, restored, observation, draw.again())
        if not same(state, again):
            guard.refuse("step", "depends on the init of another run", PURE)
        guard.call("init", controller.init, setup, np.random.default_rng(seed).random)


def _setup(rng: np.random.Generator) -> Setup:
    k_min = int(rng.integers(1, 50))
    k_max = k_min + int(rng.integers(0, 1000))
    setup = Setup(
        k_min, k_max, int(rng.integers(k_min, k_max + 1)), horizon_rounds=100, arms=int(rng.integers(0, 9))
    )
    ends = [0, *np.sort(rng.integers(0, 1 + k_max, int(rng.integers(0, 4)))).tolist(), k_max]
    sizes = tuple(stop - start for start, stop in pairwise(ends) if stop > start)
    return replace(setup, layer_sizes=sizes, layer_compressed=tuple(size % 2 == 0 for size in sizes))


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
