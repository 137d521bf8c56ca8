"""Which parameters exist: masks over the flat vector, and the methods that choose them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from fedmpi.k_control import Draw
from fedmpi.pruning import iterative, prunefl, snip
from fedmpi.pruning.interface import Change, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class Method:
    """The functions of one pruning method (``pruning.interface``) over its ``state``.

    ``importance``: clients gather the importance of parameters in every round, for when it is asked for.
    """

    state: type[State]
    init: Callable[[Setup, Mask], State]
    needs: Callable[[Setup, Any, int], Needs]
    step: Callable[[Setup, Any, Observation, Draw], tuple[State, Change | None]]
    importance: bool = False


METHODS: Mapping[str, Method] = {
    "prunefl": Method(prunefl.PruneFLState, prunefl.init, prunefl.needs, prunefl.step, importance=True),
    "snip": Method(snip.SnipState, snip.init, snip.needs, snip.step),
    "iterative": Method(iterative.IterativeState, iterative.init, iterative.needs, iterative.step),
}
"""``pruning.method`` -> method; "none" prunes nothing and has no entry."""
