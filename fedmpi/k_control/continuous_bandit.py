"""Gradient descent without a gradient: the one-point estimate (Flaxman, Kalai, McMahan, SODA 2005)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from fedmpi.k_control.interface import Controller, Draw, Observation, Setup, State, clip, round_stochastically


@dataclass(frozen=True)
class BanditState(State):
    """``action`` descends; k is played ``radius`` above (``direction`` 1) or below it (-1)."""

    k_min: int
    k_max: int
    horizon_rounds: int
    action: float
    direction: int

    @property
    def radius(self) -> float:
        """delta = T^(-1/4)."""
        return float(self.horizon_rounds**-0.25)


def init(setup: Setup, draw: Draw) -> BanditState:
    """The action starts at (k_max + k_min) / 200; draws for the direction, then for k."""
    action = (setup.k_max + setup.k_min) / 200
    state = BanditState(0, 0, setup.k_min, setup.k_max, setup.horizon_rounds, action, 1)
    return _played(replace(state, action=_projected(state, action)), draw)


def step(state: BanditState, observation: Observation, draw: Draw) -> BanditState:
    """One step of (k_max - k_min + 1) T^(-3/4) along cost x direction / delta.

    The cost is the round's time per decrease of the loss. Without a decrease there is none: the action stays
    and is itself played, and only k takes a draw; else the draws are for the new direction, then for k.
    """
    decrease = observation.decrease
    if decrease is None:
        return replace(state, k=_rounded(state, state.action, draw))
    size = (state.k_max - state.k_min + 1) * state.horizon_rounds**-0.75
    cost = observation.cost / decrease
    action = state.action - size * (1 / state.radius) * cost * state.direction
    return _played(replace(state, action=_projected(state, action)), draw)


def _played(state: BanditState, draw: Draw) -> BanditState:
    direction = 1 if draw() <= 0.5 else -1
    k = _rounded(state, state.action + state.radius * direction, draw)
    return replace(state, direction=direction, k=k)


def _projected(state: BanditState, action: float) -> float:
    return min(max(action, state.k_min + state.radius), state.k_max - state.radius)


def _rounded(state: BanditState, number: float, draw: Draw) -> int:
    # Bounds closer than 2 delta leave no room for the projection.
    return clip(round_stochastically(number, draw), state.k_min, state.k_max)


CONTROLLER = Controller(
    summary="a bandit over a continuous k, by one-point gradients",
    source="Flaxman, Kalai, McMahan, SODA 2005, as compared with in Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    init=init,
    step=step,
    state=BanditState,
)
