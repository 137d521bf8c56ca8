"""Exact top-k against a stable sort."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmpi.numerics import topk
from fedmpi.numerics.topk import (
    largest,
    magnitude_order,
    magnitude_order_rows,
    stratified_positions,
    top_k,
    top_k_rows,
)


def reference(values: np.ndarray, k: int) -> np.ndarray:
    """A stable sort by falling magnitude leaves ties at the lowest index."""
    return np.sort(np.argsort(-np.abs(values), kind="stable")[:k])


def check(values: np.ndarray, k: int) -> None:
    chosen = top_k(values, k)
    assert chosen.dtype == np.int32
    np.testing.assert_array_equal(chosen, reference(values, k))


FEW_VALUES = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 1e-45, -1e-45, 3.4e38])


@given(
    hnp.arrays(
        np.float32,
        st.integers(0, 300),
        elements=st.one_of(FEW_VALUES, st.floats(allow_nan=False, allow_infinity=False, width=32)),
    ),
    st.data(),
)
def test_small_vectors_equal_a_stable_sort(values: np.ndarray, data: st.DataObject) -> None:
    check(values, data.draw(st.integers(0, values.size)))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    size=st.integers(2, 120_000),
    levels=st.sampled_from([1, 2, 3, 50, 0]),
    zero_share=st.sampled_from([0.0, 0.5, 0.98, 0.9999]),
    fraction=st.floats(0.0, 1.0),
    power=st.sampled_from([1, 3, 8]),
)
def test_large_vectors_equal_a_stable_sort(
    seed: int, size: int, levels: int, zero_share: float, fraction: float, power: int
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(size).astype(np.float32)
    if levels:
        values = rng.integers(-levels, levels + 1, size).astype(np.float32)
    values[rng.random(size) < zero_share] = 0.0
    check(values, int(size * fraction**power))


SIZES = (topk._SMALL, topk._SMALL + 1, topk._BLOCK, topk._BLOCK + 1, 3 * topk._BLOCK - 3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.0, -2.5, 1e-45])
def test_constant_vectors_give_the_first_indices(size: int, value: float) -> None:
    values = np.full(size, value, np.float32)
    for k in (0, 1, size // 100, size // 2, size - 1, size):
        np.testing.assert_array_equal(top_k(values, k), np.arange(k))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("order", ["rising", "falling"])
def test_sorted_vectors(size: int, order: str) -> None:
    values = np.arange(size, dtype=np.float32)
    if order == "falling":
        values = values[::-1]
    for k in (1, 7, size // 100, size // 8, size // 3, size - 1):
        check(values, k)


@pytest.mark.parametrize("hidden", ["large", "small"])
@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.9])
def test_a_sample_that_sees_nothing_of_the_rest_only_costs_time(hidden: str, fraction: float) -> None:
    size = 200_000
    sampled = topk._sample_positions(size)
    values = np.random.default_rng(3).integers(1, 1000, size).astype(np.float32)
    values[sampled] = values[sampled] + (-5000 if hidden == "small" else 0)
    values[sampled] = 0.0 if hidden == "large" else values[sampled]
    check(values, int(size * fraction))


@pytest.mark.parametrize("edge", [-3, -1, 0, 1, 3])
@pytest.mark.parametrize("tied_share", [0.02, 0.5, 0.97])
def test_the_last_selected_is_at_the_edge_of_a_mass_of_equal_values(edge: int, tied_share: float) -> None:
    size = 100_000
    rng = np.random.default_rng(5)
    values = rng.permutation(np.linspace(-4, 4, size).astype(np.float32))
    values[rng.random(size) < tied_share] = 2.0
    above = int(np.count_nonzero(np.abs(values) > 2.0))
    from_there = int(np.count_nonzero(np.abs(values) >= 2.0))
    check(values, above + edge)
    check(values, min(size, from_there + edge))


@pytest.mark.parametrize("levels", [0, 1, 3, 1000])
def test_what_lies_in_different_blocks_is_put_together(levels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where equal values fill many blocks of 64 entries, and where a block ends within them."""
    monkeypatch.setattr(topk, "_BLOCK", 64)
    values = np.random.default_rng(6).integers(-levels, levels + 1, 5000).astype(np.float32)
    for k in (1, 63, 64, 65, 66, 200, 624, 625):
        check(values, k)
        check(np.where(np.arange(5000) % 64 < 2, values, 0), k)


