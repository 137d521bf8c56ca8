"""Releasing a round's messages at their emulated moments, and by how much each moment was missed.

What ranks say to each other about moments is no part of the emulated round: it travels under a running clock alone,
and is not counted among the bytes that a round carried, so that both clocks count the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock
from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Ranks

RELEASE = np.dtype([("late_s", np.float64), ("released_s", np.float64)])
"""What was achieved for one participant. ``late_s``: the most host seconds by which one of its messages was released
after its moment; ``released_s``: the emulated moment at which the first of them, its update, was released."""


def _nothing_released(participants: int) -> NDArray[Any]:
    rows = np.empty(participants, dtype=RELEASE)
    rows["late_s"] = rows["released_s"] = np.nan
    return rows


class Releases:
    """The releases of one round on one rank.

    ``achieved`` (n,) RELEASE: those of each client that this rank trained; NaN before the first, and under a clock that
    does not run.
    """

    def __init__(self, ranks: Ranks, clock: Clock, roster: Roster) -> None:
        self._ranks = ranks
        self._clock = clock
        self._roster = roster
        self._mine = np.searchsorted(roster.clients, roster.dealt[ranks.rank])
        self.achieved = _nothing_released(len(self._mine))

    def hold(self, due_s: NDArray[np.float64]) -> None:
        """Hold each message of this rank until its own moment; ``due_s`` (participants,) are those of all."""
        if not self._clock.runs:
            return
        due_s = due_s[self._mine]
        for position in np.argsort(due_s, kind="stable").tolist():
            late_s = self._clock.hold_until(float(due_s[position]))
            now_s = self._clock.now_s()  # before anything else takes its time
            row = self.achieved[position]
            if np.isnan(row["released_s"]):
                row["released_s"] = now_s
            row["late_s"] = np.fmax(row["late_s"], late_s)

    def hold_until_servers(self, due_s: NDArray[np.float64] | None) -> None:
        """The same with moments (participants,) that the server alone knows (None on other ranks); collective."""
        if not self._clock.runs:
            return
        shared = np.zeros(len(self._roster.clients)) if due_s is None else due_s
        with self._uncounted():
            self._ranks.broadcast(shared)
        self.hold(shared)

    def gather(self) -> NDArray[Any]:
        """``achieved`` of all participants in client order, on the server; NaN elsewhere; collective."""
        every = _nothing_released(len(self._roster.clients))
        if not self._clock.runs:
            return every
        with self._uncounted():
            gathered = self._ranks.gather_rows(
                self.achieved, [len(clients) for clients in self._roster.dealt]
            )
        if gathered is not None:
            every[np.searchsorted(self._roster.clients, np.concatenate(self._roster.dealt))] = gathered
        return every

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        carried_bytes = self._ranks.carried_bytes
        yield
        self._ranks.carried_bytes = carried_bytes
