"""Sums of sparse vectors against dense ones."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.sparse import union, weighted_row_sum_at, weighted_sum_at


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 6))
def test_sums_equal_a_loop_in_order(seed: int, dimension: int, vectors: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, dimension + 1, vectors)
    parts = []
    for length in lengths:
        values = rng.standard_normal(length) * 10.0 ** rng.integers(-12, 12, length)
        indices = rng.choice(dimension, length, replace=False).astype(np.int32)
        parts.append((indices, values.astype(np.float32), float(rng.random())))
    selected = np.flatnonzero(rng.random(dimension) < 0.5).astype(np.int32)
    expected = dict.fromkeys(selected.tolist(), 0.0)
    flags = []
    for indices, values, weight in parts:
        for index, value in zip(indices.tolist(), values.tolist(), strict=True):
            flags.append(index in expected)
            if index in expected:
                expected[index] += weight * value
    sums, used = weighted_sum_at(selected, iter(parts), dimension)
    assert sums.dtype == np.float64
    assert sums.tolist() == list(expected.values())
    assert used.dtype == np.bool_
    assert used.tolist() == flags


def test_union_is_ascending_and_distinct() -> None:
    found = union([np.array([5, 1], np.int32), np.array([5, 0, 1], np.int32)], 7)
    assert found.dtype == np.int32
    assert found.tolist() == [0, 1, 5]
    assert union([], 3).tolist() == []
    many = np.arange(3, 200_000, 7, dtype=np.int32)
    np.testing.assert_array_equal(union([many[::-1]], 200_000), many)


@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(0, 6), st.floats(0.0, 1.0))
def test_sums_of_rows_have_the_bits_of_those_one_after_the_other(
    seed: int, dimension: int, vectors: int, share: float
) -> None:
    rng = np.random.default_rng(seed)
    length = int(share * dimension)
    drawn = [rng.choice(dimension, length, replace=False) for _ in range(vectors)]
    indices = np.array(drawn, np.int32).reshape(vectors, length)
    values = (rng.standard_normal((vectors, length)) * 10.0 ** rng.integers(-12, 12, (vectors, 1))).astype(
        np.float32
    )
    weights = rng.random(vectors)
    selected = np.flatnonzero(rng.random(dimension) < 0.5).astype(np.int32)
    found, used = weighted_row_sum_at(selected, indices, values, weights, dimension)
    parts = zip(indices, values, weights.tolist(), strict=True)
    expected, flags = weighted_sum_at(selected, parts, dimension)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(used, flags)
