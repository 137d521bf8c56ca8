"""What the server plans, how it judges and charges updates, when it stops, and what it knows after a round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmpi.emulation.availability import Availability, AvailabilityModel
from fedmpi.emulation.availability import Setup as AvailabilitySetup
from fedmpi.emulation.round_end import Arrivals
from fedmpi.federation.client_selection import draw_participants
from fedmpi.federation.exchange import Exchanged, Roster
from fedmpi.federation.global_evaluation import Measured
from fedmpi.federation.messages import LOSSES, Action, RoundPlan
from fedmpi.federation.round_cost import Work
from fedmpi.federation.server import Server
from fedmpi.federation.verdict import Judged, statuses_of
from fedmpi.k_control import State as KState
from fedmpi.pruning import Change, Mask, Method, Needs, State
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch
from fedmpi.trace import Status

SIZES = np.array([10, 20, 30, 40])
EVERYBODY = np.arange(4)
SAMPLE_S = np.array([0.1, 0.05, 1 / 30, 0.025])
"""A round's training takes a second, whatever the number of samples."""


def asking(needs: Needs) -> Method:
    return Method(
        summary="It asks.",
        init=lambda setup, mask: State(mask),
        needs=lambda setup, state, round_index: needs if round_index != 1 else Needs.NOTHING,
        step=lambda setup, state, observation, draw: (state, None),
    )


def roster_of(judged: Judged) -> Roster:
    sent = judged.verdict["message_bytes"]
    return Roster(EVERYBODY, judged.accepted, SIZES, sent, judged.max_abs, [], EVERYBODY >= 0)


def exchanged_of(changed: np.ndarray | None, k_down_probe: int = 0, probe_bytes: int = 0) -> Exchanged:
    return Exchanged(changed, 7, k_down_probe, np.array([3, 2, 1, 0]), 228, probe_bytes)


def losses_of(*columns: Sequence[float]) -> np.ndarray:
    """LOSSES of all clients in falling order, the columns being previous, current, probe and pruned."""
    losses = np.zeros(4, LOSSES)
    losses["client"] = EVERYBODY
    for name, values in zip(("previous", "current", "probe", "pruned"), columns, strict=False):
        losses[name] = values
    return losses[::-1].copy()


def only_available(server: Server, available: Callable, next_s: Callable | None = None) -> None:
    config = server.config.emulation.availability
    model = AvailabilityModel(summary="Some.", available=available, next_s=next_s)
    fleet: Any = server.accountant.fleet
    server.accountant.fleet = replace(
        fleet, availability=Availability(model, AvailabilitySetup(config, 4, 0))
    )


# --- plan ---


def test_a_plan_says_what_the_round_is(world: Callable) -> None:
    server = world("training.learning_rate_half_life_rounds=2", k_state=KState(7, 3)).server
    server.round_index, server.now_s = 2, 12.5
    plan = server.plan()
    assert (plan.round_index, plan.start_s, plan.k, plan.k_probe) == (2, 12.5, 7, 3)
    assert plan.learning_rate == 0.25
    assert plan.participants.tolist() == [0, 1, 2, 3]
    assert plan.needs is Needs.NOTHING
    assert plan.action == Action.EVALUATE
    assert not server.stopping.reason


@pytest.mark.parametrize(("k", "k_probe", "expected"), [(11, 10, (10, 0)), (10, 9, (10, 9)), (9, 0, (9, 0))])
def test_k_is_at_most_what_travels_and_a_probe_less(
    world: Callable, k: int, k_probe: int, expected: tuple[int, int]
) -> None:
    plan = world(k_state=KState(k, k_probe)).server.plan()
    assert (plan.k, plan.k_probe) == expected


