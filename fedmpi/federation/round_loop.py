"""The loop of rounds, run by every rank together: what each collective carries stands here in order.

What only the server does in it is in ``ServerHalf``, what the other ranks do instead in ``WorkerHalf``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from math import nan
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock, VirtualClock
from fedmpi.federation.client import ClientHost
from fedmpi.federation.client_importance import ImportanceSum
from fedmpi.federation.evaluation import Evaluator, LossColumn, Measured, sample_losses
from fedmpi.federation.exchange import Exchange, Exchanged, Roster
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import RECORD, VERDICT, Action, RoundPlan, decode, encode, header_dtype
from fedmpi.federation.pruning import FinishedRound
from fedmpi.federation.release import Releases
from fedmpi.federation.round_cost import FloatArray, IntArray
from fedmpi.federation.server import Closed, Judged, Server
from fedmpi.mpi.agreement import any_rank
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning import Change, Mask, Needs
from fedmpi.trace import Status


@dataclass(frozen=True)
class RoundReport:
    """A finished round with what only the host knows of it.

    ``rank_of``, ``overrun_s`` and ``unready_s`` are (participants,): who trained each client; the most host seconds
    by which one of its messages (the model at the round's start, its update, its losses) was released after its
    moment; and by which its training ended after the moment of its update. ``start_overrun_s``: by how many the round
    started late. All are NaN where the clock is virtual. ``mask`` is that of the round, in force since round
    ``mask_since``; ``change`` made the next one; for ``importance_left_out`` clients importance was not finite.
    """

    closed: Closed
    test_loss: float
    test_accuracy: float
    rank_of: IntArray
    overrun_s: FloatArray
    unready_s: FloatArray
    start_overrun_s: float
    host_s: float
    carried_bytes: int
    mask: Mask
    mask_since: int
    change: Change | None
    importance_left_out: int


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
    late_s: FloatArray
    test_loss: float
    test_accuracy: float


class Half(Protocol):
    """What differs between the server and the other ranks. The loop broadcasts what the server's half gives."""

    def plan(self, clock: Clock, signalled: bool) -> RoundPlan | None:
        """The next round; None: that of the server."""

    def keeps_weights(self, plan: RoundPlan) -> bool:
        """Whether the weights before the round are needed after it."""

    def judge(self, plan: RoundPlan, records: np.ndarray | None) -> tuple[np.ndarray, float]:
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

    def judge(self, plan: RoundPlan, records: np.ndarray | None) -> tuple[np.ndarray, float]:
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
        self.server.preempt_if(signalled)
        plan = self.server.plan()
        self._start_overrun_s = clock.hold_until(plan.start_s)
        return plan

    def keeps_weights(self, plan: RoundPlan) -> bool:
        return bool(plan.needs)

    def judge(self, plan: RoundPlan, records: np.ndarray | None) -> tuple[np.ndarray, float]:
        assert records is not None
        self._judged = self.server.judge(plan, records)
        return self._judged.verdict, self._judged.max_abs

    def mask_to_try(self, weights: NDArray[np.float32]) -> Mask:
        return self.server.pruning.mask_to_try(weights)

    def losses_due_s(self, plan: RoundPlan, exchanged: Exchanged, tried: Mask | None) -> FloatArray:
        return self.server.losses_due_s(plan, self._judged, exchanged, tried)

    def close(self, end: RoundEnd) -> Mask:
        plan, judged = end.plan, self._judged
        self._closed = self.server.close(plan, judged, end.roster, end.exchanged, end.measured)
        self._change = self.server.pruning.step(
            FinishedRound(
                plan=plan,
                samples=judged.records["samples"],
                compute_s=judged.work.compute_s,
                k_down=self._closed.k_down,
                weights=self._masked.parameters,
                before=end.before,
                importance=None if end.importance is None else end.importance.values,
                losses=self._closed.losses,
            )
        )
        return self._masked.mask if self._change is None else self._change.mask

    def report(self, end: RoundEnd, mask: Mask, since: int, carried_bytes: int) -> RoundReport:
        if end.plan.needs:
            self.server.pruning.announce()
        now_s = time.perf_counter()
        self.server.stop_if_reached(end.test_accuracy, now_s - self._began_s)
        roster, judged = end.roster, self._judged
        rank_of = np.empty(len(roster.clients), dtype=np.int64)
        for rank, clients in enumerate(roster.dealt):
            rank_of[np.searchsorted(roster.clients, clients)] = rank
        unready_s = np.maximum(judged.records["ready_s"] - judged.charges.arrival_s, 0.0)
        unready_s[~judged.staying] = 0.0  # who stops early may have trained longer than that here
        return RoundReport(
            closed=self._closed,
            test_loss=end.test_loss,
            test_accuracy=end.test_accuracy,
            rank_of=rank_of,
            overrun_s=np.fmax(end.late_s, self._start_overrun_s),
            unready_s=unready_s * self._time_scale,
            start_overrun_s=self._start_overrun_s,
            host_s=now_s - self._round_began_s,
            carried_bytes=carried_bytes,
            mask=mask,
            mask_since=since,
            change=self._change,
            importance_left_out=0 if end.importance is None else end.importance.left_out,
        )


class RoundLoop:
    """Runs rounds on every rank until the server says stop."""

    def __init__(
        self,
        ranks: Ranks,
        placement: Placement,
        sizes: IntArray,
        host: ClientHost,
        exchange: Exchange,
        evaluator: Evaluator,
        signal: SignalFlag,
        half: Half,
    ) -> None:
        self.ranks = ranks
        self.placement = placement
        self.sizes = sizes
        self.host = host
        self.masked = host.masked
        self.exchange = exchange
        self.evaluator = evaluator
        self.signal = signal
        self.half = half
        self.clock: Clock = VirtualClock()
        self.seen = np.zeros(placement.clients, dtype=bool)
        """Clients that have taken part, and so may carry state, as every rank knows from the plans."""

    @property
    def carrying(self) -> list[int]:
        """The clients at home on this rank that may carry state, rising."""
        return [client for client in self.placement.blocks[self.ranks.rank] if self.seen[client]]

    def run(
        self, clock: Clock, on_round: Callable[[RoundReport], None], on_checkpoint: Callable[[], None]
    ) -> None:
        """Loop until the server stops. ``on_round`` is called on the server, ``on_checkpoint`` on every rank."""
        self.clock = clock
        header = np.zeros(1, dtype=header_dtype(self.placement.clients))
        signalled = any_rank(self.ranks, self.signal.set)
        while True:
            planned = self.half.plan(clock, signalled or self.signal.set)
            if planned is not None:
                encode(planned, header)
            self.ranks.broadcast(header)
            plan = decode(header)
            if Action.CHECKPOINT in plan.action:
                on_checkpoint()
            self.ranks.carried_bytes = header.nbytes  # a round's, without those of a checkpoint before it
            if Action.STOP in plan.action:
                return
            report = self._round(plan)
            if report is not None:
                on_round(report)

    def _round(self, plan: RoundPlan) -> RoundReport | None:
        dealt = self.placement.deal(plan.participants)
        self.seen[plan.participants] = True
        mask, since = self.masked.mask, self.masked.since
        before = self.masked.weights.clone() if self.half.keeps_weights(plan) else None
        records, samples = self._train(plan, dealt[self.ranks.rank])
        gathered = self.ranks.gather_rows(records, [len(clients) for clients in dealt])
        roster, due_s = self._share_verdict(plan, dealt, *self.half.judge(plan, gathered))
        if self.host.importance is not None:
            self.host.importance.take_back(roster.untrained_of(self.ranks.rank))
        releases = Releases(self.ranks, self.clock, roster)
        releases.hold(due_s)
        exchanged = self.exchange.finish(plan, roster)
        measured = None
        if plan.measures_losses and roster.accepted.any():
            losses, tried = self._measure(plan, roster, samples, before)
            releases.hold_until_servers(self.half.losses_due_s(plan, exchanged, tried))
            measured = self._gather_losses(roster, losses, tried)
        late_s = releases.gather()
        importance = None
        if Needs.IMPORTANCE in plan.needs:
            assert self.host.importance is not None
            importance = self.host.importance.gather(roster)
        test_loss = test_accuracy = nan
        if Action.EVALUATE in plan.action:
            test_loss, test_accuracy = self.evaluator.evaluate(self.host)
        end = RoundEnd(
            plan=plan,
            roster=roster,
            exchanged=exchanged,
            measured=measured,
            importance=importance,
            before=None if before is None else before.numpy()[: mask.dimension],
            late_s=late_s,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
        )
        next_mask = self.half.close(end)
        if plan.needs:
            self.masked.change(next_mask, plan.round_index + 1, self.carrying)
        return self.half.report(end, mask, since, self.ranks.carried_bytes)

    def _train(self, plan: RoundPlan, mine: IntArray) -> tuple[np.ndarray, dict[int, int]]:
        """Train this rank's participants: their RECORD rows, and the probe sample of each."""
        self.host.begin_round()
        if self.host.importance is not None:
            self.host.importance.begin(plan.participants)
        self.exchange.begin(plan, mine)
        records = np.zeros(len(mine), dtype=RECORD)
        samples = {}
        for position, client in enumerate(mine.tolist()):
            trained = self.exchange.train(client, plan)
            samples[client] = trained.result.probe_sample
            records[position] = (
                client,
                trained.result.samples,
                trained.entries,
                trained.message_bytes,
                trained.result.loss,
                trained.max_abs,
                trained.compute_host_s,
                self.clock.now_s(),
                self.signal.set,
            )
        return records, samples

    def _share_verdict(
        self, plan: RoundPlan, dealt: list[IntArray], verdict: np.ndarray, max_abs: float
    ) -> tuple[Roster, FloatArray]:
        """Let every rank know whose updates are taken, and when each message is due."""
        largest = np.array([max_abs])
        self.ranks.broadcast(verdict)
        self.ranks.broadcast(largest)
        roster = Roster(
            clients=plan.participants,
            accepted=verdict["status"] == Status.OK,
            sizes=self.sizes[plan.participants],
            message_bytes=verdict["message_bytes"],
            max_abs=float(largest[0]),
            dealt=dealt,
            trained=verdict["trained"],
        )
        return roster, verdict["deadline_s"]

    def _measure(
        self, plan: RoundPlan, roster: Roster, samples: dict[int, int], before: torch.Tensor | None
    ) -> tuple[np.ndarray, Mask | None]:
        """The LOSSES of this rank's accepted clients after an exchange, and the smaller mask if one was tried."""
        tried: list[tuple[LossColumn, torch.Tensor]] = [("current", self.masked.weights)]
        smaller = None
        if Needs.LOSSES in plan.needs:
            assert before is not None
            mask = self.masked.shared(self.half.mask_to_try(self.masked.parameters))
            if not mask.is_full:
                smaller, pruned = mask, self.masked.weights.clone()
                mask.apply(pruned.numpy()[: mask.dimension])
                tried.append(("pruned", pruned))
            if Action.MEASURE not in plan.action:
                tried.append(("previous", before))
        of_exchange: Iterator[tuple[LossColumn, torch.Tensor]] = iter(())
        if Action.MEASURE in plan.action:
            of_exchange = self.exchange.weights_tried()
        mine = roster.accepted_of(self.ranks.rank).tolist()
        return sample_losses(self.host, mine, samples, chain(tried, of_exchange)), smaller

    def _gather_losses(self, roster: Roster, losses: np.ndarray, tried: Mask | None) -> Measured | None:
        """The server's losses of all; None on other ranks."""
        counts = [len(roster.accepted_of(rank)) for rank in range(self.ranks.size)]
        records = self.ranks.gather_rows(losses, counts)
        return None if records is None else Measured(records, tried)
