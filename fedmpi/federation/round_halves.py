"""The two halves of a round: what the server does in it, and what the other ranks do instead.

The loop of rounds (``round_loop``) is the same on every rank; it broadcasts what the server's half gives.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock
from fedmpi.federation.exchange import Exchanged, Roster
from fedmpi.federation.global_evaluation import Measured
from fedmpi.federation.importance_pairs import ImportanceSum
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import VERDICT, RoundPlan
from fedmpi.federation.pruning import FinishedRound
from fedmpi.federation.round_cost import FloatArray, IntArray
from fedmpi.federation.server import Server
from fedmpi.federation.verdict import Closed, Judged
from fedmpi.pruning import Change, Mask, Needs
from fedmpi.pruning.mask import LayerSlice


@dataclass(frozen=True)
class RoundReport:
    """A finished round with what only the host knows of it.

    ``rank_of``, ``overrun_s`` and ``unready_s`` are (participants,): who trained each client; the most host seconds
    by which one of its messages (the model, its update, its losses) was released after the moment of its arrival; and
    by which its training ended after the moment of its update. ``released_s`` (participants,): the emulated
    moment at which its update was released. ``start_overrun_s``: by how many the round started late. All are NaN where
    the clock is virtual. ``client_tests``: CLIENT_TEST rows, None where clients' own tests were not evaluated. ``mask``
    is that of the round, in force since round ``mask_since``; ``change`` made the next one; for
    ``importance_left_out`` clients importance was not finite.
    """

    closed: Closed
    test_loss: float
    test_accuracy: float
    client_tests: NDArray[np.void] | None
    rank_of: IntArray
    overrun_s: FloatArray
    released_s: FloatArray
    unready_s: FloatArray
    start_overrun_s: float
    host_s: float
    carried_bytes: int
    mask: Mask
    mask_since: int
    change: Change | None
    importance_left_out: int


def layer_norms(update: NDArray[np.float32], layers: Sequence[LayerSlice]) -> tuple[float, ...]:
    """The L2 norm of every layer's part of an ``update`` (D,), summed in float64."""
    squares = np.square(update, dtype=np.float64)
    return tuple(float(np.sqrt(squares[layer.start : layer.stop].sum())) for layer in layers)


@dataclass(frozen=True)
class RoundEnd:
    """What all ranks have done in a round, as one of them has it; the server's has everything.

    ``before`` (D,): the parameters before it, where ``Half.keeps_weights``.
    """

    plan: RoundPlan
    roster: Roster
    exchanged: Exchanged
    measured: Measured | None
    importance: ImportanceSum | None
    before: NDArray[np.float32] | None
    achieved: NDArray[np.void]
    test_loss: float
    test_accuracy: float
    client_tests: NDArray[np.void] | None


class Half(Protocol):
    """What differs between the server and the other ranks. The loop broadcasts what the server's half gives."""

    def plan(self, clock: Clock, signalled: bool) -> RoundPlan | None:
        """The next round; None: that of the server."""

    def keeps_weights(self, plan: RoundPlan) -> bool:
        """Whether the weights before the round are needed after it."""

    def judge(self, plan: RoundPlan, records: NDArray[np.void] | None) -> tuple[NDArray[np.void], float]:
        """VERDICT records by the RECORDs of all participants, and the largest magnitude of accepted updates."""

    def mask_to_try(self, weights: NDArray[np.float32]) -> Mask | None:
        """The smaller mask under which losses are wanted, by the weights (D,) after the round; None: the server's."""

    def losses_due_s(self, plan: RoundPlan, exchanged: Exchanged, tried: Mask | None) -> FloatArray | None:
        """The moments at which losses have arrived; None: those of the server."""

    def close(self, end: RoundEnd) -> Mask | None:
        """End the round; the mask of the next one. None: that of the server."""

    def report(self, end: RoundEnd, mask: Mask, since: int, carried_bytes: int) -> RoundReport | None:
        """What there is to record of the round, which had ``mask`` in force since round ``since``; None: nothing."""


class WorkerHalf:
    """A rank without the server: it decides nothing, and takes what the server broadcasts."""

    def plan(self, clock: Clock, signalled: bool) -> None:
        return None

    def keeps_weights(self, plan: RoundPlan) -> bool:
        return Needs.LOSSES in plan.needs

    def judge(self, plan: RoundPlan, records: NDArray[np.void] | None) -> tuple[NDArray[np.void], float]:
        return np.zeros(len(plan.participants), dtype=VERDICT), 0.0

    def mask_to_try(self, weights: NDArray[np.float32]) -> None:
        return None

    def losses_due_s(self, plan: RoundPlan, exchanged: Exchanged, tried: Mask | None) -> None:
        return None

    def close(self, end: RoundEnd) -> None:
        return None

    def report(self, end: RoundEnd, mask: Mask, since: int, carried_bytes: int) -> None:
        return None