def test_a_sample_is_taken_at_the_same_positions_as_ever() -> None:
    """A sketch of very many magnitudes, and so a trace, depends on them."""
    positions = stratified_positions(100, 7)
    assert positions.tolist() == [0, 23, 31, 55, 63, 72, 95]
    assert not positions.flags.writeable


def test_layers_of_different_scales() -> None:
    rng = np.random.default_rng(1)
    scales = np.repeat(np.float32([1e-8, 1.0, 1e-3, 1e4, 0.0]), [150_000, 800, 60_000, 10, 20_000])
    values = scales * rng.standard_normal(scales.size).astype(np.float32)
    for k in (5, 10, 11, 809, 900, 2_000, 100_000, 215_000):
        check(values, k)


def test_denormal_magnitudes_are_told_apart() -> None:
    bits = np.random.default_rng(2).integers(0, 2**23, 90_000).astype(np.uint32)
    bits[::2] |= np.uint32(1 << 31)
    check(bits.view(np.float32), 900)


@given(hnp.arrays(np.float32, st.integers(0, 200), elements=FEW_VALUES))
def test_magnitude_order_is_the_stable_order(values: np.ndarray) -> None:
    np.testing.assert_array_equal(magnitude_order(values), np.argsort(-np.abs(values), kind="stable"))


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 80_000), st.floats(0, 1), st.booleans())
def test_largest_of_float64_magnitudes(seed: int, size: int, fraction: float, tied: bool) -> None:
    magnitudes = np.abs(np.random.default_rng(seed).standard_normal(size))
    if tied:
        magnitudes = np.floor(magnitudes * 3)
    k = int(fraction * size)
    np.testing.assert_array_equal(largest(magnitudes, k), reference(magnitudes, k))


def test_the_input_is_left_alone_and_need_not_be_contiguous() -> None:
    values = np.random.default_rng(4).standard_normal(200_000).astype(np.float32)
    before = values.copy()
    check(values[::2], 1000)
    np.testing.assert_array_equal(values, before)


@pytest.mark.parametrize("k", [-1, 4])
def test_k_out_of_range_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="allowed are 0 to 3"):
        top_k(np.zeros(3, np.float32), k)


def test_other_types_are_refused() -> None:
    with pytest.raises(ValueError, match="float64"):
        top_k(np.zeros(3), 1)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="2-D"):
        top_k(np.zeros((3, 2), np.float32), 1)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(0, 20),
    size=st.integers(1, 700),
    levels=st.sampled_from([1, 2, 30, 0]),
    zero_share=st.sampled_from([0.0, 0.5, 0.98]),
    fraction=st.floats(0.0, 1.0),
    tiny=st.booleans(),
)
def test_rows_are_selected_from_as_each_alone(
    seed: int, rows: int, size: int, levels: int, zero_share: float, fraction: float, tiny: bool
) -> None:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal((rows, size + 3)).astype(np.float32)[:, :size]
    if levels:
        values[:] = rng.integers(-levels, levels + 1, values.shape)
    values[rng.random(values.shape) < zero_share] = -0.0
    if tiny:  # magnitudes that are less than any position
        values[::2] *= np.float32(1e-44)
    k = int(fraction * size)
    chosen, order = top_k_rows(values, k), magnitude_order_rows(values)
    assert chosen.shape == (rows, k)
    assert chosen.dtype == np.int32
    for row, indices, falling in zip(values, chosen, order, strict=True):
        np.testing.assert_array_equal(indices, reference(row, k))
        np.testing.assert_array_equal(falling, magnitude_order(row))


def test_long_rows_are_selected_from_as_each_alone() -> None:
    values = np.random.default_rng(3).standard_normal((2, topk._LONGEST_ROW + 1)).astype(np.float32)
    np.testing.assert_array_equal(top_k_rows(values, 50), [reference(row, 50) for row in values])


def test_rows_of_another_shape_or_type_are_refused() -> None:
    with pytest.raises(ValueError, match="two-dimensional, not 1-D"):
        top_k_rows(np.zeros(3, np.float32), 1)
    with pytest.raises(ValueError, match="k is 4, allowed are 0 to 3"):
        top_k_rows(np.zeros((2, 3), np.float32), 4)
    with pytest.raises(ValueError, match="float32, not float64"):
        top_k_rows(np.zeros((2, 3)), 1)
