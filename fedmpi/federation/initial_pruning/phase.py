"""Initial pruning before the first round, on every rank: the server trains, the others wait for mask and weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock
from fedmpi.federation.initial_pruning.local_rounds import InitialServer, is_unfinished
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.mpi.agreement import any_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.stop_signals import SignalFlag


class _Next(IntEnum):
    """What the server says between two local rounds."""

    LOCAL_ROUND = 0
    FINISHED = 1
    INTERRUPTED = 2


class InitialPhase:
    """Runs initial pruning once in a run. ``server`` is None on the other ranks, which wait without working.

    ``pending``: it has not finished yet, neither here nor before the checkpoint that the run goes on from.
    """

    def __init__(
        self, ranks: Ranks, masked: MaskedModel, signal: SignalFlag, server: InitialServer | None
    ) -> None:
        self.ranks = ranks
        self.masked = masked
        self.signal = signal
        self.server = server
        self.pending = True

    def run(
        self,
        clock: Clock,
        on_local_round: Callable[[InitialServer], None],
        expected: Mapping[type[Exception], int],
    ) -> InitialServer | None:
        """Train and prune until the mask is stable, or until the run is to stop: then ``pending`` stays True.

        Collective. ``on_local_round`` is called on the server alone; once finished, the server gets the account of
        all local rounds. Exceptions of the ``expected`` types become Refused on every rank.
        """
        server = self.server
        if server is not None:
            server.begin()
        began_s = time.perf_counter()

        def local_round() -> None:
            assert server is not None
            server.local_round(clock)
            on_local_round(server)
            server.base.stop_if_reached(float("nan"), time.perf_counter() - began_s)

        while (following := self._next()) is _Next.LOCAL_ROUND:
            on_server(self.ranks, local_round, expected)
        if following is _Next.INTERRUPTED:
            if server is not None:
                server.interrupt()
            return None
        if server is not None:
            server.publish()
        self.ranks.carried_bytes = 0
        self.ranks.broadcast(self.masked.weights.numpy())
        self.masked.change(None if server is None else server.schedule.mask, 0, [])
        if server is not None:
            server.finish()
        self.pending, self.server = False, None
        return server

    def _next(self) -> _Next:
        """Agree on what comes next; a signal to any rank counts."""
        signalled = any_rank(self.ranks, self.signal.set)
        following = np.zeros(1, np.int8)
        if self.server is not None:
            stopping = self.server.base.stopping
            stopping.preempt_if(signalled)
            if self.server.schedule.finished:
                following[0] = _Next.FINISHED
            elif stopping.preempted or stopping.reason:
                following[0] = _Next.INTERRUPTED
        self.ranks.broadcast(following)
        return _Next(int(following[0]))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a checkpoint keeps of it (server): nothing once it has finished."""
        return ({}, {}) if self.server is None else self.server.state()

    def restore(self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Continue from what ``state`` gave, on every rank."""
        self.pending = is_unfinished(numbers)
        if not self.pending:
            self.server = None
        elif self.server is not None:
            self.server.restore(arrays, numbers)
