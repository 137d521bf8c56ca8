"""The loop of rounds, run by every rank together: what each collective carries stands here in order."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain

import numpy as np
import torch

from fedmpi.emulation.clock import Clock, VirtualClock
from fedmpi.federation.client import ClientHost
from fedmpi.federation.client_tests import ClientTests
from fedmpi.federation.evaluation import Evaluator
from fedmpi.federation.exchange import Exchange, Roster
from fedmpi.federation.plan import Action, RoundPlan, decode, encode, header_dtype
from fedmpi.federation.pruning import Pruning
from fedmpi.federation.records import RECORD, VERDICT
from fedmpi.federation.release import Releases
from fedmpi.federation.sample_losses import Measured, sample_losses
from fedmpi.federation.server import Closed, Judged, Server
from fedmpi.mpi.agreement import any_rank
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning.interface import Change
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class RoundReport:
    """A finished round with what only the host knows of it.

    ``rank_of``, ``overrun_s`` and ``unready_s`` are (participants,): who trained each client; the most host seconds
    by which one of its messages (the model at the round's start, its update, its losses) was released after its
    moment; and by which its training ended after the moment of its update. ``released_s`` (participants,): the emulated
    moment at which its update was released. ``start_overrun_s``: by how many the round started late. All are NaN where
    the clock is virtual. ``client_tests``: CLIENT_TEST rows, None where clients' own tests were not evaluated. ``mask``
    is that of the round, in force since round ``mask_since``; ``change`` tells of the next one, ``importance_left_out``
    of how many clients it was not finite.
    """

    closed: Closed
    test_loss: float
    test_accuracy: float
    client_tests: np.ndarray | None
    rank_of: np.ndarray
    overrun_s: np.ndarray
    released_s: np.ndarray
    unready_s: np.ndarray
    start_overrun_s: float
    host_s: float
    carried_bytes: int
    mask: Mask
    mask_since: int
    change: Change | None
    importance_left_out: int


class RoundLoop:
    """Runs rounds on every rank until the server says stop. ``server`` is None on the other ranks."""

    def __init__(
        self,
        ranks: Ranks,
        placement: Placement,
        sizes: np.ndarray,
        host: ClientHost,
        exchange: Exchange,
        pruning: Pruning,
        evaluator: Evaluator,
        client_tests: ClientTests | None,
        time_scale: float,
        signal: SignalFlag,
        server: Server | None,
    ) -> None:
        self.ranks = ranks
        self.placement = placement
        self.sizes = sizes
        self.host = host
        self.exchange = exchange
        self.pruning = pruning
        self.evaluator = evaluator
        self.client_tests = client_tests
        self.clock: Clock = VirtualClock()
        self.time_scale = time_scale
        self.server = server
        self.signal = signal
        self._began_s = time.perf_counter()
        self._start_overrun_s = float("nan")
        self.seen = np.zeros(placement.clients, dtype=bool)
        """Clients that have taken part, and so may carry state, as every rank knows from the plans."""

    def run(
        self, clock: Clock, on_round: Callable[[RoundReport], None], on_checkpoint: Callable[[], None]
    ) -> None:
        """Loop until the server stops. ``on_round`` is called on the server, ``on_checkpoint`` on every rank."""
        self.clock = clock
        header = np.zeros(1, dtype=header_dtype(self.placement.clients))
        stop_before_round = any_rank(self.ranks, self.signal.set)
        if self.server is not None:
            self.server.preempted = self.server.preempted or stop_before_round
        while True:
            begin = time.perf_counter()
            if self.server is not None:
                self.server.preempted = self.server.preempted or self.signal.set
                plan = self.server.plan()
                self._start_overrun_s = self.clock.hold_until(plan.start_s)
                encode(plan, header)
            self.ranks.broadcast(header)
            plan = decode(header)
            if Action.CHECKPOINT in plan.action:
                on_checkpoint()
            self.ranks.carried_bytes = (
                header.nbytes
            )  # a round's bytes, without those of a checkpoint before it
            if Action.STOP in plan.action:
                return
            report = self._round(plan, begin)
            if report is not None:
                on_round(report)

    def _round(self, plan: RoundPlan, begin: float) -> RoundReport | None:
        dealt = self.placement.deal(plan.participants)
        self.seen[plan.participants] = True
        mask, mask_since = self.pruning.mask, self.pruning.mask_since
        prunes = Action.PRUNE in plan.action
        before = None
        if Action.TRY_MASK in plan.action or (prunes and self.server is not None):
            before = self.host.weights.clone()
        records, samples = self._train(plan, dealt[self.ranks.rank])
        gathered = self.ranks.gather_rows(records, [len(clients) for clients in dealt])
        judged = None
        if self.server is not None and gathered is not None:
            judged = self.server.judge(plan, gathered)
        roster, deadline_s = self._verdict(plan, dealt, judged)
        releases = Releases(self.ranks, self.clock, roster)
        releases.hold(deadline_s)
        exchanged = self.exchange.finish(plan, roster)
        measured = None
        if plan.action & (Action.MEASURE | Action.TRY_MASK) and roster.accepted.any():
            losses, tried = self._try(plan, roster, samples, before)
            due_s = None
            if self.server is not None and judged is not None:
                due_s = self.server.losses_due_s(plan, judged, exchanged, tried)
            releases.hold_until_servers(due_s)
            measured = self._gather_losses(roster, losses, tried)
        achieved = releases.gather()
        importance = self.pruning.gather_importance(roster) if Action.IMPORTANCE in plan.action else None
        test_loss = test_accuracy = float("nan")
        client_tests = None
        if Action.EVALUATE in plan.action:
            test_loss, test_accuracy = self.evaluator.evaluate(self.host)
            if self.client_tests is not None:
                client_tests = self.client_tests.evaluate(self.host)
        if self.server is None or judged is None:
            if prunes:
                self._take_mask(plan, None)
            return None
        closed = self.server.close(plan, judged, roster, exchanged, measured)
        change = self.server.pruning.step(
            plan,
            judged.records["samples"],
            judged.work.compute_s,
            closed.k_down,
            self._parameters(self.host.weights),
            None if before is None else self._parameters(before),
            None if importance is None else importance.values,
            closed.losses,
        )
        if prunes:
            self._take_mask(plan, mask if change is None else change.mask)
        self.server.stop_if_reached(test_accuracy, time.perf_counter() - self._began_s)
        rank_of = np.empty(len(plan.participants), dtype=np.int64)
        for rank, clients in enumerate(dealt):
            rank_of[np.searchsorted(plan.participants, clients)] = rank
        return RoundReport(
            closed=closed,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            client_tests=client_tests,
            rank_of=rank_of,
            overrun_s=np.fmax(achieved["late_s"], self._start_overrun_s),
            released_s=achieved["released_s"],
            unready_s=np.maximum(judged.records["ready_s"] - judged.charges.arrival_s, 0.0) * self.time_scale,
            start_overrun_s=self._start_overrun_s,
            host_s=time.perf_counter() - begin,
            carried_bytes=self.ranks.carried_bytes,
            mask=mask,
            mask_since=mask_since,
            change=change,
            importance_left_out=0 if importance is None else importance.left_out,
        )

    def _parameters(self, vector: torch.Tensor) -> np.ndarray:
        """The parameters (D,) of a vector (D + B,) on the CPU; a view."""
        return vector.numpy()[: self.pruning.mask.dimension]

    def _try(
        self, plan: RoundPlan, roster: Roster, samples: dict[int, int], before: torch.Tensor | None
    ) -> tuple[np.ndarray, Mask | None]:
        """The LOSSES of this rank's accepted clients after an exchange, and the smaller mask if one was tried."""
        tried = [("current", self.host.weights)]
        smaller = None
        if Action.TRY_MASK in plan.action:
            assert before is not None
            server, pruned = self.server, self.host.weights.clone()
            mask = self.pruning.share(
                None if server is None else server.pruning.mask_to_try(self._parameters(pruned))
            )
            if not mask.is_full:
                smaller = mask
                mask.apply(self._parameters(pruned))
                tried.append(("pruned", pruned))
            if Action.MEASURE not in plan.action:
                tried.append(("previous", before))
        of_exchange = self.exchange.weights_tried() if Action.MEASURE in plan.action else ()
        mine = roster.accepted_of(self.ranks.rank).tolist()
        return sample_losses(self.host, mine, samples, chain(tried, of_exchange)), smaller

    def _gather_losses(self, roster: Roster, losses: np.ndarray, tried: Mask | None) -> Measured | None:
        """What the server learns of losses; None on other ranks."""
        counts = [len(roster.accepted_of(rank)) for rank in range(self.ranks.size)]
        records = self.ranks.gather_rows(losses, counts)
        return None if records is None else Measured(records, tried)

    def _take_mask(self, plan: RoundPlan, mask: Mask | None) -> None:
        """Go on under the server's mask (None on other ranks)."""
        mine = [client for client in self.placement.blocks[self.ranks.rank] if self.seen[client]]
        self.pruning.change(mask, plan.round_index + 1, mine)
        if self.server is not None:
            self.server.pruning.take_mask(self.pruning.mask)

    def _train(self, plan: RoundPlan, mine: np.ndarray) -> tuple[np.ndarray, dict[int, int]]:
        """Train this rank's participants: their RECORD rows, and the probe sample of each."""
        self.host.begin_round()
        self.pruning.begin(plan.participants)
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

    def _verdict(
        self, plan: RoundPlan, dealt: list[np.ndarray], judged: Judged | None
    ) -> tuple[Roster, np.ndarray]:
        """Tell every rank whose updates are taken, and when each message is due."""
        verdict = np.zeros(len(plan.participants), dtype=VERDICT)
        largest = np.zeros(1)
        if judged is not None:
            verdict[:] = judged.verdict
            largest[0] = judged.max_abs
        self.ranks.broadcast(verdict)
        self.ranks.broadcast(largest)
        roster = Roster(
            clients=plan.participants,
            accepted=verdict["accepted"] == 1,
            sizes=self.sizes[plan.participants],
            message_bytes=verdict["message_bytes"],
            max_abs=float(largest[0]),
            dealt=dealt,
        )
        return roster, verdict["deadline_s"]
