"""Magnitude pruning keeps the largest active weights of every layer."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.pruning.magnitude import keep_largest
from fedmpi.pruning.mask import Mask


def test_a_small_example(layers_of: Callable) -> None:
    weights = np.array([3, -5, 1, 9, 0, -2, 2, 2], np.float32)
    mask = Mask.of(np.array([1, 0, 1, 1, 1, 1, 1, 1], np.bool_))
    kept = keep_largest(weights, mask, layers_of([3, -1, 4]), [1, 2])
    assert kept.flags().tolist() == [True, False, False, True, False, True, True, False]


@given(data=st.data(), sizes=st.lists(st.integers(0, 12), min_size=1, max_size=4))
def test_it_equals_a_stable_sort(layers_of: Callable, data: st.DataObject, sizes: list[int]) -> None:
    total = sum(sizes)
    weights = np.array(data.draw(st.lists(st.integers(-3, 3), min_size=total, max_size=total)), np.float32)
    active = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)), np.bool_)
    layers = layers_of(sizes)
    counts = [data.draw(st.integers(0, int(active[la.start : la.stop].sum()))) for la in layers]
    expected = np.zeros(total, np.bool_)
    for layer, count in zip(layers, counts, strict=True):
        inside = [j for j in range(layer.start, layer.stop) if active[j]]
        expected[sorted(inside, key=lambda j: -abs(weights[j]))[:count]] = True
    kept = keep_largest(weights, Mask.of(active), layers, counts)
    np.testing.assert_array_equal(kept.flags(), expected)


def test_more_than_is_there_is_refused(layers_of: Callable) -> None:
    with pytest.raises(ValueError, match="allowed are 0 to 2"):
        keep_largest(np.ones(2, np.float32), Mask(2), layers_of([2]), [3])