def test_layers_send_their_own_k_or_what_is_active(world: Callable) -> None:
    """The layers have 6, 2 and 2 parameters. k is what is sent, whatever the mask leaves of the state's."""
    given = world(k_state=KState(9, 2))
    assert given.server.plan().layer_k == ()
    given.server.controller = replace(given.server.controller, layer_k=lambda state: (state.k - 4, 2, 2))
    plan = given.server.plan()
    assert (plan.layer_k, plan.k, plan.k_probe) == ((5, 2, 2), 9, 2)
    given.masked.mask = Mask.of(np.array([0, 1, 1, 1, 0, 0, 1, 1, 1, 0], np.bool_))
    plan = given.server.plan()
    assert (plan.layer_k, plan.k) == ((3, 2, 1), 6)


def actions(server: Server, action: Action) -> list[int]:
    """The rounds before or after which ``action`` is planned, with one beyond the last."""
    planned = []
    for index in range(server.config.experiment.rounds + 1):
        server.round_index = index
        if action in server.plan().action:
            planned.append(index)
    return planned


@pytest.mark.parametrize(("every", "expected"), [(1, [0, 1, 2, 3, 4, 5]), (2, [1, 3, 5]), (4, [3, 5])])
def test_evaluation_is_every_so_many_rounds_and_after_the_last(
    world: Callable, every: int, expected: list[int]
) -> None:
    found = actions(world(f"experiment.evaluate_every={every}").server, Action.EVALUATE)
    assert [index for index in found if index < 6] == expected


@pytest.mark.parametrize(("every", "expected"), [(0, [6]), (2, [2, 4, 6]), (5, [5, 6])])
def test_checkpoints_are_every_so_many_rounds_and_at_the_end(
    world: Callable, every: int, expected: list[int]
) -> None:
    assert actions(world(f"experiment.checkpoint_every={every}").server, Action.CHECKPOINT) == expected


def test_after_the_last_round_it_stops(world: Callable) -> None:
    server = world().server
    assert actions(server, Action.STOP) == [6]
    assert server.stopping.reason == "all 6 rounds done"
    assert not len(server.plan().participants)


def test_a_signal_stops_with_a_checkpoint_and_no_reason(world: Callable) -> None:
    server = world().server
    server.stopping.preempt_if(False)
    assert Action.STOP not in server.plan().action
    server.stopping.preempt_if(True)
    server.stopping.preempt_if(False)
    assert Action.STOP | Action.CHECKPOINT in server.plan().action
    assert server.stopping.preempted
    assert not server.stopping.reason


def test_a_run_that_cannot_be_recorded_stops_without_a_checkpoint(world: Callable) -> None:
    server = world().server
    server.stopping.preempt_if(True)
    server.stopping.abandoned = True
    action = server.plan().action
    assert Action.STOP in action
    assert Action.CHECKPOINT not in action


def test_losses_are_asked_for_by_the_controller_and_the_method(world: Callable) -> None:
    assert Action.MEASURE in world(measures=True).server.plan().action
    server = world(method=asking(Needs.LOSSES | Needs.WEIGHTS)).server
    plan = server.plan()
    assert Action.MEASURE not in plan.action
    assert plan.needs == Needs.LOSSES | Needs.WEIGHTS
    server.round_index = 1
    assert server.plan().needs is Needs.NOTHING


def test_participants_stay_the_same_for_a_period(world: Callable) -> None:
    given = world("clients.per_round=2")
    given.exchange.period = 3
    drawn = []
    for index in range(6):
        given.server.round_index = index
        plan = given.server.plan()
        drawn.append(plan.participants.tolist())
        given.server.judge(plan, given.records()[::-1][plan.participants])
    assert drawn[0] == drawn[1] == drawn[2] == draw_participants(0, 0, EVERYBODY, 2).tolist()
    assert drawn[3] == drawn[4] == drawn[5] == draw_participants(0, 3, EVERYBODY, 2).tolist()


def test_time_moves_on_until_somebody_is_available(world: Callable) -> None:
    server = world().server
    only_available(server, lambda setup, r, s: (EVERYBODY == 2) & (s >= 9.0), lambda setup, r, s: s + 4.0)
    plan = server.plan()
    assert plan.start_s == server.now_s == 12.0
    assert plan.participants.tolist() == [2]
    assert not server.stopping.reason


