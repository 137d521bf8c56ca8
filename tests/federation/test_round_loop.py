"""The loop of rounds on one rank: what happens in which order, what is measured, and what is reported."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from fedmpi.emulation.clock import VirtualClock
from fedmpi.federation.client_importance import ImportanceSum
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedBatch, TrainedMany
from fedmpi.federation.messages import RECORD, VERDICT, Action, RoundPlan, header_dtype
from fedmpi.federation.round_halves import RoundReport, ServerHalf, WorkerHalf
from fedmpi.federation.round_loop import RoundLoop
from fedmpi.k_control import State as KState
from fedmpi.learning.training import LocalResult
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.stop_signals import SignalFlag
from fedmpi.pruning import Change, Mask, Method, Needs, State

SIZES = np.array([10, 20, 30, 40])
SMALL = Mask.of(np.arange(10) != 9)
ROUND_BYTES = header_dtype(4).itemsize + 4 * RECORD.itemsize + 4 * VERDICT.itemsize + 8
"""Plan, records, verdicts and the largest magnitude of four participants."""


@dataclass
class Exchange:
    """All parameters become 1 smaller in every round; clients in ``broken`` send updates that are not finite."""

    masked: Any
    broken: tuple[int, ...] = ()
    steps: list[Any] = field(default_factory=list)

    def begin(self, plan: RoundPlan, mine: np.ndarray) -> None:
        self.steps.append(("begin", plan.round_index, mine.tolist()))

    def train(self, client: int, plan: RoundPlan) -> Trained:
        result = LocalResult(samples=int(SIZES[client]), loss=1.0 + client, steps=1, probe_sample=client + 1)
        return Trained(result, 0.5, 3, 112, np.inf if client in self.broken else 2.0 + client)

    def train_many(self, plan: RoundPlan) -> Iterator[TrainedMany]:
        """The same of all clients, those at odd positions first."""
        for at in (np.array([1, 3]), np.array([0, 2])):
            alone = [self.train(client, plan) for client in at.tolist()]
            of = [each.result for each in alone]
            batch = TrainedBatch(
                positions=at,
                samples=np.array([each.samples for each in of]),
                losses=np.array([each.loss for each in of]),
                probe_samples=np.array([each.probe_sample for each in of]),
                weights=None,
                directions=None,
                host_s=alone[0].compute_host_s,
            )
            yield TrainedMany(
                batch,
                entries=np.array([each.entries for each in alone]),
                message_bytes=np.array([each.message_bytes for each in alone]),
                max_abs=np.array([each.max_abs for each in alone]),
            )

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        self.steps.append(("finish", roster.accepted_clients.tolist(), roster.max_abs, roster.sizes.tolist()))
        self.masked.weights -= 1.0
        return Exchanged(None, 3, 2, np.full(4, 3), 212, 0)

    def weights_tried(self) -> Iterator[tuple[str, torch.Tensor]]:
        yield "previous", self.masked.weights + 1.0
        yield "probe", self.masked.weights + 0.5


class Host:
    """The loss of a sample is the sum of the weights that were loaded last, and the number of the sample."""

    def __init__(self, masked: Any, importance: Any) -> None:
        self.masked, self.importance, self.trainer = masked, importance, None
        self.loaded = torch.empty(0)

    def begin_round(self) -> None: ...

    def load(self, weights: torch.Tensor) -> None:
        self.loaded = weights.clone()

    def loss_of_sample(self, client: int, sample: int) -> float:
        return float(self.loaded.sum()) + sample


@dataclass
class Importance:
    begun: list[list[int]] = field(default_factory=list)
    taken_back: list[list[int]] = field(default_factory=list)

    def begin(self, plan: RoundPlan) -> None:
        self.begun.append(plan.participants.tolist())

    def take_back(self, clients: np.ndarray) -> None:
        self.taken_back.append(clients.tolist())

    def gather(self, roster: Roster) -> ImportanceSum:
        return ImportanceSum(np.arange(10.0), left_out=2)


@dataclass
class Loop:
    world: Any
    exchange: Exchange
    host: Host
    loop: RoundLoop
    signal: SignalFlag

    def run(self, clock: Any = None, on_checkpoint: Callable[[], None] = lambda: None) -> list[RoundReport]:
        reports: list[RoundReport] = []
        self.loop.run(VirtualClock() if clock is None else clock, reports.append, on_checkpoint)
        return reports


@pytest.fixture
def looping(world: Callable) -> Callable[..., Loop]:
    def build(*overrides: str, broken: tuple[int, ...] = (), importance: Any = None, **given: Any) -> Loop:
        made = world("experiment.rounds=3", *overrides, **given)
        exchange = Exchange(made.masked, broken)
        host: Any = Host(made.masked, importance)
        evaluator: Any = SimpleNamespace(evaluate=lambda host_: (0.5, 0.75))
        placement = Placement(4, (range(4),), ((0,),))
        signal = SignalFlag()
        half = ServerHalf(made.server, made.masked, time_scale=0.5)
        no_exchange: Any = exchange
        loop = RoundLoop(made.ranks, placement, SIZES, host, no_exchange, evaluator, None, signal, half)
        return Loop(made, exchange, host, loop, signal)

    return build


def method_of(needs: Needs, changes_after: int = 1, probe: Any = None) -> Method:
    """One that asks for ``needs`` in every round, and prunes the last parameter after one of them."""

    def step(setup: Any, state: State, observation: Any, draw: Any) -> tuple[State, Change | None]:
        seen.append(observation)
        if observation.round_index != changes_after:
            return state, None
        return State(SMALL), Change(SMALL, {"active": 9})

    seen: list[Any] = []
    method = Method(
        summary="It prunes.",
        init=lambda setup, mask: State(mask),
        needs=lambda setup, state, round_index: needs,
        step=step,
        probe=probe,
    )
    object.__setattr__(method, "seen", seen)
    return method


def test_rounds_run_in_order_until_the_server_stops(looping: Callable) -> None:
    loop = looping("experiment.evaluate_every=2")
    reports = loop.run()
    assert [report.closed.plan.round_index for report in reports] == [0, 1, 2]
    assert loop.exchange.steps[:2] == [
        ("begin", 0, [0, 1, 2, 3]),
        ("finish", [0, 1, 2, 3], 5.0, SIZES.tolist()),
    ]
    assert [report.test_accuracy for report in reports[1:]] == [0.75, 0.75]
    assert [report.test_loss for report in reports[1:]] == [0.5, 0.5]
    assert np.isnan([reports[0].test_loss, reports[0].test_accuracy]).all()
    assert reports[0].rank_of.tolist() == [0] * 4
    assert np.isnan(reports[0].overrun_s).all()
    assert [report.carried_bytes for report in reports] == [ROUND_BYTES] * 3
    assert all(report.host_s >= 0.0 for report in reports)
    assert loop.loop.carrying == [0, 1, 2, 3]


def test_records_hold_what_training_gave(looping: Callable) -> None:
    records = looping(broken=(2,)).run()[0].closed.judged.records
    assert records["client"].tolist() == [0, 1, 2, 3]
    assert records["samples"].tolist() == SIZES.tolist()
    assert records["train_loss"].tolist() == [1.0, 2.0, 3.0, 4.0]
    assert records["entries"].tolist() == [3] * 4
    assert records["message_bytes"].tolist() == [112] * 4
    assert records["max_abs"].tolist() == [2.0, 3.0, np.inf, 5.0]
    assert records["compute_host_s"].tolist() == [0.5] * 4
    assert np.isnan(records["ready_s"]).all()


def test_records_of_batches_are_those_of_clients_alone(looping: Callable) -> None:
    """With what a real-time clock and a signal add to them, and the losses on their samples."""
    records, losses = [], []
    for trainer in (None, "many at once"):
        loop = looping(broken=(2,), measures=True, k_state=KState(3, 2))
        loop.host.trainer, loop.signal.set = trainer, False
        begin = loop.exchange.begin

        def signalled(plan: RoundPlan, mine: np.ndarray, begin: Any = begin, loop: Loop = loop) -> None:
            begin(plan, mine)
            loop.signal.set = True

        loop.exchange.begin = signalled
        (report,) = loop.run(LateClock())
        records.append(report.closed.judged.records)
        losses.append(report.closed.losses)
    assert records[0]["signalled"].all()
    assert records[0]["ready_s"].tolist() == [9.0] * 4
    assert records[0].tolist() == records[1].tolist()
    assert losses[0].current == losses[1].current


def test_the_time_of_training_is_added_up(looping: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that every look at it moves on by a second; training takes two looks, at its begin and end."""
    looks = count(100.0)
    monkeypatch.setattr("time.perf_counter", lambda: next(looks))
    loop = looping()
    loop.run()
    assert loop.loop.training_host_s == 3.0


