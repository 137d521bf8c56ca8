"""The same k in every round."""

from __future__ import annotations

from fedmpi.k_control.interface import Controller, Draw, Observation, Setup, State


def init(setup: Setup, draw: Draw) -> State:
    """``k_initial``, without a probe."""
    return State(k=setup.k_initial, k_probe=0)


def step(state: State, observation: Observation, draw: Draw) -> State:
    """The state as it is."""
    return state


CONTROLLER = Controller(
    summary="the same k in every round",
    init=init,
    step=step,
    measures_losses=False,
    by_time=False,
)