def test_where_nobody_is_available_any_more_it_stops(world: Callable) -> None:
    server = world().server
    only_available(server, lambda setup, r, s: np.zeros(4, bool))
    plan = server.plan()
    assert server.stopping.reason == "no client is available any more"
    assert Action.STOP | Action.CHECKPOINT in plan.action
    assert plan.start_s == 0.0


# --- judge ---


def test_an_update_that_is_not_finite_is_rejected() -> None:
    records = np.array([(np.inf,), (0.0,), (np.nan,), (3.0,)], dtype=[("max_abs", float)])
    everybody = Arrivals(1.0, np.ones(4, bool), np.zeros(4, bool))
    expected = [Status.REJECTED, Status.OK, Status.REJECTED, Status.OK]
    assert statuses_of(records, everybody).tolist() == expected
    some = Arrivals(1.0, np.array([True, False, False, False]), np.array([False, False, True, False]))
    expected = [Status.REJECTED, Status.LATE, Status.DROPPED, Status.LATE]
    assert statuses_of(records, some).tolist() == expected


def test_participants_are_judged_and_charged_in_client_order(world: Callable) -> None:
    given = world()
    plan = replace(given.server.plan(), start_s=5.0)
    judged = given.server.judge(plan, given.records(max_abs=[1.0, np.nan, 2.0, 3.0]))
    assert judged.records["client"].tolist() == [0, 1, 2, 3]
    assert judged.accepted.tolist() == [True, False, True, True]
    assert judged.max_abs == 3.0
    whole_model = 16 + 4 * 10
    np.testing.assert_allclose(judged.charges.download_s, whole_model / 1000)
    np.testing.assert_allclose(judged.charges.compute_s, 1.0)
    np.testing.assert_allclose(judged.charges.upload_s, 0.112)
    np.testing.assert_allclose(judged.verdict["deadline_s"], 5.0 + 0.056 + 1.0 + 0.112)
    assert judged.verdict["message_bytes"].tolist() == [112] * 4
    assert judged.work.entries.tolist() == [3] * 4
    assert not given.server.stopping.preempted


def test_the_largest_magnitude_without_accepted_updates_is_zero(world: Callable) -> None:
    given = world()
    judged = given.server.judge(given.server.plan(), given.records(max_abs=np.inf))
    assert not judged.accepted.any()
    assert judged.max_abs == 0.0


def test_steps_are_samples_over_the_batch_size(world: Callable) -> None:
    given, seen = world(), []
    seconds = given.server.pruning.compute_seconds
    given.server.pruning.compute_seconds = lambda *given_: seen.append(given_) or seconds(*given_)
    given.server.judge(given.server.plan(), given.records(compute_host_s=[4.0, 3.0, 2.0, 1.0]))
    clients, steps, host_s = seen[0]
    assert clients.tolist() == [0, 1, 2, 3]
    assert steps.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert host_s.tolist() == [4.0, 3.0, 2.0, 1.0]


def test_who_has_the_model_downloads_it_at_the_start_of_a_period_alone(world: Callable) -> None:
    given = world()
    given.exchange.period = 2
    server = given.server
    for index, expected in enumerate([56, 0, 16, 0]):
        server.round_index = index
        judged = server.judge(server.plan(), given.records())
        assert judged.work.bytes_down.tolist() == [expected] * 4


def test_importance_is_charged_where_it_is_asked_for(world: Callable) -> None:
    given = world(method=asking(Needs.IMPORTANCE))
    judged = given.server.judge(given.server.plan(), given.records())
    assert judged.work.bytes_up.tolist() == [112 + 4 * 8] * 4
    assert judged.verdict["message_bytes"].tolist() == [112] * 4
    given.server.round_index = 1
    assert given.server.judge(given.server.plan(), given.records()).work.bytes_up.tolist() == [112] * 4


