"""Initial pruning: when it starts, reconfigures and ends."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

from fedmpi.federation.initial_pruning.schedule import InitialPruning, InitialSetup
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import reconfigure
from fedmpi.pruning.round_time import RoundTime

SIZE = 60


@dataclass(frozen=True)
class Layer:
    start: int
    stop: int
    prunable: bool


LAYERS = (Layer(0, SIZE, True),)
TIME = RoundTime(0.01, np.array([1.0]))


def weights_of(round_index: int) -> np.ndarray:
    return np.random.default_rng(round_index).standard_normal(SIZE).astype(np.float32)


def gradient_of(round_index: int, step: int) -> np.ndarray:
    return np.random.default_rng((round_index, step)).standard_normal(SIZE).astype(np.float32)


def schedule_of(**changes: float) -> InitialPruning:
    setup = InitialSetup(**{"classes": 10, "reconfigure_every": 3, **changes})
    return InitialPruning(setup, LAYERS, Mask(SIZE))


def test_it_waits_for_the_accuracy_then_follows_the_reconfiguration() -> None:
    schedule = schedule_of()
    importance = np.zeros(SIZE, np.float32)
    changed = []
    for index in range(12):
        for step in range(2):
            schedule.end_step([gradient_of(index, step)])
            importance += gradient_of(index, step) ** 2
        before = schedule.mask
        accuracy = 0.15 if index == 4 else 0.1  # reached once is enough
        change = schedule.end_round(accuracy, weights_of(index), TIME)
        if change is None:
            continue
        changed.append(index)
        importance[~before.flags()] = 0.0  # what is pruned is not trained
        expected = reconfigure(weights_of(index), importance, before, schedule.layers, [1.0], 0.01, 0.3)
        np.testing.assert_array_equal(change.mask.flags(), expected.mask.flags())
        assert schedule.mask is change.mask
        importance[:] = 0
    assert changed == [5, 8, 11]
    assert schedule.mask.count < SIZE


def test_it_ends_after_five_reconfigurations_of_little_change() -> None:
    """Without gradients nothing returns, and every reconfiguration drops floor(f x active)."""
    schedule = schedule_of(reconfigure_every=1, decrease_fraction=0.1)
    counts = [SIZE]
    schedule.end_round(0.15, weights_of(0), TIME)
    while not schedule.finished:
        schedule.end_round(0.0, weights_of(schedule.rounds), TIME)
        counts.append(schedule.mask.count)
    assert counts == [60, 54, 49, 45, 41, 37]


def test_a_larger_change_starts_the_count_again() -> None:
    """Where all are of the same importance, what was dropped returns; without gradients it does not."""
    schedule = schedule_of(reconfigure_every=1)
    schedule.end_round(1.0, weights_of(0), TIME)
    for _ in range(4):
        schedule.end_step([np.ones(SIZE, np.float32)])
        schedule.end_round(1.0, weights_of(1), TIME)
    assert schedule.mask.is_full
    assert schedule.stable == 4
    schedule.end_round(1.0, weights_of(1), TIME)
    assert schedule.mask.count == 42
    assert schedule.stable == 0
    assert not schedule.finished


def test_what_is_pruned_does_not_return() -> None:
    """Not even with the largest gradients: it takes no part in the training."""
    schedule = schedule_of(reconfigure_every=1)
    schedule.end_round(1.0, weights_of(0), TIME)
    schedule.end_round(1.0, weights_of(1), TIME)
    pruned = ~schedule.mask.flags()
    assert pruned.sum() == 18
    schedule.end_step([np.where(pruned, 100.0, 1.0).astype(np.float32)])
    schedule.end_round(1.0, weights_of(1), TIME)
    np.testing.assert_array_equal(~schedule.mask.flags(), pruned)


def test_it_ends_with_the_last_round() -> None:
    schedule = schedule_of(max_rounds=4)
    for _ in range(4):
        assert not schedule.finished
        schedule.end_round(float("nan"), weights_of(0), TIME)
    assert schedule.finished
    assert schedule.mask.is_full
    with pytest.raises(ValueError, match="finished after 4 rounds"):
        schedule.end_round(1.0, weights_of(0), TIME)


def test_it_stays_below_the_density_limit() -> None:
    schedule = schedule_of(reconfigure_every=1, max_density=0.5)
    schedule.end_round(1.0, weights_of(0), TIME)
    for index in range(1, 6):
        schedule.end_step([gradient_of(index, 0)])
        schedule.end_round(1.0, weights_of(index), RoundTime(1e6, np.array([1.0])))
        assert schedule.mask.count == SIZE // 2


def test_it_continues_from_its_dict() -> None:
    straight, broken = schedule_of(), schedule_of()
    for index in range(10):
        for schedule in (straight, broken):
            schedule.end_step([gradient_of(index, 0)])
            schedule.end_round(1.0, weights_of(index), TIME)
        values = broken.to_dict()
        arrays = {name: values.pop(name).copy() for name in ("mask", "importance")}
        values = json.loads(json.dumps(values))
        broken = InitialPruning.from_dict(straight.setup, straight.layers, {**values, **arrays})
        np.testing.assert_array_equal(broken.importance, straight.importance)
    np.testing.assert_array_equal(broken.mask.flags(), straight.mask.flags())
    assert (broken.rounds, broken.since, broken.stable) == (10, 2, straight.stable)
