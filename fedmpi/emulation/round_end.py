"""When a round ends, and who is in time: deadlines, over-selection, and participants that vanish.

A synchronous server that waits for all is as slow as its slowest participant. So it asks more clients than it needs and
takes the first arrivals, or stops waiting at a deadline (Bonawitz et al., "Towards federated learning at scale: system
design", MLSys 2019, section 2.2). A participant that vanishes is noticed at that moment: its connection is gone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.emulation.availability import Availability
from fedmpi.emulation.stepwise import ROUNDING
from fedmpi.emulation.timeline import Timeline
from fedmpi.numerics.streams import Purpose, generator

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class EndRule:
    """What ends a round besides the arrival of everybody.

    ``deadline_s``: seconds after its start (inf: none); ``wanted``: so many arrivals (0: all).
    """

    deadline_s: float = inf
    wanted: int = 0


@dataclass(frozen=True)
class Arrivals:
    """How a round ended, ``duration_s`` after its start, for each participant, bool (n,): exactly one is true.

    ``in_time``: its update arrived and counts; ``dropped``: it vanished before the end; ``late``: neither.
    """

    duration_s: float
    in_time: BoolArray
    dropped: BoolArray

    @property
    def late(self) -> BoolArray:
        return ~(self.in_time | self.dropped)


def round_end(arrival_s: FloatArray, gone_s: FloatArray, rule: EndRule) -> Arrivals:
    """The end of a round whose participants arrive ``arrival_s`` (n,) after its start, or vanish ``gone_s`` (n,).

    ``arrival_s`` is inf for one that vanishes before it has arrived, ``gone_s`` is inf for one that stays; one of both
    is finite. Of arrivals at the same moment the lower client, which is the earlier in the arrays, comes first. Who
    arrives at the deadline is in time, also where rounding puts the sum of its seconds beside it.
    """
    never = arrival_s == inf
    in_time = ~never & (arrival_s <= rule.deadline_s * (1.0 + ROUNDING))
    end_s = float(np.where(never, gone_s, arrival_s).max(initial=0.0))
    if rule.wanted and np.count_nonzero(in_time) >= rule.wanted:
        first = np.argsort(np.where(in_time, arrival_s, inf), kind="stable")[: rule.wanted]
        in_time = np.zeros(len(arrival_s), np.bool_)
        in_time[first] = True
        end_s = float(arrival_s[first[-1]])
    end_s = max(min(end_s, rule.deadline_s), float(arrival_s[in_time].max(initial=0.0)))
    return Arrivals(end_s, in_time, never & (gone_s <= end_s))


def ended_round(
    simulate: Callable[[FloatArray | None], Timeline],
    rule: EndRule,
    leaves_s: FloatArray,
    dropout_fraction: FloatArray,
) -> tuple[Timeline, Arrivals]:
    """A round with all that ends it early, and the work of each participant up to where it stopped.

    ``simulate(stop_s)`` gives the round in which each participant stops ``stop_s`` (n,) seconds after the start; None:
    nobody does. ``leaves_s`` (n,): when a participant is not available any more (inf: it stays). ``dropout_fraction``
    (n,): at which fraction of the round that it would have had it vanishes (inf: it does not). Where others vanish, it
    may have more of the server's link than that, arrive before, and so be in time after all.
    """
    timeline = simulate(None)
    vanishes, work_s = dropout_fraction < inf, timeline.work_s
    gone_s = leaves_s.copy()
    gone_s[vanishes] = np.minimum(leaves_s[vanishes], dropout_fraction[vanishes] * work_s[vanishes])
    # Who leaves at the moment of its arrival has arrived, also where rounding puts one beside the other.
    unknown_s = ROUNDING * (timeline.start_s + work_s)
    tied = (gone_s < work_s) & (work_s - gone_s <= unknown_s)
    gone_s[tied] = work_s[tied] + unknown_s[tied]
    if (gone_s < work_s).any():
        timeline = simulate(gone_s)
        work_s = timeline.work_s
    end = round_end(np.where(timeline.arrived, work_s, inf), gone_s, rule)
    if end.in_time.all():
        return timeline, end
    # Nobody's rate changes before the round ends: those in time keep their seconds to the last bit.
    stopped = simulate(np.minimum(gone_s, end.duration_s))
    timeline = _chosen(end.in_time, timeline, stopped)
    wait_s = np.where(end.in_time, end.duration_s - timeline.work_s, 0.0)
    return replace(timeline, wait_s=wait_s, duration_s=end.duration_s), end


@dataclass(frozen=True)
class Departures:
    """All that makes participants of a run stop before they are done: its configuration, and who is available."""

    config: Config
    availability: Availability

    def of_round(
        self,
        simulate: Callable[[FloatArray | None], Timeline],
        round_index: int,
        start_s: float,
        participants: NDArray[np.int64],
        sends: bool = True,
    ) -> tuple[Timeline, Arrivals]:
        """The round of ``participants`` (n,) that ``simulate`` gives, with all that ends it early; see ``ended_round``.

        ``sends``: whether anything is sent to the server in it; if not, there are no first arrivals to wait for.
        """
        return ended_round(
            simulate,
            self.rule(sends),
            self.availability.leaves_s(round_index, start_s, participants) - start_s,
            self.dropouts(round_index, participants),
        )

    def rule(self, sends: bool = True) -> EndRule:
        """What ends a round; ``sends`` as in ``of_round``."""
        federation = self.config.federation
        wanted = self.config.clients.per_round if federation.over_selection and sends else 0
        return EndRule(federation.deadline_s, wanted)

    def dropouts(self, round_index: int, participants: NDArray[np.int64]) -> FloatArray:
        """At which fraction of its round each of ``participants`` (n,) vanishes; see ``drawn_dropouts``."""
        probability = self.config.emulation.availability.dropout_probability
        return drawn_dropouts(self.config.experiment.seed, round_index, participants, probability)


def may_stop_early(config: Config) -> bool:
    """Whether a participant of a run may stop before it has trained."""
    federation, availability = config.federation, config.emulation.availability
    return bool(
        federation.deadline_s < inf
        or federation.over_selection
        or availability.dropout_probability
        or availability.model not in ("always", "probability")
    )


def _chosen(which: BoolArray, one: Timeline, other: Timeline) -> Timeline:
    """Participants of ``one`` where ``which``, else those of ``other``."""
    names = (
        "download_s",
        "compute_s",
        "upload_s",
        "bytes_down",
        "bytes_up",
        "downloaded",
        "trained",
        "arrived",
    )
    chosen: dict[str, Any] = {
        name: np.where(which, getattr(one, name), getattr(other, name)) for name in names
    }
    return replace(one, **chosen)


def drawn_dropouts(
    seed: int, round_index: int, participants: NDArray[np.int64], probability: float
) -> FloatArray:
    """At which fraction of its round each participant vanishes, float64 (n,), uniform in [0, 1); inf: it does not.

    By stream VANISHING, of a round and a client.
    """
    fractions = np.full(len(participants), inf)
    if probability:
        for position, client in enumerate(participants.tolist()):
            vanishes, fraction = generator(seed, Purpose.VANISHING, round_index, client).random(2)
            if vanishes < probability:
                fractions[position] = fraction
    return fractions