def test_a_signal_to_any_rank_arrives_with_its_records(world: Callable) -> None:
    given = world()
    given.server.judge(given.server.plan(), given.records(signalled=[0, 0, 1, 0]))
    assert given.server.stopping.preempted


# --- close ---


def close(given: Any, exchanged: Exchanged, measured: Measured | None = None, **columns: Any) -> Any:
    server = given.server
    plan = server.plan()
    judged = server.judge(plan, given.records(**columns))
    return plan, judged, server.close(plan, judged, roster_of(judged), exchanged, measured)


def test_a_closed_round_moves_the_clock_and_k_on(world: Callable) -> None:
    given = world()
    given.server.now_s = 2.0
    _, judged, closed = close(given, exchanged_of(None))
    assert given.server.now_s == closed.charges.end_s == pytest.approx(2.0 + 0.056 + 1.0 + 0.112)
    assert given.server.round_index == 1
    assert given.server.k_state.k == 4
    (cost,) = given.costs.seen
    assert cost.cost == pytest.approx(1.168)
    assert (cost.cost_probe, cost.loss_prev, cost.loss) == (None, None, None)
    assert (closed.k_down, closed.losses) == (7, None)
    assert closed.entries_used.tolist() == [3, 2, 1, 0]
    assert closed.judged is judged


def test_the_training_loss_is_that_of_accepted_updates_by_their_samples(world: Callable) -> None:
    _, _, closed = close(world(), exchanged_of(None), max_abs=[1.0, np.inf, 2.0, 3.0])
    assert closed.train_loss == pytest.approx((10 * 1 + 30 * 3 + 40 * 4) / 80)
    _, _, closed = close(world(), exchanged_of(None), max_abs=np.nan)
    assert np.isnan(closed.train_loss)


@pytest.mark.parametrize(
    ("changed", "max_abs", "bytes_down", "version"),
    [
        (None, 1.0, 228, 1),
        (np.array([4], np.int32), 1.0, 228, 1),
        (np.array([], np.int32), 1.0, 228, 1),
        (np.array([], np.int32), 1.0, 0, 0),
        (None, np.nan, 228, 0),
        (None, [1.0, np.nan, np.nan, 2.0], 228, 1),
    ],
)
def test_a_round_whose_message_goes_out_makes_a_version(
    world: Callable, changed: np.ndarray | None, max_abs: float, bytes_down: int, version: int
) -> None:
    """Also one without entries, in which float buffers travel, or a table of tensors."""
    given = world()
    close(given, replace(exchanged_of(changed), bytes_down=bytes_down), max_abs=max_abs)
    assert given.server.downlink.version == version
    assert given.server.downlink.client_version.tolist() == [0] * 4


def test_losses_are_weighted_by_samples_and_their_feedback_is_charged(world: Callable) -> None:
    given = world(k_state=KState(3, 2), measures=True)
    losses = losses_of([4, 4, 4, 8], [1, 2, 3, 4], [2, 2, 2, 3])
    _, _, closed = close(given, exchanged_of(None, k_down_probe=2, probe_bytes=40), Measured(losses, None))
    assert closed.losses.previous == pytest.approx((4 * 60 + 8 * 40) / 100)
    assert closed.losses.current == pytest.approx(3.0)
    assert np.isnan(closed.losses.probe)
    assert closed.charges.bytes_down.tolist() == [56 + 228 + 40] * 4
    assert closed.charges.bytes_up.tolist() == [112 + 16 + 3 * 4] * 4
    np.testing.assert_allclose(closed.charges.compute_s, 1.0 + SAMPLE_S)
    (cost,) = given.costs.seen
    assert cost.cost == pytest.approx(0.056 + 1.0 + 0.112 + 0.268 + 0.1 + 0.028)
    assert cost.loss_prev == closed.losses.previous
    assert cost.loss == closed.losses.current
    of_probe_round = 0.056 + 1.0 + (100 + 4 * 2) / 1000 + (200 + 4 * 2) / 1000 + 0.1 + 0.028
    assert cost.cost_probe == pytest.approx(of_probe_round * (5.6 - 3.0) / (5.6 - 2.4))
    assert given.server.downlink.client_version.tolist() == [1] * 4


