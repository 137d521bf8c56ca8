"""What an aggregator consists of: what stands for the updates of a round, and how the global model follows it.

An *update* is w_global - w_local, so that the model after a plain round is w - mean(updates). In publications signs are
the other way round; every rule here is odd in the updates, so nothing else differs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

State = dict[str, Any]
"""What an aggregator keeps from one server step to the next: arrays (D,) with an entry for each parameter, and plain
numbers."""

Combine = Callable[[NDArray[np.float32], NDArray[np.int64]], NDArray[np.float32]]
"""``combine(updates, samples)``: what stands for the ``updates`` (n, d), a row for each accepted client in rising
order; ``samples`` (n,) are their numbers of samples. d counts the coordinates that travel, which a mask makes fewer."""

Init = Callable[[int], State]
"""``init(parameters)``: the state before the first server step of a model with so many parameters."""

Step = Callable[[State, NDArray[np.floating], NDArray[np.int32] | None], tuple[State, NDArray[np.floating]]]
"""``state, change = step(state, mean, indices)``: one server step; w - change is the next global model.

``mean`` (n,) is the mean update of the coordinates ``indices``, int32 rising; None: of all. Only these coordinates
move, and only their entries of the state change. A coordinate's change depends on nothing but its own mean, its own
entries and the numbers. Both arguments are the step's own: it may change the arrays of ``state`` in place, and
overwrite ``mean`` and return it as the change, which has its shape and type."""


def no_state(parameters: int) -> State:
    """The state of an aggregator that keeps nothing."""
    del parameters
    return {}


@dataclass(frozen=True, kw_only=True)
class Aggregator:
    """What becomes of the updates of a round. ``summary``: one sentence; ``source``: the publication.

    ``combine`` is what stands for the updates; None: their exact mean, weighted by samples, for which they need not be
    gathered. ``step``, with the state that ``init`` begins, is how the model follows; None: w - mean. Float buffers of
    the model (batch-norm statistics) are neither combined nor stepped: they are plain means.

    Where clients send entries only, those that arrived move, with their part of the state, so that what the server
    sends back is as sparse as its selection. ``dense``: all coordinates move in every step, with a mean of 0 where
    nothing arrived, and the server sends all of them. ``sparse_refused``: why the aggregator cannot go with entries, as
    the end of a sentence; empty where it can. ``bytes_per_parameter`` is what the state takes on the server.
    """

    summary: str
    source: str = ""
    combine: Combine | None = None
    init: Init = no_state
    step: Step | None = None
    dense: bool = False
    sparse_refused: str = ""
    bytes_per_parameter: int = 0

    @property
    def needs_updates(self) -> bool:
        """Whether the server must have every single update, not just their sum."""
        return self.combine is not None

    @property
    def is_mean(self) -> bool:
        """Whether the model follows the exact mean, so that there is nothing to do beside it."""
        return self.combine is None and self.step is None


def drop(state: State, active: NDArray[np.bool_]) -> None:
    """Set the state of pruned parameters to zero, in place: ``active`` bool (D,). One that comes back starts there."""
    for value in state.values():
        if isinstance(value, np.ndarray):
            value[~active] = 0
