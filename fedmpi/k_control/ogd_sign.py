"""Online descent by the sign of the estimated derivative (Han, Wang, Leung, ICDCS 2020, section IV)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import sqrt

from fedmpi.k_control.interface import Controller, Draw, Observation, Setup
from fedmpi.k_control.ogd import (
    FIRST_ROUND,
    PATIENCE_ROUNDS,
    DescentState,
    derivative,
    first_probe,
    missed,
    moved,
    next_probe,
)

WINDOW_UPDATES = 20
"""After so many updates of k a smaller interval is considered."""
WIDENING = 1.5
"""The candidate interval reaches beyond the extremes of the window by this factor."""


@dataclass(frozen=True)
class SignState(DescentState):
    """[k_min, k_max] is the present interval, within [lower, upper]; ``changed`` the round that set it.

    ``previous_age`` is how old the one before was then, ``window`` holds the values that k was updated to
    since the last look at the interval.
    """

    lower: int
    upper: int
    changed: int
    previous_age: int
    window: tuple[int, ...]


def init(setup: Setup, draw: Draw) -> SignState:
    """k_initial with a probe at 0.9 of it; takes no draw."""
    return SignState(
        k=setup.k_initial,
        k_probe=first_probe(setup),
        round_number=FIRST_ROUND,
        k_min=setup.k_min,
        k_max=setup.k_max,
        misses=0,
        lower=setup.k_min,
        upper=setup.k_max,
        changed=0,
        previous_age=0,
        window=(),
    )


def step(state: SignState, observation: Observation, draw: Draw) -> SignState:
    """One step of (k_max - k_min) / sqrt(2 m') against the sign, m' rounds after the interval was set.

    Draws once for k if it moves, then once for the probe.
    """
    age = state.round_number - state.changed
    size = (state.k_max - state.k_min) / sqrt(2 * age)
    slope = derivative(state, observation)
    misses = missed(state, slope)
    k, window = state.k, state.window
    if slope is not None or misses > PATIENCE_ROUNDS:
        upwards = 1 if slope is None else (slope < 0) - (slope > 0)
        k = moved(state, upwards * size, draw)
        window = (*window, k)
    k_probe = next_probe(k, size / 2, state.k_min, draw)
    state = replace(
        state, k=k, k_probe=k_probe, round_number=state.round_number + 1, misses=misses, window=window
    )
    if len(window) < WINDOW_UPDATES:
        return state
    return replace(_narrowed(state, age), window=())


def _narrowed(state: SignState, age: int) -> SignState:
    """With the interval around the window's values, where it is worth a restart of the step size."""
    low = round(max(min(state.window) / WIDENING, state.lower))
    high = round(min(max(state.window) * WIDENING, state.upper))
    width, present = high - low, state.k_max - state.k_min
    if width > 0 and age >= state.previous_age and present + width <= sqrt(2) * present:
        return replace(state, k_min=low, k_max=high, changed=state.round_number - 1, previous_age=age)
    return state


CONTROLLER = Controller(
    summary="online gradient descent by the sign of the derivative that a second, smaller k estimates",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    init=init,
    step=step,
    state=SignState,
)
