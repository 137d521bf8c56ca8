"""Online descent by the value of the estimated derivative, what ``ogd_sign`` is compared with."""

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


@dataclass(frozen=True)
class ValueState(DescentState):
    """``slope`` is the last estimated derivative (s per entry), 0 before the first."""

    slope: float


def init(setup: Setup, draw: Draw) -> ValueState:
    """k_initial with a probe at 0.9 of it; takes no draw."""
    return ValueState(
        k=setup.k_initial,
        k_probe=first_probe(setup),
        round_number=FIRST_ROUND,
        k_min=setup.k_min,
        k_max=setup.k_max,
        misses=0,
        slope=0.0,
    )


def step(state: ValueState, observation: Observation, draw: Draw) -> ValueState:
    """One step of the derivative times (k_max - k_min) / sqrt(2 m).

    Without an estimate k stays (but grows after many such rounds), and the last derivative says how far away
    the probe is. Draws once for k if it moves, then once for the probe.
    """
    size = (state.k_max - state.k_min) / sqrt(2 * state.round_number)
    estimate = derivative(state, observation)
    misses = missed(state, estimate)
    slope = state.slope if estimate is None else estimate
    k = state.k
    if estimate is not None or misses > PATIENCE_ROUNDS:
        k = moved(state, size if estimate is None else -size * slope, draw)
    k_probe = next_probe(k, size * abs(slope) / 2, state.k_min, draw)
    return replace(
        state, k=k, k_probe=k_probe, round_number=state.round_number + 1, misses=misses, slope=slope
    )


CONTROLLER = Controller(
    summary="online gradient descent by the estimated derivative itself",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    init=init,
    step=step,
    state=ValueState,
)
