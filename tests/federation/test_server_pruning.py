"""What a pruning method is asked and shown on the server, and what its masks cost."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

from fedmpi.federation.importance_pairs import ImportanceSum
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.federation.pruning import FinishedRound
from fedmpi.federation.round_cost import Work
from fedmpi.pruning import Change, Losses, Mask, Method, Needs, Observation, Setup, State
from fedmpi.pruning.active_values import new_mask_bytes
from fedmpi.sparsification.uploads import Uploads

BEFORE = np.arange(10, dtype=np.float32)
AFTER = BEFORE * np.float32(0.5) + np.float32(1)
IMPORTANCE = np.arange(10) / 3
LOSSES = Losses(3.0, 2.0, 2.5)
SMALL = Mask.of(np.arange(10) < 9)


@dataclass(frozen=True)
class Counted(State):
    rounds: int


@dataclass
class Seen:
    """A method that asks for ``wanted``, keeps what it sees, and prunes the last parameter after round 1."""

    wanted: Needs
    observations: list[Observation] = field(default_factory=list)
    draws: list[float] = field(default_factory=list)

    def needs(self, setup: Setup, state: Counted, round_index: int) -> Needs:
        assert isinstance(setup, Setup)
        assert isinstance(state, Counted)
        return self.wanted if round_index else Needs.NOTHING

    def step(self, setup: Any, state: Counted, observation: Observation, draw: Callable[[], float]) -> Any:
        self.observations.append(observation)
        self.draws.append(draw())
        change = Change(SMALL, {"pruned": 1}) if observation.round_index == 1 else None
        mask = state.mask if change is None else change.mask
        return Counted(mask, state.rounds + 1), change

    def method(self, **given: Any) -> Method:
        return Method(
            summary="Seen.",
            state=Counted,
            init=lambda setup, mask: Counted(mask, 0),
            needs=self.needs,
            step=self.step,
            **given,
        )


def finished(needs: Needs, index: int = 1, **given: Any) -> FinishedRound:
    plan = RoundPlan(index, Action.NONE, 3, 0, 0.25, 0.0, np.array([0, 2]), needs)
    values = {"before": BEFORE, "importance": ImportanceSum(IMPORTANCE, 0), "losses": LOSSES, **given}
    return FinishedRound(plan, np.array([10, 30]), np.array([1.0, 2.0]), 7, AFTER, **values)


def test_what_was_not_asked_for_is_not_shown(world: Callable) -> None:
    seen = Seen(Needs.NOTHING)
    pruning = world(method=seen.method()).server.pruning
    assert pruning.step(finished(Needs.NOTHING, index=0)) is None
    assert seen.observations == [Observation(0)]
    assert pruning.state.rounds == 1


def test_a_method_is_asked_with_its_setup_and_state(world: Callable) -> None:
    pruning = world(method=Seen(Needs.TIME).method()).server.pruning
    assert pruning.needs(0) is Needs.NOTHING
    assert pruning.needs(1) is Needs.TIME


def test_weights_are_shown_wherever_anything_is_asked_for(world: Callable) -> None:
    seen = Seen(Needs.WEIGHTS)
    pruning = world(method=seen.method()).server.pruning
    change = pruning.step(finished(Needs.WEIGHTS, importance=None))
    assert change is not None
    assert change.mask is SMALL
    assert pruning.state.mask is SMALL
    (observation,) = seen.observations
    assert observation.weights is AFTER
    assert (observation.gradient, observation.time, observation.losses) == (None, None, None)


def test_the_gradient_is_the_update_over_the_learning_rate(world: Callable) -> None:
    seen = Seen(Needs.GRADIENT)
    world(method=seen.method()).server.pruning.step(finished(Needs.GRADIENT))
    gradient = seen.observations[0].gradient
    assert gradient is not None
    assert gradient.dtype == np.float32
    np.testing.assert_array_equal(gradient, (BEFORE - AFTER) / 0.25)


def test_importance_and_losses_are_passed_on(world: Callable) -> None:
    seen = Seen(Needs.IMPORTANCE | Needs.LOSSES)
    pruning = world(method=seen.method()).server.pruning
    pruning.step(finished(Needs.IMPORTANCE | Needs.LOSSES))
    assert seen.observations[0].importance is IMPORTANCE
    assert seen.observations[0].losses is LOSSES


def test_the_time_is_that_of_the_round_under_its_mask(world: Callable) -> None:
    """1000 bytes a second each way: 100 + 4 k up and 200 + 4 k down, 0.25 and 0.5 for each active parameter."""
    seen = Seen(Needs.TIME)
    given = world(method=seen.method())
    given.server.pruning.step(finished(Needs.TIME))
    time = seen.observations[0].time
    assert time is not None
    assert time.seconds_per_parameter.tolist() == pytest.approx([0.00075, 0.00075])
    assert time.constant_s == pytest.approx(2.0 + 0.112 + 0.228)
    given.exchange.period = 4
    given.server.pruning.step(finished(Needs.TIME, index=2))
    assert seen.observations[1].time.constant_s == pytest.approx(2.0 + 0.34 / 4)


def test_k_and_the_mask_are_decided_by_the_same_time(world: Callable) -> None:
    """The time has a fifth of the importance (32 bytes) and of a mask (17 bytes) that travel every five rounds.

    7 values came down for 3 up. The mask leaves 7 of 8 prunable parameters; k = 6 is chosen for it, then again.
    """
    seen = Seen(Needs.TIME | Needs.IMPORTANCE)
    given = world("pruning.reconfigure_every=5", method=seen.method(importance=True))
    pruning = given.server.pruning
    asked: list[tuple[float, ...]] = []

    def best_k(round_s: Callable, most: int) -> int:
        assert most == 9
        asked.append(tuple(round_s(np.array([3, 6])).tolist()))
        return 6

    change, k = pruning.step_with_k(finished(Needs.TIME | Needs.IMPORTANCE), 3, best_k)
    assert k == 6
    assert change is not None
    assert change.facts == {"pruned": 1}
    assert pruning.state.mask is SMALL
    assert pruning.state.rounds == 1
    extra = (32 + new_mask_bytes(Mask(10), pruning.setup.layers)) / 5
    messages = [(300 + 4 * up + 4 * down + extra) / 1000 for up, down in ((3, 7), (6, 10))]
    assert [each.time.constant_s for each in seen.observations] == pytest.approx([2 + s for s in messages])
    assert asked[0] == pytest.approx([2 + s + 0.00075 * 7 for s in messages])
    assert asked[1] == asked[0]
    assert seen.draws == [seen.draws[0]] * 2


def test_the_time_has_the_importance_that_goes_with_each_k(world: Callable) -> None:
    """A sketch of as many pairs as k: 16 bytes, a bitmap of 8 or pairs of 8, and two values that are never pruned."""
    seen = Seen(Needs.TIME | Needs.IMPORTANCE)
    given = world(
        "pruning.importance=sketch", "pruning.reconfigure_every=4", method=seen.method(importance=True)
    )
    pruning, asked = given.server.pruning, []

    def best_k(round_s: Callable, most: int) -> int:
        asked.append(round_s(np.array([1, 6])).tolist())
        return 6

    pruning.step_with_k(finished(Needs.TIME | Needs.IMPORTANCE), 3, best_k)
    importance = [16 + 1 + 4 * entries + 4 * 2 for entries in (1, 6)]
    mask = new_mask_bytes(Mask(10), pruning.setup.layers)
    messages = [
        (300 + 4 * up + 4 * down + (more + mask) / 4) / 1000
        for up, down, more in zip((1, 6), (2, 10), importance, strict=True)
    ]
    assert asked[0] == pytest.approx([2 + s + 0.00075 * 7 for s in messages])


def test_no_more_is_weighed_than_is_active_nor_chosen_than_the_new_mask_leaves(world: Callable) -> None:
    """k was 12 before other masks left 10 active; the next leaves 9."""
    seen, most = Seen(Needs.TIME), []
    pruning = world(method=seen.method()).server.pruning
    time, weighed = pruning.round_time, []

    def round_time(*given: Any) -> Any:
        weighed.append(given[3])
        return time(*given)

    pruning.round_time = round_time

    def best_k(round_s: Callable, up_to: int) -> int:
        most.append(up_to)
        return up_to

    _, k = pruning.step_with_k(finished(Needs.TIME), 12, best_k)
    assert (weighed[:2], most[0], k) == ([3, 10], 9, 9)


@pytest.mark.parametrize("kept", ["no change", "not new"])
def test_where_the_mask_stays_k_does_and_other_k_are_weighed_by_the_round_as_it_is(
    world: Callable, monkeypatch: pytest.MonkeyPatch, kept: str
) -> None:
    """Training took 1 and 2 s, whatever T would make of the present mask; the round before it was as long."""
    change = None if kept == "no change" else Change(Mask(10), {"gain": -0.1}, is_new=False)
    seen, asked = Seen(Needs.TIME), []
    monkeypatch.setattr(seen, "step", lambda setup, state, observation, draw: (state, change))
    pruning = world(method=seen.method()).server.pruning
    time = pruning.round_time

    def with_dense_kernels(*given: Any) -> Any:
        return replace(time(*given), present_s=float(given[3]))

    monkeypatch.setattr(pruning, "round_time", with_dense_kernels)

    def best_k(round_s: Callable, most: int) -> int:
        assert most == 10
        asked.append(round_s(np.array([3, 6])).tolist())
        return 6

    found, k = pruning.step_with_k(finished(Needs.TIME), 3, best_k)
    assert k is None
    assert asked[0] == [3.0, 6.0]
    assert (found is None) == (change is None)
    if found is not None:
        assert (found.is_new, dict(found.facts)) == (False, {"gain": -0.1})


def test_k_stays_where_the_method_does_not_see_the_time(world: Callable) -> None:
    seen = Seen(Needs.WEIGHTS)
    pruning = world(method=seen.method()).server.pruning
    change, k = pruning.step_with_k(finished(Needs.WEIGHTS), 3, lambda round_s, most: 5)
    assert change is not None
    assert (k, change.facts) == (None, {"pruned": 1})


def test_steps_are_samples_over_the_batch_size(world: Callable) -> None:
    seen = Seen(Needs.TIME)
    given, calls = world(method=seen.method()), []
    given.server.pruning.round_time = lambda *arguments: calls.append(arguments)
    given.server.pruning.step(finished(Needs.TIME))
    participants, steps, compute_s, k, k_down = calls[0]
    assert participants.tolist() == [0, 2]
    assert steps.tolist() == [1.0, 3.0]
    assert compute_s.tolist() == [1.0, 2.0]
    assert (k, k_down) == (3, 7)


def test_draws_depend_on_the_round_alone(world: Callable) -> None:
    drawn = []
    for _ in range(2):
        seen = Seen(Needs.NOTHING)
        pruning = world(method=seen.method()).server.pruning
        for index in (0, 2):
            pruning.step(finished(Needs.NOTHING, index=index))
        drawn.append(seen.draws)
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[0][1]


def test_importance_is_a_float32_of_every_prunable_parameter(world: Callable) -> None:
    pruning = world(method=Seen(Needs.NOTHING).method()).server.pruning
    assert pruning.importance_bytes(finished(Needs.IMPORTANCE | Needs.WEIGHTS).plan) == 4 * 8
    assert pruning.importance_bytes(finished(Needs.WEIGHTS).plan) == 0


def test_without_a_probe_a_full_mask_is_tried(world: Callable) -> None:
    assert world(method=Seen(Needs.LOSSES).method()).server.pruning.mask_to_try(AFTER).is_full
    none = Seen(Needs.LOSSES).method(probe=lambda setup, state, weights: None)
    assert world(method=none).server.pruning.mask_to_try(AFTER).is_full
    probe = Seen(Needs.LOSSES).method(probe=lambda setup, state, weights: Mask.of(weights > 2 + state.rounds))
    tried = world(method=probe).server.pruning.mask_to_try(AFTER)
    np.testing.assert_array_equal(tried.flags(), AFTER > 2)


def test_training_is_timed_under_the_present_mask(world: Callable) -> None:
    given, seen = world(method=Seen(Needs.NOTHING).method()), []
    compute = given.server.accountant.fleet.compute
    object.__setattr__(compute, "model", Model(seen.append))
    given.masked.use(Mask.of(np.arange(10) % 2 == 0), 0)
    found = given.server.pruning.compute_seconds(np.array([1]), np.array([4.0]), np.array([0.5]))
    assert found.tolist() == [3.0]
    (training,) = seen
    assert training.clients.tolist() == [1]
    assert (training.steps.tolist(), training.host_s.tolist()) == ([4.0], [0.5])
    assert training.active.tolist() == given.masked.active_prunable.tolist()
    assert training.density == given.masked.density < 1.0


@dataclass
class Model:
    note: Callable

    def seconds(self, costs: Any, training: Any) -> np.ndarray:
        self.note(training)
        return np.array([3.0])


def test_a_new_mask_is_a_version_that_everybody_lacks(world: Callable) -> None:
    given = world(method=Seen(Needs.NOTHING).method())
    downlink = given.server.downlink
    downlink.delivered(np.arange(3))
    given.masked.use(SMALL, 1)
    given.exchange.dimension = 9
    given.server.pruning.announce()
    mask_bytes = new_mask_bytes(SMALL, given.masked.flat.layers)
    assert given.server.pruning.new_mask_bytes(SMALL) == mask_bytes
    assert downlink.version == 1
    assert downlink.dimension == 9
    assert downlink.download_bytes(np.arange(4)).tolist() == [16 + mask_bytes] * 3 + [52 + mask_bytes]


@pytest.mark.parametrize(("mask", "version"), [(SMALL, 1), (Mask(10), 0)])
def test_a_start_under_a_full_mask_is_no_version(world: Callable, mask: Mask, version: int) -> None:
    given = world(method=Seen(Needs.NOTHING).method())
    given.server.pruning.state = Counted(Mask(10), 8)
    given.masked.use(mask, 0)
    given.server.pruning.start()
    assert given.server.pruning.state == Counted(given.masked.mask, 0)
    assert given.server.downlink.version == version


def test_a_method_goes_on_from_its_state(world: Callable) -> None:
    given, again = (world(method=Seen(Needs.NOTHING).method()) for _ in range(2))
    given.server.pruning.state = Counted(SMALL, 5)
    arrays, numbers = given.server.pruning.to_dict()
    assert numbers == {"pruning": {"dimension": 10, "rounds": 5}}
    again.server.pruning.restore(arrays, numbers)
    assert again.server.pruning.state.rounds == 5
    np.testing.assert_array_equal(again.server.pruning.state.mask.flags(), SMALL.flags())
    downlink = again.server.downlink
    assert downlink.version == 0
    downlink.restore(3, {**downlink.state(), "mask_version": np.array([2])})
    again.exchange.dimension = 9
    again.server.pruning.restore(arrays, numbers)
    assert downlink.dimension == 9
    expected = 16 + 4 * 9 + new_mask_bytes(SMALL, again.masked.flat.layers)
    assert downlink.download_bytes(np.array([0])).tolist() == [expected]


def test_where_nothing_is_pruned_nothing_is_kept(world: Callable) -> None:
    pruning = world().server.pruning
    assert pruning.to_dict() == ({}, {})
    pruning.restore({}, {})
    assert pruning.step(finished(Needs.NOTHING)) is None
    assert pruning.needs(0) is Needs.NOTHING


RECEIVED = (
    "pruning.method=prunefl",
    "pruning.importance=received",
    "sparsification.method=fab",
    "sparsification.k=3",
)


def uploads(*values: float) -> Uploads:
    """Of as many clients, each the active parameter 1."""
    count = len(values)
    indices = (np.array([1], np.int32),) * count
    sent = tuple(np.array([value], np.float32) for value in values)
    return Uploads(indices, sent, np.full(count, 1 / count), 9)


def test_what_was_received_since_the_last_mask_counts_as_importance(world: Callable) -> None:
    """Accepted clients alone, times their samples; of pruned parameters what was sent, for both rounds.

    The energy of both rounds, 800, is 400 more than that of what arrived, which the eight silent ones share.
    """
    seen = Seen(Needs.IMPORTANCE)
    given = world(*RECEIVED, method=seen.method(importance=True))
    given.masked.use(Mask.of(np.arange(10) != 0), 0)
    pruning = given.server.pruning
    of_pruned = ImportanceSum(np.where(np.arange(10) == 0, 5.0, 0.0), 0, energy=400.0)
    one = {"accepted": np.array([False, True]), "uploads": uploads(2.0)}
    both = {"accepted": np.array([True, True]), "uploads": uploads(1.0, -3.0)}
    pruning.step(finished(Needs.NOTHING, index=0, importance=None, **one))
    arrays, numbers = pruning.to_dict()
    again = world(*RECEIVED, method=seen.method(importance=True)).server.pruning
    again.restore(arrays, numbers)
    for each in (pruning, again):
        each._masked.use(Mask.of(np.arange(10) != 0), 0)
        each.step(finished(Needs.IMPORTANCE, importance=of_pruned, **both))
        importance = seen.observations[-1].importance
        assert importance is not None
        assert importance.tolist() == [10, 50, 30 * 4 + 10 * 1 + 30 * 9, 50, 50, 50, 50, 50, 50, 50]
    nobodys = {"importance": ImportanceSum(np.zeros(10), left_out=2), "accepted": np.array([False, False])}
    pruning.step(finished(Needs.IMPORTANCE, **nobodys))
    assert not np.any(seen.observations[-1].importance)
    pruning.step(finished(Needs.NOTHING, index=0, importance=None, **one))
    pruning.step(finished(Needs.IMPORTANCE, **nobodys))
    assert not np.any(seen.observations[-1].importance)
    pruning.step(
        finished(Needs.IMPORTANCE, importance=of_pruned, **both)
    )  # what arrived before has been kept
    assert seen.observations[-1].importance.tolist() == importance.tolist()


@pytest.mark.parametrize("accepted", [(True, True), (False, True)])
def test_nothing_is_kept_of_what_arrives_where_importance_travels_in_full(
    world: Callable, accepted: tuple[bool, ...]
) -> None:
    seen = Seen(Needs.IMPORTANCE)
    pruning = world(method=seen.method(importance=True)).server.pruning
    sent = uploads(1.0, -3.0)
    pruning.step(finished(Needs.IMPORTANCE, accepted=np.array(accepted), uploads=sent))
    assert seen.observations[0].importance is IMPORTANCE


def test_a_change_costs_what_importance_and_a_mask_add_to_a_round(world: Callable) -> None:
    """1000 bytes a second: 32 bytes of importance of each client, and those of a mask on the way down."""
    seen = Seen(Needs.IMPORTANCE | Needs.TIME)
    given = world(method=seen.method(importance=True))
    ones = np.ones(2, np.int64)
    work = Work(100 * ones, np.array([1.0, 2.0]), 3 * ones, (112 + 32) * ones)
    given.server.pruning.step(finished(Needs.IMPORTANCE | Needs.TIME, work=work))
    change_s = seen.observations[0].change_s
    assert change_s is not None
    mask_bytes = new_mask_bytes(SMALL, given.masked.flat.layers)
    assert change_s(SMALL) == pytest.approx((32 + mask_bytes) / 1000)
