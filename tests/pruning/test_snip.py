"""SNIP keeps the largest |w g| over all layers together."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.pruning import snip
from fedmpi.pruning.interface import Needs, Observation
from fedmpi.pruning.mask import Mask


def no_draw() -> float:
    raise AssertionError("no draw is to be taken")


def test_a_small_example(layers_of: Callable) -> None:
    weights = np.array([1, -2, 3, 9, 4, 1], np.float32)
    gradient = np.array([5, 4, -1, 0, 1, 6], np.float32)  # |w g|: 5, 8, 3, -, 4, 6
    mask = snip.prune(weights, gradient, layers_of([3, -1, 2]), 0.6)
    assert mask.flags().tolist() == [True, True, False, True, False, True]


@given(data=st.data(), sizes=st.lists(st.integers(-4, 9), min_size=1, max_size=4), density=st.floats(0, 1))
def test_it_equals_a_stable_sort(
    layers_of: Callable, data: st.DataObject, sizes: list[int], density: float
) -> None:
    total = sum(map(abs, sizes))
    numbers = st.lists(st.integers(-3, 3), min_size=total, max_size=total)
    weights, gradient = (np.array(data.draw(numbers), np.float32) for _ in range(2))
    layers = layers_of(sizes)
    prunable = [j for layer in layers if layer.prunable for j in range(layer.start, layer.stop)]
    kept = sorted(prunable, key=lambda j: -abs(weights[j] * gradient[j]))[: round(density * len(prunable))]
    expected = [j not in prunable or j in kept for j in range(total)]
    assert snip.prune(weights, gradient, layers, density).flags().tolist() == expected


def test_it_prunes_once(setup_of: Callable) -> None:
    setup = setup_of([4], target_density=0.5)
    state = snip.init(setup, Mask(4))
    assert snip.needs(setup, state, 0) is Needs.WEIGHTS | Needs.GRADIENT
    seen = Observation(0, np.arange(4, dtype=np.float32), np.ones(4, np.float32))
    state, change = snip.step(setup, state, seen, no_draw)
    assert change is not None
    assert change.mask is state.mask
    assert dict(change.facts) == {"active_before": 4, "active": 2}
    state = snip.SnipState.from_dict(state.to_dict())
    assert state.mask.flags().tolist() == [False, False, True, True]
    assert snip.needs(setup, state, 1) is Needs.NOTHING
    assert snip.step(setup, state, Observation(1), no_draw) == (state, None)


def test_what_is_not_finite_is_refused(layers_of: Callable) -> None:
    for value in (np.nan, np.inf, 1e30):
        vector = np.full(2, value, np.float32)
        with pytest.raises(ValueError, match="not finite"):
            snip.prune(vector, vector, layers_of([2]), 0.5)


def test_a_density_is_needed(setup_of: Callable) -> None:
    with pytest.raises(ValueError, match=r"pruning\.target_density is not set"):
        snip.init(setup_of([4], method="snip"), Mask(4))
    with pytest.raises(ValueError, match="density is"):
        snip.prune(np.ones(2, np.float32), np.ones(2, np.float32), (), 1.5)
