"""Lottery tickets: the mask of a finished run, trained again from the start (Frankle, Carbin, ICLR 2019).

``lottery_reinit`` starts from the original initial weights, ``lottery_random`` from new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control import Draw
from fedmpi.numerics.streams import Purpose, torch_seed
from fedmpi.pruning.interface import Change, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask

METHODS = ("lottery_reinit", "lottery_random")


@dataclass(frozen=True)
class LotteryState(State):
    """The mask of the finished run; it never changes."""


def weights_seed(method: str, seed: int) -> int:
    """The seed from which a ticket's initial weights are made, ``seed`` being that of the experiment.

    The same for ``lottery_reinit``, so that a run with the finished run's seed starts as it did; another one for
    ``lottery_random``. Raises ValueError for other methods.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, allowed are {', '.join(METHODS)}")
    return seed if method == "lottery_reinit" else torch_seed(seed, Purpose.PRUNING)


def ticket(mask: Mask, initial_weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """A copy of the initial weights, float32 (D,), with everything pruned at zero."""
    weights = initial_weights.copy()
    mask.apply(weights)
    return weights


def init(setup: Setup, mask: Mask) -> LotteryState:
    """Start with ``mask``, that of the finished run."""
    return LotteryState(mask)


def needs(setup: Setup, state: LotteryState, round_index: int) -> Needs:
    """Nothing."""
    return Needs.NOTHING


def step(
    setup: Setup, state: LotteryState, observation: Observation, draw: Draw
) -> tuple[LotteryState, Change | None]:
    """The state as it is."""
    return state, None
