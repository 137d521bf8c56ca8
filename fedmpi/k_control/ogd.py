"""What the two controllers by online gradient descent share."""

from __future__ import annotations

from dataclasses import dataclass

from fedmpi.k_control.interface import Draw, Observation, Setup, State, clip, round_stochastically

FIRST_ROUND = 3
"""The number m of the first round that a step sees: the estimate takes losses of two rounds before it."""
PATIENCE_ROUNDS = 10
"""After more rounds running than these without an estimate, k grows by a step."""


@dataclass(frozen=True)
class DescentState(State):
    """``round_number`` is the m of the round that the next step sees; k stays within [k_min, k_max].

    ``misses`` counts the rounds running without an estimate.
    """

    round_number: int
    k_min: int
    k_max: int
    misses: int


def first_probe(setup: Setup) -> int:
    """ceil(0.9 k), below k; 0 (none) where k is 1."""
    return min(-(-9 * setup.k_initial // 10), setup.k_initial - 1)


def next_probe(k: int, distance: float, k_min: int, draw: Draw) -> int:
    """k - ``distance``, rounded with one draw, at least ceil(0.1 k_min), below k; 0 (none) where k is 1."""
    return min(max(round_stochastically(k - distance, draw), -(-k_min // 10)), k - 1)


def derivative(state: DescentState, observation: Observation) -> float | None:
    """The estimated derivative of the cost at k (s per entry), None without an estimate for the probe."""
    if observation.cost_probe is None:
        return None
    return (observation.cost - observation.cost_probe) / (state.k - state.k_probe)


def missed(state: DescentState, slope: float | None) -> int:
    """The rounds running without an estimate, this one included."""
    return state.misses + 1 if slope is None else 0


def moved(state: DescentState, distance: float, draw: Draw) -> int:
    """k + ``distance``, rounded with one draw, within the bounds."""
    return clip(round_stochastically(state.k + distance, draw), state.k_min, state.k_max)