class ServerHalf:
    """The server's part of every round. ``time_scale``: host seconds of an emulated one."""

    def __init__(self, server: Server, masked: MaskedModel, time_scale: float) -> None:
        self.server = server
        self._masked = masked
        self._time_scale = time_scale
        self._began_s = self._round_began_s = time.perf_counter()
        self._start_overrun_s = nan
        self._judged: Judged
        self._closed: Closed
        self._change: Change | None = None

    def plan(self, clock: Clock, signalled: bool) -> RoundPlan:
        self._round_began_s = time.perf_counter()
        self.server.stopping.preempt_if(signalled)
        plan = self.server.plan()
        self._start_overrun_s = clock.hold_until(plan.start_s)
        return plan

    def keeps_weights(self, plan: RoundPlan) -> bool:
        return bool(plan.needs) or self.server.controller.measures_update

    def judge(self, plan: RoundPlan, records: NDArray[np.void] | None) -> tuple[NDArray[np.void], float]:
        assert records is not None
        self._judged = self.server.judge(plan, records)
        return self._judged.verdict, self._judged.max_abs

    def mask_to_try(self, weights: NDArray[np.float32]) -> Mask:
        return self.server.pruning.mask_to_try(weights)

    def losses_due_s(self, plan: RoundPlan, exchanged: Exchanged, tried: Mask | None) -> FloatArray:
        return self.server.prices.losses_due_s(plan, self._judged, exchanged, tried)

    def close(self, end: RoundEnd) -> Mask:
        plan, judged = end.plan, self._judged
        norms = None
        if self.server.controller.measures_update and end.before is not None and end.roster.accepted.any():
            norms = layer_norms(end.before - self._masked.parameters, self.server.pruning.setup.layers)
        self._closed = self.server.close(plan, judged, end.roster, end.exchanged, end.measured, norms)
        self._change = self.server.change_mask(
            FinishedRound(
                plan=plan,
                samples=judged.records["samples"],
                compute_s=judged.work.compute_s,
                k_down=self._closed.k_down,
                weights=self._masked.parameters,
                before=end.before,
                importance=end.importance,
                losses=self._closed.losses,
                work=judged.work,
                accepted=judged.accepted,
                uploads=end.exchanged.uploads,
                upload_rate=end.exchanged.upload_rate,
                votes=end.exchanged.votes,
            ),
            judged,
            end.exchanged,
        )
        return self._masked.mask if self._change is None else self._change.mask

    def report(self, end: RoundEnd, mask: Mask, since: int, carried_bytes: int) -> RoundReport:
        if self._change is not None and self._change.is_new:
            self.server.pruning.announce()
        now_s = time.perf_counter()
        self.server.stop_if_reached(end.test_accuracy, now_s - self._began_s)
        roster, judged = end.roster, self._judged
        rank_of = np.empty(len(roster.clients), dtype=np.int64)
        for rank, clients in enumerate(roster.dealt):
            rank_of[np.searchsorted(roster.clients, clients)] = rank
        unready_s = np.maximum(judged.records["ready_s"] - judged.charges.arrival_s, 0.0)
        unready_s[~judged.staying] = 0.0  # who stops early may have trained longer than that here
        # A round that starts late here has its models in time where they are on the way for longer than that.
        on_the_way_s = self._closed.charges.download_s * self._time_scale
        model_late_s = np.maximum(self._start_overrun_s - on_the_way_s, 0.0)
        return RoundReport(
            closed=self._closed,
            test_loss=end.test_loss,
            test_accuracy=end.test_accuracy,
            rank_of=rank_of,
            client_tests=end.client_tests,
            overrun_s=np.fmax(end.achieved["late_s"], model_late_s),
            released_s=end.achieved["released_s"],
            unready_s=unready_s * self._time_scale,
            start_overrun_s=self._start_overrun_s,
            host_s=now_s - self._round_began_s,
            carried_bytes=carried_bytes,
            mask=mask,
            mask_since=since,
            change=self._change,
            importance_left_out=0 if end.importance is None else end.importance.left_out,
        )