def test_without_a_second_k_two_losses_are_sent_and_no_cost_is_estimated(world: Callable) -> None:
    given = world(measures=True)
    _, _, closed = close(given, exchanged_of(None), Measured(losses_of([2] * 4, [1] * 4), None))
    assert closed.charges.bytes_up.tolist() == [112 + 16 + 2 * 4] * 4
    assert given.costs.seen[0].cost_probe is None


def test_a_mask_that_is_tried_comes_down_and_its_loss_goes_up(world: Callable) -> None:
    given = world(method=asking(Needs.LOSSES))
    tried = Mask.of(EVERYBODY[[0] * 10] == np.arange(10))
    losses = losses_of([3] * 4, [2] * 4, [0] * 4, [1, 1, 1, 6])
    _, _, closed = close(given, exchanged_of(None), Measured(losses, tried))
    assert closed.losses.probe == pytest.approx(3.0)
    assert closed.charges.bytes_down.tolist() == [56 + 228 + 16 + 1] * 4
    assert closed.charges.bytes_up.tolist() == [112 + 16 + 3 * 4] * 4


def test_losses_are_due_when_the_last_of_three_steps_is_done(world: Callable) -> None:
    given = world(k_state=KState(3, 2), measures=True)
    plan = given.server.plan()
    judged = given.server.judge(plan, given.records())
    due_s = given.server.prices.losses_due_s(plan, judged, exchanged_of(None, 2, 40), None)
    np.testing.assert_allclose(due_s, 1.168 + 0.268 + SAMPLE_S + 0.028)


# --- stop ---


@pytest.mark.parametrize(
    ("limit", "accuracy", "now_s", "host_s", "reason"),
    [
        ("accuracy=0.5", 0.5, 0.0, 0.0, "test accuracy reached 0.5"),
        ("accuracy=0.5", 0.49, 9.0, 9.0, ""),
        ("accuracy=0.5", np.nan, 9.0, 9.0, ""),
        ("emulated_s=7", 0.0, 7.0, 0.0, "emulated time reached 7 s"),
        ("emulated_s=7", 9.0, 6.9, 9.0, ""),
        ("host_s=3", 0.0, 0.0, 3.0, "host time reached 3 s"),
        ("host_s=3", 9.0, 9.0, 2.9, ""),
    ],
)
def test_a_limit_stops_the_run_when_it_is_reached(
    world: Callable, limit: str, accuracy: float, now_s: float, host_s: float, reason: str
) -> None:
    server = world(f"experiment.stop_at_{limit}").server
    server.now_s = now_s
    server.stop_if_reached(accuracy, host_s)
    assert server.stopping.reason == reason
    assert (Action.STOP | Action.CHECKPOINT in server.plan().action) == bool(reason)


# --- before the rounds ---


def test_what_a_client_does_before_the_rounds_moves_the_clock(world: Callable) -> None:
    server = world().server
    server.now_s = 3.0
    work = Work(np.array([500]), np.array([2.0]), np.array([5]), np.array([250]))
    charges = server.charge_before_rounds(1, work)
    assert charges.end_s == server.now_s == pytest.approx(3.0 + 0.5 + 2.0 + 0.25)
    assert server.round_index == 0


def test_the_first_round_is_timed_with_its_own_participants(world: Callable) -> None:
    given, seen = world("clients.per_round=2", k_state=KState(40, 0)), []
    given.server.pruning.round_time = lambda *given_: seen.append(given_)
    given.server.now_s = 1.0
    only_available(given.server, lambda setup, r, s: s != EVERYBODY)
    given.server.first_round_time(0.25)
    participants, steps, compute_s, k, k_down = seen[0]
    assert participants.tolist() == draw_participants(0, 0, np.array([0, 2, 3]), 2).tolist()
    assert steps.tolist() == [1.0, 1.0]
    assert compute_s.tolist() == [1.0, 1.0]
    assert (k, k_down) == (10, 10)
    assert given.server.now_s == 1.0


