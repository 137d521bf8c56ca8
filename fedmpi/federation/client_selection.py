"""Client selection: who takes part in a round, drawn among those that are available when it begins."""

from __future__ import annotations

import numpy as np

from fedmpi.config.schema import Config, asked_clients
from fedmpi.emulation.availability import Availability
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import IntArray
from fedmpi.numerics.streams import Purpose, generator


def draw_participants(seed: int, round_index: int, available: IntArray, per_round: int) -> IntArray:
    """The clients of one round, rising: all that are ``available``, or ``per_round`` of them (0: all).

    They are drawn uniformly without replacement; where fewer are available, all of them take part.
    """
    if per_round == 0 or per_round >= len(available):
        return available
    draw = generator(seed, Purpose.PARTICIPANTS, round_index)
    return np.sort(draw.choice(available, size=per_round, replace=False, shuffle=False))


def next_start(
    config: Config, availability: Availability, round_index: int, now_s: float
) -> RoundStart | None:
    """When a round begins, from ``now_s`` on, and with whom: drawn among those available then; None: nobody ever is.

    With over-selection more clients are drawn than are to count.
    """
    first = availability.first_from(round_index, now_s)
    if first is None:
        return None
    start_s, available = first
    asked = asked_clients(config.clients.per_round, config.federation.over_selection)
    return RoundStart(
        round_index, start_s, draw_participants(config.experiment.seed, round_index, available, asked)
    )