def test_a_rejected_client_is_left_out_of_the_exchange(looping: Callable) -> None:
    loop = looping(broken=(1, 3))
    loop.run()
    assert loop.exchange.steps[1] == ("finish", [0, 2], 4.0, SIZES.tolist())


def test_only_who_took_part_may_carry_state(looping: Callable) -> None:
    loop = looping("clients.per_round=1", "experiment.rounds=1")
    participants = loop.run()[0].closed.plan.participants.tolist()
    assert loop.loop.carrying == participants


def test_a_rank_knows_those_of_its_own_clients_that_may_carry_state(looping: Callable) -> None:
    loop = looping().loop
    loop.placement = Placement(4, (range(1), range(1, 4)), ((0,), (1,)))
    loop.seen[:] = [True, False, True, True]
    for rank, carrying in ((0, [0]), (1, [2, 3])):
        loop.ranks = SimpleNamespace(rank=rank)
        assert loop.carrying == carrying


def test_a_checkpoint_comes_before_its_round_and_its_bytes_are_not_the_rounds(looping: Callable) -> None:
    loop, at = looping("experiment.checkpoint_every=2"), []

    def on_checkpoint() -> None:
        at.append((loop.world.server.round_index, len(loop.exchange.steps)))
        loop.world.ranks.broadcast(np.zeros(100))

    reports = loop.run(on_checkpoint=on_checkpoint)
    assert at == [(2, 4), (3, 6)]
    assert reports[2].carried_bytes == ROUND_BYTES