def test_the_first_round_takes_the_time_measured_here(world: Callable) -> None:
    given, seen = world("training.local_epochs=2"), []
    given.server.pruning.compute_seconds = lambda clients, steps, host_s: seen.append(host_s) or host_s
    given.server.pruning.round_time = lambda *given_: None
    given.server.first_round_time(0.25)
    assert seen[0].tolist() == [5.0, 10.0, 15.0, 20.0]


def test_a_first_round_that_never_comes_has_no_time(world: Callable) -> None:
    server = world().server
    only_available(server, lambda setup, r, s: np.zeros(4, bool))
    with pytest.raises(ValueError, match="no client is ever available"):
        server.first_round_time(0.25)
    assert not server.stopping.reason


@pytest.mark.parametrize(("holder", "expected"), [(2, [2, 2, 1, 2]), (None, [2, 2, 2, 2])])
def test_the_mask_and_weights_of_initial_pruning_are_downloaded(
    world: Callable, holder: int | None, expected: list[int]
) -> None:
    given = world(method=asking(Needs.NOTHING))
    server = given.server
    given.masked.use(Mask.of(np.arange(10) < 9), 0)
    given.exchange.dimension = 9
    server.begin_pruned(holder)
    whole = 16 + 4 * 9 + 16 + 1
    kinds = {1: 16, 2: whole}
    assert server.downlink.download_bytes(EVERYBODY).tolist() == [kinds[each] for each in expected]
    assert server.pruning.state.mask is given.masked.mask


# --- checkpoints ---


def test_a_server_goes_on_from_its_state(world: Callable) -> None:
    given, again = world(method=asking(Needs.WEIGHTS)), world(method=asking(Needs.WEIGHTS))
    close(given, exchanged_of(np.array([1, 2], np.int32)))
    mask = Mask.of(np.arange(10) < 9)
    given.masked.use(mask, 1)
    given.server.pruning.state = State(mask)
    given.server.pruning.announce()
    arrays, numbers = given.server.state()
    assert numbers["round"] == 1
    assert numbers["k_control"] == {"k": 4, "k_probe": 0}
    again.masked.use(mask, 1)
    again.server.restore(arrays, numbers)
    assert again.server.now_s == given.server.now_s
    assert again.server.k_state == given.server.k_state
    assert again.server.pruning.state.mask.count == 9
    assert {name: array.tolist() for name, array in again.exchange.restored.items()} == {"kept": [0, 1, 2]}
    for clients in ([0, 1], [3]):
        before, after = (one.server.downlink.download_bytes(np.array(clients)) for one in (given, again))
        np.testing.assert_array_equal(before, after)
    plans = [one.server.plan() for one in (given, again)]
    assert isinstance(plans[0], RoundPlan)
    assert plans[0].round_index == plans[1].round_index == 1


@pytest.mark.parametrize(
    ("measures", "k_probe", "seen"),
    [
        (False, 0, (None,) * 3),
        (False, 2, (None,) * 3),
        (True, 0, (None, 2.0, 1.0)),
        (True, 2, (1.0, 2.0, 1.0)),
    ],
)
def test_a_state_of_k_is_tried_with_what_its_controller_is_shown(
    world: Callable, measures: bool, k_probe: int, seen: tuple[float | None, ...]
) -> None:
    """What it cannot be used with fails before the first round, and it stays as it was."""
    given, again = (world(k_state=KState(5, k), measures=measures) for k in (k_probe, 0))
    again.server.restore(*given.server.state())
    (tried,) = again.costs.seen
    assert (tried.cost_probe, tried.loss_prev, tried.loss) == seen
    assert again.server.k_state == KState(5, k_probe)


# --- what a controller of k and the trace see ---


