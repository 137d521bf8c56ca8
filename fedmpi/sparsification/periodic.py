"""Random coordinates that all clients send, in turn: what FAB-top-k is compared with.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning approach",
ICDCS 2020, section V.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.streams import Purpose, generator
from fedmpi.sparsification import unidirectional
from fedmpi.sparsification.interface import Choice, SparseMethod


def coordinates(dimension: int, k: int, choice: Choice) -> NDArray[np.int32]:
    """The ``k`` coordinates, int32 rising, that all clients send in a round; known to both sides without a word.

    Rounds come in cycles of ceil(dimension / k). Each cycle deals all coordinates once, in a random order of
    its own; what is missing to k in its last round is drawn from those dealt before. Nothing is kept between
    rounds. Raises ValueError unless 1 <= k <= dimension.
    """
    if not 1 <= k <= dimension:
        raise ValueError(f"k is {k}, allowed are 1 to {dimension}")
    seed = choice.seed
    cycle, turn = divmod(choice.round_index, -(-dimension // k))
    order = _order(seed, cycle, dimension)
    dealt = order[turn * k : (turn + 1) * k]
    missing = k - dealt.size
    if missing:
        draw = generator(seed, Purpose.SPARSIFICATION, cycle, _TOP_UP)
        again = draw.choice(turn * k, size=missing, replace=False, shuffle=False)
        dealt = np.concatenate((dealt, order[again]))
    return np.sort(dealt)


_ORDER, _TOP_UP = 0, 1
"""Which stream of a cycle is drawn; part of the results."""


@lru_cache(maxsize=1)
def _order(seed: int, cycle: int, dimension: int) -> NDArray[np.int32]:
    """The order in which a cycle deals the coordinates; drawn once for all of its rounds."""
    order = np.arange(dimension, dtype=np.int32)
    generator(seed, Purpose.SPARSIFICATION, cycle, _ORDER).shuffle(order)
    order.setflags(write=False)
    return order


METHOD = SparseMethod(
    summary="k coordinates in turn, the same for all clients, in a random order",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    one_k="whose cycle through all coordinates is laid out for one k",
    select=unidirectional.select,
    coordinates=coordinates,
)