@pytest.mark.parametrize("before", [True, False])
def test_a_signal_ends_the_loop_with_a_checkpoint(looping: Callable, before: bool) -> None:
    loop, checkpoints = looping(), []
    loop.signal.set = before
    begin = loop.exchange.begin

    def signalled(plan: RoundPlan, mine: np.ndarray) -> None:
        begin(plan, mine)
        loop.signal.set = True

    loop.exchange.begin = signalled
    reports = loop.run(on_checkpoint=lambda: checkpoints.append(1))
    assert len(reports) == (0 if before else 1)
    assert checkpoints == [1]
    assert loop.world.server.stopping.preempted


def test_reaching_a_limit_ends_the_loop(looping: Callable) -> None:
    loop = looping("experiment.stop_at_accuracy=0.7", "experiment.evaluate_every=2")
    assert len(loop.run()) == 2
    assert loop.world.server.stopping.reason == "test accuracy reached 0.7"


@pytest.mark.parametrize(("limit_s", "rounds"), [(10_000, 3), (4_000, 1)])
def test_host_time_is_counted_from_when_the_run_began(looping: Callable, limit_s: int, rounds: int) -> None:
    loop = looping(f"experiment.stop_at_host_s={limit_s}")
    half: Any = loop.loop.half
    half._began_s -= 5_000
    assert len(loop.run()) == rounds


