"""The same k in every round."""

from __future__ import annotations

from fedmpi.k_control.interface import Draw, Observation, Setup, State


def init(setup: Setup, draw: Draw) -> State:
    """``k_initial``, without a probe."""
    return State(k=setup.k_initial, k_probe=0)


def step(state: State, observation: Observation, draw: Draw) -> State:
    """The state as it is."""
    return state
