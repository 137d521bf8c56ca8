"""Initial pruning: when it starts, reconfigures and ends."""

import json
from collections.abc import Callable

import numpy as np
import pytest

from fedmpi.pruning.initial import InitialPruning, InitialSetup
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import reconfigure
from fedmpi.pruning.round_time import RoundTime

SIZE = 60
TIME = RoundTime(0.01, np.array([1.0]))


def weights_of(round_index: int) -> np.ndarray:
    return np.random.default_rng(round_index).standard_normal(SIZE).astype(np.float32)


def gradient_of(round_index: int, step: int) -> np.ndarray:
    return np.random.default_rng((round_index, step)).standard_normal(SIZE).astype(np.float32)


def machine_of(layers_of: Callable, **changes: float) -> InitialPruning:
    setup = InitialSetup(**{"classes": 10, "reconfigure_every": 3, **changes})
    return InitialPruning(setup, layers_of([SIZE]), Mask(SIZE))


def test_it_waits_for_the_accuracy_then_follows_the_reconfiguration(layers_of: Callable) -> None:
    machine = machine_of(layers_of)
    importance = np.zeros(SIZE, np.float32)
    changed = []
    for index in range(12):
        for step in range(2):
            machine.end_step([gradient_of(index, step)])
            importance += gradient_of(index, step) ** 2
        before = machine.mask
        accuracy = 0.15 if index == 4 else 0.1  # reached once is enough
        change = machine.end_round(accuracy, weights_of(index), TIME)
        if change is None:
            continue
        changed.append(index)
        importance[~before.flags()] = 0.0  # what is pruned is not trained
        expected = reconfigure(weights_of(index), importance, before, machine.layers, [1.0], 0.01, 0.3)
        np.testing.assert_array_equal(change.mask.flags(), expected.mask.flags())
        assert machine.mask is change.mask
        importance[:] = 0
    assert changed == [5, 8, 11]
    assert machine.mask.count < SIZE


def test_it_ends_after_five_reconfigurations_of_little_change(layers_of: Callable) -> None:
    """Without gradients nothing returns, and every reconfiguration drops floor(f x active)."""
    machine = machine_of(layers_of, reconfigure_every=1, decrease_fraction=0.1)
    counts = [SIZE]
    machine.end_round(0.15, weights_of(0), TIME)
    while not machine.finished:
        machine.end_round(0.0, weights_of(machine.rounds), TIME)
        counts.append(machine.mask.count)
    assert counts == [60, 54, 49, 45, 41, 37]


def test_a_larger_change_starts_the_count_again(layers_of: Callable) -> None:
    """Where all are of the same importance, what was dropped returns; without gradients it does not."""
    machine = machine_of(layers_of, reconfigure_every=1)
    machine.end_round(1.0, weights_of(0), TIME)
    for _ in range(4):
        machine.end_step([np.ones(SIZE, np.float32)])
        machine.end_round(1.0, weights_of(1), TIME)
    assert machine.mask.is_full
    assert machine.stable == 4
    machine.end_round(1.0, weights_of(1), TIME)
    assert machine.mask.count == 42
    assert machine.stable == 0
    assert not machine.finished


def test_what_is_pruned_does_not_return(layers_of: Callable) -> None:
    """Not even with the largest gradients: it takes no part in the training."""
    machine = machine_of(layers_of, reconfigure_every=1)
    machine.end_round(1.0, weights_of(0), TIME)
    machine.end_round(1.0, weights_of(1), TIME)
    pruned = ~machine.mask.flags()
    assert pruned.sum() == 18
    machine.end_step([np.where(pruned, 100.0, 1.0).astype(np.float32)])
    machine.end_round(1.0, weights_of(1), TIME)
    np.testing.assert_array_equal(~machine.mask.flags(), pruned)


def test_it_ends_with_the_last_round(layers_of: Callable) -> None:
    machine = machine_of(layers_of, max_rounds=4)
    for _ in range(4):
        assert not machine.finished
        machine.end_round(float("nan"), weights_of(0), TIME)
    assert machine.finished
    assert machine.mask.is_full
    with pytest.raises(ValueError, match="finished after 4 rounds"):
        machine.end_round(1.0, weights_of(0), TIME)


def test_it_stays_below_the_density_limit(layers_of: Callable) -> None:
    machine = machine_of(layers_of, reconfigure_every=1, max_density=0.5)
    machine.end_round(1.0, weights_of(0), TIME)
    for index in range(1, 6):
        machine.end_step([gradient_of(index, 0)])
        machine.end_round(1.0, weights_of(index), RoundTime(1e6, np.array([1.0])))
        assert machine.mask.count == SIZE // 2


def test_it_continues_from_its_dict(layers_of: Callable) -> None:
    straight, broken = machine_of(layers_of), machine_of(layers_of)
    for index in range(10):
        for machine in (straight, broken):
            machine.end_step([gradient_of(index, 0)])
            machine.end_round(1.0, weights_of(index), TIME)
        values = broken.to_dict()
        arrays = {name: values.pop(name).copy() for name in ("mask", "importance")}
        values = json.loads(json.dumps(values))
        broken = InitialPruning.from_dict(straight.setup, straight.layers, {**values, **arrays})
        np.testing.assert_array_equal(broken.importance, straight.importance)
    np.testing.assert_array_equal(broken.mask.flags(), straight.mask.flags())
    assert (broken.rounds, broken.since, broken.stable) == (10, 2, straight.stable)
