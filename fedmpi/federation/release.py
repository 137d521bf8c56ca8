"""Releasing a round's messages at their emulated moments, and by how much each moment was missed.

What ranks say to each other about moments is no part of the emulated round: it travels under a running clock alone,
and is not counted among the bytes that a round carried, so that both clocks count the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock
from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Ranks


class Releases:
    """The releases of one round on one rank.

    ``late_s`` (n,): the most host seconds by which a message of each client that this rank trained was released after
    its moment; NaN before the first, and under a clock that does not run.
    """

    def __init__(self, ranks: Ranks, clock: Clock, roster: Roster) -> None:
        self._ranks = ranks
        self._clock = clock
        self._roster = roster
        self._mine = np.searchsorted(roster.clients, roster.dealt[ranks.rank])
        self.late_s = np.full(len(self._mine), np.nan)

    def hold(self, due_s: NDArray[np.float64]) -> None:
        """Hold each message of this rank until its own moment; ``due_s`` (participants,) are those of all."""
        if not self._clock.runs:
            return
        due_s = due_s[self._mine]
        for position in np.argsort(due_s, kind="stable").tolist():
            late_s = self._clock.hold_until(float(due_s[position]))
            self.late_s[position] = np.fmax(self.late_s[position], late_s)

    def hold_until_servers(self, due_s: NDArray[np.float64] | None) -> None:
        """The same with moments (participants,) that the server alone knows (None on other ranks); collective."""
        if not self._clock.runs:
            return
        shared = np.zeros(len(self._roster.clients)) if due_s is None else due_s
        with self._uncounted():
            self._ranks.broadcast(shared)
        self.hold(shared)

    def gather(self) -> NDArray[np.float64]:
        """``late_s`` of all participants in client order, on the server; NaN elsewhere; collective."""
        every = np.full(len(self._roster.clients), np.nan)
        if not self._clock.runs:
            return every
        with self._uncounted():
            gathered = self._ranks.gather_rows(self.late_s, [len(clients) for clients in self._roster.dealt])
        if gathered is not None:
            every[np.searchsorted(self._roster.clients, np.concatenate(self._roster.dealt))] = gathered
        return every

    @contextmanager
    def _uncounted(self) -> Iterator[None]:
        carried_bytes = self._ranks.carried_bytes
        yield
        self._ranks.carried_bytes = carried_bytes