@pytest.mark.parametrize(("half_life", "falls"), [("2", True), ("inf", False)])
def test_a_controller_sees_whether_the_learning_rate_falls(
    world: Callable, half_life: str, falls: bool
) -> None:
    given = world(f"training.learning_rate_half_life_rounds={half_life}")
    for _ in range(2):
        close(given, exchanged_of(None))
    assert [each.learning_rate_falls for each in given.costs.seen] == [falls, falls]


def test_it_is_told_how_long_nobody_was_available(world: Callable) -> None:
    given = world()
    given.server.now_s = 2.0
    only_available(given.server, lambda setup, r, s: (EVERYBODY >= 0) & (s >= 9.0), lambda setup, r, s: 9.5)
    _, _, closed = close(given, exchanged_of(None))
    assert closed.idle_s == 7.5
    _, _, closed = close(given, exchanged_of(None))
    assert closed.idle_s == 0.0


# --- a mask and k together ---


@pytest.mark.parametrize("decided", [None, 9])
def test_k_goes_on_as_it_was_where_the_mask_stays(world: Callable, decided: int | None) -> None:
    """Whatever was weighed in between, and with a k that no mask leaves room for."""
    given = world("pruning.joint=true")
    given.exchange.sketch = MagnitudeSketch(10, 2)
    plan, judged, _ = close(given, exchanged_of(None))
    server, before = given.server, given.server.k_state
    server.controller = replace(server.controller, decide=lambda state, seen: KState(12, 3))

    def step_with_k(finished: Any, k: int, best_k: Callable) -> tuple[Any, int | None]:
        assert best_k(lambda ks: 1.0 * ks, 9) == 9
        return Change(Mask.of(np.arange(11) > 0), {"gain": 1.0}), decided

    server.pruning.step_with_k = step_with_k
    finished: Any = SimpleNamespace(plan=plan)
    energies = np.ones(len(given.exchange.sketch.counts))
    change = server.change_mask(finished, judged, replace(exchanged_of(None), energies=energies))
    assert server.k_state == (before if decided is None else KState(12, 3))
    assert change is not None
    assert change.facts == {"gain": 1.0} | ({} if decided is None else {"k": 10})


@pytest.mark.parametrize(
    ("joint", "sketched", "together"), [(True, True, True), (True, False, False), (False, True, False)]
)
def test_k_is_decided_with_the_mask_where_that_is_asked_for_and_magnitudes_are_known(
    world: Callable, joint: bool, sketched: bool, together: bool
) -> None:
    """By what each k is worth, and the seconds that it takes under the mask that is tried."""
    given = world(f"pruning.joint={str(joint).lower()}")
    given.exchange.sketch = MagnitudeSketch(10, 2)
    plan, judged, _ = close(given, exchanged_of(None))
    energies = np.arange(len(given.exchange.sketch.counts)) * 1.0
    changed = Change(Mask(10), {"active": 10})
    exchanged = replace(exchanged_of(None), energies=energies if sketched else None)
    server, seen = given.server, []

    def decide(state: KState, magnitudes: Any) -> KState:
        round_s = magnitudes.round_s(np.array([3])).tolist()
        seen.append((state.k, magnitudes.energies.tolist(), round_s, magnitudes.most_k))
        return KState(9, 0)

    def step_with_k(finished: Any, k: int, best_k: Callable) -> tuple[Any, int]:
        assert (finished.plan, k) == (plan, 4)
        return changed, best_k(lambda ks: 2.0 * ks, 10)

    server.controller = replace(server.controller, decide=decide)
    server.pruning.step_with_k = step_with_k
    server.pruning.step = lambda finished: "alone"
    finished: Any = SimpleNamespace(plan=plan)
    change = server.change_mask(finished, judged, exchanged)
    assert change == (replace(changed, facts={"active": 10, "k": 9}) if together else "alone")
    assert server.k_state.k == (9 if together else 4)
    assert seen == ([(4, energies.tolist(), [6.0], 10)] if together else [])
