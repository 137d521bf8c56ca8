"""Exp3, the adversarial bandit (Auer et al., SIAM J. Comput. 2002), with values of k as arms."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control.interface import Controller, Draw, Observation, Setup, State


@dataclass(frozen=True)
class Exp3State(State):
    """``arm`` is the position of k among the arms, ``gamma`` the exploration.

    Arms start at weight 1; ``log_weights`` are those of the arms that had a reward (``played``), all others
    have kept theirs. Logarithms cannot overflow, and a state of half a million arms stays small.
    """

    k_min: int
    k_max: int
    arms: int
    gamma: float
    arm: int
    played: tuple[int, ...]
    log_weights: tuple[float, ...]


def init(setup: Setup, draw: Draw) -> Exp3State:
    """Equal weights, and the first arm by one draw; ``k_initial`` plays no role."""
    arms = arm_values(setup.k_min, setup.k_max, setup.arms).size
    gamma = sqrt(log(arms) / (arms * setup.horizon_rounds))
    return _drawn(setup.k_min, setup.k_max, setup.arms, gamma, {}, draw)


def step(state: Exp3State, observation: Observation, draw: Draw) -> Exp3State:
    """Weigh the arm just played by its reward, and draw the next one (one draw).

    The reward is the decrease of the loss per second of the round, and 0 where the loss did not fall.
    """
    decrease = observation.decrease
    weights = dict(zip(state.played, state.log_weights, strict=True))
    if decrease is not None:
        reward = decrease / observation.cost
        chances = probabilities(state)
        gain = state.gamma * (reward / float(chances[state.arm])) / chances.size
        weights[state.arm] = weights.get(state.arm, 0.0) + gain
    return _drawn(state.k_min, state.k_max, state.arms, state.gamma, weights, draw)


def probabilities(state: Exp3State) -> NDArray[np.float64]:
    """The chance of every arm in the draw that the state is the outcome of."""
    weights = dict(zip(state.played, state.log_weights, strict=True))
    return _chances(arm_values(state.k_min, state.k_max, state.arms).size, state.gamma, weights)


@lru_cache(maxsize=4)
def arm_values(k_min: int, k_max: int, arms: int) -> NDArray[np.int64]:
    """The k of every arm, ascending: all integers for ``arms`` = 0, else a geometric grid with both ends.

    Where the grid is finer than the integers it has fewer than ``arms`` values.
    """
    if arms == 0:
        values = np.arange(k_min, k_max + 1)
    else:
        values = np.unique(np.rint(np.geomspace(k_min, k_max, arms)).astype(np.int64))
    values.setflags(write=False)
    return values


def _chances(arms: int, gamma: float, log_weights: dict[int, float]) -> NDArray[np.float64]:
    logarithms = np.zeros(arms)
    logarithms[list(log_weights)] = list(log_weights.values())
    weights = np.exp(logarithms - logarithms.max())
    return (1 - gamma) * weights / weights.sum() + gamma / arms


def _drawn(
    k_min: int, k_max: int, arms: int, gamma: float, log_weights: dict[int, float], draw: Draw
) -> Exp3State:
    """The state with the first arm whose cumulative chance exceeds the draw."""
    values = arm_values(k_min, k_max, arms)
    cumulative = np.cumsum(_chances(values.size, gamma, log_weights))
    # The last sum may be a rounding error short of 1.
    arm = min(int(np.searchsorted(cumulative, draw(), side="right")), values.size - 1)
    played, weights = tuple(log_weights), tuple(log_weights.values())
    return Exp3State(int(values[arm]), 0, k_min, k_max, arms, gamma, arm, played, weights)


CONTROLLER = Controller(
    summary="the bandit EXP3, with values of k as its arms",
    source="Auer et al., SIAM J. Computing 2002, as compared with in Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    init=init,
    step=step,
    state=Exp3State,
)
