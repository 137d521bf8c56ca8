"""Iterative pruning: when, how much, and which weights."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from fedmpi.pruning import iterative
from fedmpi.pruning.interface import Needs, Observation
from fedmpi.pruning.mask import Mask


def no_draw() -> float:
    raise AssertionError("no draw is to be taken")


def test_twenty_prunings_at_equal_distances_over_the_first_half() -> None:
    by_round = [iterative.prunings_by(index, 10_000) for index in range(10_000)]
    steps = [index + 1 for index in range(1, 10_000) if by_round[index] > by_round[index - 1]]
    assert steps == list(range(250, 5_001, 250))
    assert by_round[-1] == 20


def test_a_short_run_prunes_several_times_at_once() -> None:
    assert [iterative.prunings_by(index, 4) for index in range(4)] == [10, 20, 20, 20]


def test_every_pruning_removes_the_same_fraction() -> None:
    counts = [iterative.kept(1_000_000, 0.1, pruning) for pruning in range(21)]
    fractions = [1 - after / before for before, after in pairwise(counts)]
    assert fractions == pytest.approx([1 - 0.1 ** (1 / 20)] * 20, abs=1e-5)
    assert counts[0] == 1_000_000
    assert counts[-1] == 100_000


def test_a_run_ends_at_the_density_with_the_largest_that_were_left(setup_of: Callable) -> None:
    setup = setup_of([50, -3, 200], rounds=80, target_density=0.2)
    state = iterative.init(setup, Mask(253))
    masks = []
    for index in range(80):
        due = iterative.prunings_by(index, 80) > state.prunings
        assert iterative.needs(setup, state, index) is (Needs.WEIGHTS if due else Needs.NOTHING)
        weights = np.random.default_rng(index).standard_normal(253).astype(np.float32)
        before = state.mask
        state = iterative.IterativeState.from_dict(state.to_dict())
        state, change = iterative.step(setup, state, Observation(index, weights if due else None), no_draw)
        assert (change is not None) == due
        if change is not None:
            masks.append(state.mask.flags())
            assert not (state.mask.flags() & ~before.flags()).any()
            dropped = before.flags() & ~state.mask.flags()
            for layer in setup.prunable:
                inside = slice(layer.start, layer.stop)
                sizes = np.abs(weights[inside])
                assert sizes[dropped[inside]].max() < sizes[state.mask.flags()[inside]].min()
    assert len(masks) == 20
    assert state.mask.active_per_layer(setup.layers).tolist() == [10, 3, 40]


def test_a_layer_that_is_smaller_already_stays(setup_of: Callable) -> None:
    setup = setup_of([10], rounds=40, target_density=0.5)
    active = np.zeros(10, np.bool_)
    active[3] = True
    state, change = iterative.step(
        setup, iterative.init(setup, Mask.of(active)), Observation(39, np.ones(10, np.float32)), no_draw
    )
    assert change is not None
    assert state.mask.flags().tolist() == active.tolist()


def test_a_density_is_needed(setup_of: Callable) -> None:
    with pytest.raises(ValueError, match=r"pruning\.method = iterative needs the density"):
        iterative.init(setup_of([4], method="iterative"), Mask(4))
