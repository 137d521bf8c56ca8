"""When the rounds of a trace began, and with whom: what availability, the seed and the round before say of it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config, parts
from fedmpi.config.parts import is_reference
from fedmpi.emulation.availability import Availability, AvailabilityModel, make_availability
from fedmpi.experiment.differences import Difference, client_named, compared, round_named
from fedmpi.experiment.recorded import Recorded
from fedmpi.federation.client_selection import next_start
from fedmpi.trace import Phase

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_KEY = "emulation.availability.model"
_LATEST_S = 1e15
"""No round begins as late as this; what a damaged file says may."""


def availability_of(config: Config, trust: tuple[str, ...]) -> Availability | None:
    """Who is available when; None where that is code of a user's own, and its key is not among those to ``trust``.

    Raises ConfigError and EmulationError as ``make_availability``.
    """
    section = config.emulation.availability
    if is_reference(section.model) and _KEY not in trust:
        return None
    model = parts.build(_KEY, section.model, section.options, AvailabilityModel)
    return make_availability(model, section, config.clients.count, config.experiment.seed)


def starts_of(
    recorded: Recorded, config: Config, availability: Availability | None, period: int | None
) -> tuple[FloatArray, list[Difference]]:
    """The moments (R,) at which rounds begin that begin as soon as they can after the one before, and what differs.

    A round that is not the first of a ``period`` begins at once. Where ``availability`` is not known, or whether there
    are periods, moments are as recorded, if these are not before the end of the round before; participants are not
    looked at then.
    """
    rounds = recorded.rounds
    before = np.concatenate([[0.0], rounds["end_s"]])[: len(rounds)]
    before = np.where((before >= 0.0) & (before < _LATEST_S), before, 0.0)
    if availability is None or period is None:
        late = rounds["start_s"] >= before
        starts_s = np.where(late & (rounds["start_s"] < _LATEST_S), rounds["start_s"], before)
        wrong = compared("rounds", round_named(rounds), "start_s", rounds["start_s"], before, ~late)
        return starts_s, list(wrong)
    starts_s = before.copy()
    participants: list[Difference] = []
    staying = np.empty(0, np.int64)
    for place, (begin, end) in enumerate(pairwise(recorded.bounds.tolist())):
        number = int(rounds["round"][place])
        if rounds["phase"][place] != Phase.FEDERATED:
            continue
        expected = staying
        if number % period == 0:
            start = next_start(config, availability, number, float(before[place]))
            if start is not None:
                starts_s[place], expected = start.start_s, start.participants
        participants += _not_taking_part(recorded, place, expected)
        staying = recorded.clients["client"][begin:end][recorded.staying[begin:end]]
    moments = compared("rounds", round_named(rounds), "start_s", rounds["start_s"], starts_s)
    return starts_s, [*moments, *participants]


def _not_taking_part(recorded: Recorded, place: int, expected: IntArray) -> Iterator[Difference]:
    """Participants of a round that are others than ``expected``."""
    rows = recorded.clients[recorded.bounds[place] : recorded.bounds[place + 1]]
    if len(rows) == len(expected):
        yield from compared("clients", client_named(rows), "client", rows["client"], expected)
    else:
        row = round_named(recorded.rounds)(place)
        yield Difference("rounds", row, "participants", len(rows), len(expected))
