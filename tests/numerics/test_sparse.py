"""Sums of sparse vectors against dense ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.sparse import sum_at, union


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 100))
def test_sums_equal_a_loop_in_order(seed: int, dimension: int, entries: int) -> None:
    rng = np.random.default_rng(seed)
    indices = rng.integers(0, dimension, entries).astype(np.int32)
    values = rng.standard_normal(entries) * 10.0 ** rng.integers(-12, 12, entries)
    selected = np.flatnonzero(rng.random(dimension) < 0.5).astype(np.int32)
    expected = dict.fromkeys(selected.tolist(), 0.0)
    for index, value in zip(indices.tolist(), values.tolist(), strict=True):
        if index in expected:
            expected[index] += value
    sums, used = sum_at(selected, indices, values, dimension)
    assert sums.dtype == np.float64
    assert sums.tolist() == list(expected.values())
    np.testing.assert_array_equal(used, np.isin(indices, selected))


def test_union_is_ascending_and_distinct() -> None:
    found = union(np.array([5, 1, 5, 0, 1], np.int32), 7)
    assert found.dtype == np.int32
    assert found.tolist() == [0, 1, 5]
    assert union(np.empty(0, np.int32), 3).tolist() == []
