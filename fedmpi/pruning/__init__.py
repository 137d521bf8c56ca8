"""Which parameters exist: masks over the flat vector, and the methods that choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control import Draw
from fedmpi.pruning import iterative, lottery, online, prunefl, snip
from fedmpi.pruning.interface import Change, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class Method:
    """The functions of one pruning method (``pruning.interface``) over its ``state``.

    ``importance``: clients gather the importance of parameters in every round, for when it is asked for. ``probe``:
    for a method that asks for losses, the mask of the third, by the weights after the round; None for no third.
    """

    state: type[State]
    init: Callable[[Setup, Mask], State]
    needs: Callable[[Setup, Any, int], Needs]
    step: Callable[[Setup, Any, Observation, Draw], tuple[State, Change | None]]
    importance: bool = False
    probe: Callable[[Setup, Any, NDArray[np.float32]], Mask | None] | None = None


METHODS: Mapping[str, Method] = {
    "prunefl": Method(prunefl.PruneFLState, prunefl.init, prunefl.needs, prunefl.step, importance=True),
    "snip": Method(snip.SnipState, snip.init, snip.needs, snip.step),
    "online": Method(online.OnlineState, online.init, online.needs, online.step, probe=online.probe_mask),
    "iterative": Method(iterative.IterativeState, iterative.init, iterative.needs, iterative.step),
    **dict.fromkeys(lottery.METHODS, Method(lottery.LotteryState, lottery.init, lottery.needs, lottery.step)),
}
"""``pruning.method`` -> method; "none" prunes nothing and has no entry."""
