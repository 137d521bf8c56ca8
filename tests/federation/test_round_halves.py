"""What the server's half of a round makes of weights before and after it, and of who trained whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fedmpi.federation.exchange import Exchanged, Roster
from fedmpi.federation.importance_pairs import ImportanceSum
from fedmpi.federation.round_halves import RoundEnd, ServerHalf, layer_norms
from fedmpi.pruning import Method, Needs, State

CLIENTS = np.arange(4)


@dataclass(frozen=True)
class Slice:
    start: int
    stop: int
    prunable: bool = True


def test_norms_are_of_each_layers_part() -> None:
    update = np.array([3.0, -4.0, 1e30, 0.0, -2.0], np.float32)
    assert layer_norms(update, [Slice(0, 2), Slice(2, 3), Slice(3, 5)]) == (
        5.0,
        pytest.approx(1e30, rel=1e-6),
        2.0,
    )


def asking(needs: Needs, step: Callable = lambda setup, state, observation, draw: (state, None)) -> Method:
    return Method(
        summary="It asks.",
        init=lambda setup, mask: State(mask),
        needs=lambda setup, state, round_index: needs,
        step=step,
    )


def end_of(
    given: Any,
    half: ServerHalf,
    accepted: list[int],
    before: Any = None,
    records: Any = None,
    **more: Any,
) -> RoundEnd:
    """A round of all four clients, of whom rank 0 trained 1 and 3."""
    plan = given.server.plan()
    _, max_abs = half.judge(plan, given.records() if records is None else records)
    taken, ones = np.isin(CLIENTS, accepted), np.ones(4, np.int64)
    roster = Roster(CLIENTS, taken, ones, ones, max_abs, [np.array([1, 3]), np.array([0, 2])], ones == 1)
    exchanged = Exchanged(None, 3, 0, ones, 200, 0)
    achieved = np.zeros(4, [("late_s", float), ("released_s", float)])
    end = RoundEnd(plan, roster, exchanged, None, None, before, achieved, 0.5, 0.25, None)
    return replace(end, **more)


@pytest.mark.parametrize(
    ("accepted", "asks", "has"), [([1], True, True), ([], True, False), ([1], False, False)]
)
def test_a_controller_that_asks_sees_by_how_much_each_layer_moved(
    world: Callable, accepted: list[int], asks: bool, has: bool
) -> None:
    """All ten parameters fell by 2: six weights of the first layer, its two biases, two of the last one."""
    given = world()
    seen, controller = given.costs, given.server.controller
    given.server.controller = replace(controller, measures_update=asks)
    half = ServerHalf(given.server, given.masked, time_scale=1.0)
    assert half.keeps_weights(given.server.plan()) == asks
    half.close(end_of(given, half, accepted, before=given.masked.parameters + 2.0))
    (observation,) = seen.seen
    assert (observation.update_norms is not None) == has
    if has:
        expected = sorted([2.0 * 6**0.5, 2.0 * 2**0.5, 2.0 * 2**0.5])
        assert sorted(observation.update_norms) == pytest.approx(expected, rel=1e-5)


def test_weights_are_kept_for_what_a_method_needs(world: Callable) -> None:
    given = world(method=asking(Needs.WEIGHTS))
    half = ServerHalf(given.server, given.masked, time_scale=1.0)
    assert half.keeps_weights(given.server.plan())


@pytest.mark.parametrize("needs", [Needs.IMPORTANCE, Needs.WEIGHTS, Needs.NOTHING])
def test_a_mask_that_stays_is_no_new_one_to_anybody(world: Callable, needs: Needs) -> None:
    given, announced = world(method=asking(needs)), []
    given.server.pruning.announce = lambda: announced.append(None)
    half = ServerHalf(given.server, given.masked, time_scale=1.0)
    summed = ImportanceSum(np.ones(10), left_out=0) if Needs.IMPORTANCE in needs else None
    end = end_of(given, half, [1], before=given.masked.parameters, importance=summed)
    assert half.close(end) is given.masked.mask
    assert half.report(end, given.masked.mask, 0, 0).change is None
    assert not announced


def test_who_trained_whom_is_reported_for_each_client(world: Callable) -> None:
    given = world()
    half = ServerHalf(given.server, given.masked, time_scale=1.0)
    end = end_of(given, half, [0, 1], importance=ImportanceSum(np.zeros(10), left_out=3))
    half.close(end)
    report = half.report(end, given.masked.mask, 7, 900)
    assert report.rank_of.tolist() == [1, 0, 1, 0]
    assert (report.mask_since, report.carried_bytes, report.importance_left_out) == (7, 900, 3)
    assert (report.test_loss, report.test_accuracy) == (0.5, 0.25)


def test_who_stops_early_is_not_unready(world: Callable) -> None:
    """Training here took until 50 s; the message of client 3 is too long for the deadline."""
    given = world("federation.deadline_s=2")
    half = ServerHalf(given.server, given.masked, time_scale=0.5)
    records = given.records(ready_s=50.0, message_bytes=[112, 112, 112, 9000])
    end = end_of(given, half, [0, 1, 2], records=records)
    half.close(end)
    report = half.report(end, given.masked.mask, 0, 0)
    arrival_s = 0.056 + 1.0 + 0.112
    assert report.unready_s == pytest.approx([0.5 * (50.0 - arrival_s)] * 3 + [0.0])
