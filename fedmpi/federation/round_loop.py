"""The loop of rounds, run by every rank together: what each collective carries stands here in order.

What only the server does in it, and what the other ranks do instead, is in their halves (``round_halves``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from itertools import chain
from math import nan

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.emulation.clock import Clock, VirtualClock
from fedmpi.federation.client import ClientHost
from fedmpi.federation.client_tests import ClientTests
from fedmpi.federation.exchange import Exchange, Roster
from fedmpi.federation.global_evaluation import Evaluator, LossColumn, Measured, sample_losses
from fedmpi.federation.messages import RECORD, Action, RoundPlan, decode, encode, header_dtype
from fedmpi.federation.release import Releases
from fedmpi.federation.round_cost import FloatArray, IntArray
from fedmpi.federation.round_halves import Half, RoundEnd, RoundReport
from fedmpi.mpi.agreement import any_rank
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning import Mask, Needs
from fedmpi.trace import Status


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
        client_tests: ClientTests | None,
        signal: SignalFlag,
        half: Half,
        layers_with_k: int = 0,
    ) -> None:
        """``layers_with_k``: how many layers have a k of their own in the plans of rounds."""
        self.ranks = ranks
        self.placement = placement
        self.sizes = sizes
        self.host = host
        self.masked = host.masked
        self.exchange = exchange
        self.evaluator = evaluator
        self.client_tests = client_tests
        self.signal = signal
        self.half = half
        self._layers_with_k = layers_with_k
        self.training_host_s = 0.0
        """Host seconds that this rank has spent in training, with what it makes of the results on the way."""
        self.clock: Clock = VirtualClock()
        self.seen = np.zeros(placement.clients, dtype=bool)
        """Clients that have taken part, and so may carry state, as every rank knows from the plans."""

    @property
    def carrying(self) -> list[int]:
        """The clients at home on this rank that may carry state, rising."""
        block = self.placement.blocks[self.ranks.rank]
        carrying: list[int] = (np.flatnonzero(self.seen[block.start : block.stop]) + block.start).tolist()
        return carrying

    def run(
        self, clock: Clock, on_round: Callable[[RoundReport], None], on_checkpoint: Callable[[], None]
    ) -> None:
        """Loop until the server stops. ``on_round`` is called on the server, ``on_checkpoint`` on every rank."""
        self.clock = clock
        header = np.zeros(1, dtype=header_dtype(self.placement.clients, self._layers_with_k))
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
        began_s = time.perf_counter()
        records, samples = self._train(plan, dealt[self.ranks.rank])
        self.training_host_s += time.perf_counter() - began_s
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
        achieved = releases.gather()
        importance = None
        if Needs.IMPORTANCE in plan.needs:
            assert self.host.importance is not None
            importance = self.host.importance.gather(roster)
        test_loss = test_accuracy = nan
        client_tests = None
        if Action.EVALUATE in plan.action:
            test_loss, test_accuracy = self.evaluator.evaluate(self.host)
            if self.client_tests is not None:
                client_tests = self.client_tests.evaluate(self.host)
        end = RoundEnd(
            plan=plan,
            roster=roster,
            exchanged=exchanged,
            measured=measured,
            importance=importance,
            before=None if before is None else before.numpy()[: mask.dimension],
            achieved=achieved,
            test_loss=test_loss,
            test_accuracy=test_accuracy,
            client_tests=client_tests,
        )
        next_mask = self.half.close(end)
        if plan.needs:
            self.masked.change(next_mask, plan.round_index + 1, self.carrying)
        return self.half.report(end, mask, since, self.ranks.carried_bytes)

    def _train(self, plan: RoundPlan, mine: IntArray) -> tuple[NDArray[np.void], dict[int, int]]:
        """Train this rank's participants: their RECORD rows, and the probe sample of each."""
        self.host.begin_round()
        if self.host.importance is not None:
            self.host.importance.begin(plan)
        self.exchange.begin(plan, mine)
        records = np.zeros(len(mine), dtype=RECORD)
        if self.host.trainer is not None and not self._gradients_at_end():
            return records, self._train_many(plan, mine, records)
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

    def _gradients_at_end(self) -> bool:
        """Whether participants of this round make one more backward pass after training, each by itself."""
        importance = self.host.importance
        return importance is not None and importance.at_end and importance.gathers

    def _train_many(self, plan: RoundPlan, mine: IntArray, records: NDArray[np.void]) -> dict[int, int]:
        """Train them in batches: fills in their ``records``, and gives the probe sample of each."""
        samples: dict[int, int] = {}
        for trained in self.exchange.train_many(plan):
            batch = trained.batch
            clients, at = mine[batch.positions], batch.positions
            samples.update(zip(clients.tolist(), batch.probe_samples.tolist(), strict=True))
            records["client"][at] = clients
            records["samples"][at] = batch.samples
            records["entries"][at] = trained.entries
            records["message_bytes"][at] = trained.message_bytes
            records["train_loss"][at] = batch.losses
            records["max_abs"][at] = trained.max_abs
            records["compute_host_s"][at] = batch.host_s
            records["ready_s"][at] = self.clock.now_s()
            records["signalled"][at] = self.signal.set
        return samples

    def _share_verdict(
        self, plan: RoundPlan, dealt: list[IntArray], verdict: NDArray[np.void], max_abs: float
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
    ) -> tuple[NDArray[np.void], Mask | None]:
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

    def _gather_losses(self, roster: Roster, losses: NDArray[np.void], tried: Mask | None) -> Measured | None:
        """The server's losses of all; None on other ranks."""
        counts = [len(roster.accepted_of(rank)) for rank in range(self.ranks.size)]
        records = self.ranks.gather_rows(losses, counts)
        return None if records is None else Measured(records, tried)