def test_a_mask_holds_from_the_round_after_its_change(looping: Callable) -> None:
    method = method_of(Needs.WEIGHTS | Needs.GRADIENT)
    loop, followed = looping(method=method), []
    loop.world.masked.follow(lambda mask, clients: followed.append((mask.count, clients)))
    reports = loop.run()
    assert [report.mask.count for report in reports] == [10, 10, 9]
    assert [report.mask_since for report in reports] == [0, 1, 2]
    assert [report.change is not None for report in reports] == [False, True, False]
    assert followed == [(10, [0, 1, 2, 3]), (9, [0, 1, 2, 3]), (9, [0, 1, 2, 3])]
    assert loop.world.masked.parameters[9] == 0.0
    seen: Any = method
    for observation in seen.seen[:2]:
        np.testing.assert_allclose(observation.gradient, np.full(10, 2.0), rtol=1e-6)
    assert [report.carried_bytes for report in reports] == [ROUND_BYTES + 2] * 3
    # A version for each update and each new mask, and clients get the mask with the first model after it.
    assert loop.world.server.downlink.version == 4
    assert [int(report.closed.charges.bytes_down[0]) for report in reports] == [56, 56, 56 + 17]


def test_a_mask_that_was_looked_for_and_stays_is_recorded_and_does_not_travel(
    looping: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = method_of(Needs.WEIGHTS)
    loop = looping(method=method)
    pruning, mask = loop.world.server.pruning, loop.world.masked.mask
    monkeypatch.setattr(pruning, "step", lambda finished: Change(mask, {"gain": -0.5}, is_new=False))
    reports = loop.run()
    assert [report.mask.count for report in reports] == [10, 10, 10]
    assert [report.change.facts for report in reports] == [{"gain": -0.5}] * 3
    assert loop.world.server.downlink.version == 3
    assert [int(report.closed.charges.bytes_down[0]) for report in reports] == [56, 56, 56]


def test_importance_is_gathered_where_it_is_asked_for(looping: Callable) -> None:
    method, importance = method_of(Needs.IMPORTANCE), Importance()
    reports = looping(method=method, importance=importance).run()
    assert importance.begun == [[0, 1, 2, 3]] * 3
    assert [report.importance_left_out for report in reports] == [2, 2, 2]
    seen: Any = method
    assert seen.seen[0].importance.tolist() == list(range(10))
    plain = looping(importance=Importance()).run()
    assert plain[0].importance_left_out == 0


def by_samples(value: float) -> float:
    """``value`` plus the number of each client's sample, weighted by samples."""
    return value + float(np.average([1, 2, 3, 4], weights=SIZES))


def test_losses_for_k_are_those_of_the_exchange(looping: Callable) -> None:
    loop = looping(k_state=KState(3, 2), measures=True)
    before = float(loop.world.masked.weights.sum())
    report = loop.run()[0]
    losses = report.closed.losses
    assert losses.previous == pytest.approx(by_samples(before), rel=1e-6)
    assert losses.current == pytest.approx(by_samples(before - 10), rel=1e-6)
    assert np.isnan(losses.probe)
    cost = loop.world.costs.seen[0]
    assert cost.cost_probe is not None
    assert report.carried_bytes == ROUND_BYTES + 4 * 40


def test_losses_for_a_mask_are_those_before_after_and_under_it(looping: Callable) -> None:
    method = method_of(Needs.LOSSES, probe=lambda setup, state, weights: Mask.of(np.arange(10) < 4))
    loop = looping(method=method)
    before = loop.world.masked.weights.clone()
    report = loop.run()[0]
    losses = report.closed.losses
    assert losses.previous == pytest.approx(by_samples(float(before.sum())), rel=1e-6)
    assert losses.current == pytest.approx(by_samples(float(before.sum()) - 10), rel=1e-6)
    assert losses.probe == pytest.approx(by_samples(float(before[:4].sum()) - 4), rel=1e-6)
    seen: Any = method
    assert seen.seen[0].losses == losses


def test_float_buffers_are_neither_pruned_nor_part_of_the_gradient(looping: Callable) -> None:
    needs = Needs.LOSSES | Needs.GRADIENT
    method = method_of(needs, probe=lambda setup, state, weights: Mask.of(np.arange(10) < 4))
    loop = looping(method=method)
    masked = loop.world.masked
    masked.weights = torch.cat((masked.weights, torch.tensor([5.0, 6.0])))
    before = masked.weights.clone()
    losses = loop.run()[0].closed.losses
    seen: Any = method
    np.testing.assert_allclose(seen.seen[0].gradient, np.full(10, 2.0), rtol=1e-6)
    assert losses.previous == pytest.approx(by_samples(float(before.sum())), rel=1e-6)
    assert losses.probe == pytest.approx(by_samples(float(before[:4].sum()) - 4 + 9), rel=1e-6)


def test_a_full_mask_is_not_tried(looping: Callable) -> None:
    loop = looping(method=method_of(Needs.LOSSES))
    losses = loop.run()[0].closed.losses
    assert np.isnan(losses.probe)
    assert losses.previous > losses.current


def test_without_accepted_clients_nobody_is_asked_for_losses(looping: Callable) -> None:
    report = looping(measures=True, broken=(0, 1, 2, 3)).run()[0]
    assert report.closed.losses is None
    assert report.carried_bytes == ROUND_BYTES


class LateClock:
    """It starts rounds 0.25 host seconds late and lets messages go in time; everything is ready at 9 s."""

    runs = True

    def __init__(self) -> None:
        self.held: list[float] = []

    def hold_until(self, emulated_s: float) -> float:
        self.held.append(emulated_s)
        return 0.25 if len(self.held) == 1 else 0.0

    def now_s(self) -> float:
        return 9.0


def test_what_was_late_is_reported_in_host_seconds(looping: Callable) -> None:
    loop, clock = looping("experiment.rounds=1", measures=True), LateClock()
    (report,) = loop.run(clock)
    arrival_s = report.closed.judged.charges.arrival_s
    assert report.start_overrun_s == 0.25
    download_s = report.closed.charges.download_s
    assert (download_s > 0.0).all()
    np.testing.assert_allclose(report.overrun_s, np.maximum(0.25 - 0.5 * download_s, 0.0), rtol=1e-12)
    assert (report.overrun_s > 0.0).any()
    np.testing.assert_allclose(report.unready_s, (9.0 - arrival_s) * 0.5)
    assert clock.held[0] == 0.0
    assert clock.held[1:5] == pytest.approx(arrival_s.tolist())
    due_s = report.closed.charges.end_s - (report.closed.charges.wait_s - report.closed.judged.charges.wait_s)
    assert clock.held[5:9] == pytest.approx(sorted(due_s.tolist()))
    assert report.carried_bytes == ROUND_BYTES + 4 * 40


def test_a_rank_that_is_ready_in_time_is_not_unready(looping: Callable) -> None:
    loop, clock = looping("experiment.rounds=1"), LateClock()
    clock.now_s = lambda: 0.5
    assert loop.run(clock)[0].unready_s.tolist() == [0.0] * 4


def test_a_worker_leaves_everything_to_the_server() -> None:
    half, nothing = WorkerHalf(), SimpleNamespace()
    plan = RoundPlan(0, Action.NONE, 3, 0, 0.1, 0.0, np.arange(3), Needs.WEIGHTS)
    given: Any = nothing
    verdict, largest = half.judge(plan, None)
    assert (verdict.dtype, verdict.shape, largest) == (VERDICT, (3,), 0.0)
    assert not half.keeps_weights(plan)
    assert half.keeps_weights(RoundPlan(0, Action.NONE, 3, 0, 0.1, 0.0, np.arange(3), Needs.LOSSES))
    answers = (
        half.plan(VirtualClock(), True),
        half.mask_to_try(np.zeros(2, np.float32)),
        half.losses_due_s(plan, given, None),
        half.close(given),
        half.report(given, SMALL, 0, 0),
    )
    assert answers == (None,) * 5
