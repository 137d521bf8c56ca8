"""The sketch of magnitudes: near the exact sums, never falling, the same after its way through a message."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch, counts_of, energies_of

MAGNITUDES = st.floats(2.0**-50, 2.0**50, width=32) | st.just(0.0)
VECTORS = arrays.arrays(np.float32, st.integers(1, 200), elements=MAGNITUDES).map(
    lambda values: values * np.where(np.arange(values.size) % 2, -1, 1).astype(np.float32)
)


def exact(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    squares = np.sort(values.astype(np.float64) ** 2)[::-1]
    return np.cumsum(squares)[counts - 1]


@given(VECTORS)
def test_energies_are_near_the_exact_sums(values: np.ndarray) -> None:
    counts = np.arange(1, values.size + 1)
    found = energies_of(values, counts)
    assert (np.diff(found) >= 0.0).all()
    np.testing.assert_allclose(found, exact(values, counts), rtol=0.07)


def test_energies_of_many_are_within_a_percent() -> None:
    values = np.random.default_rng(3).standard_t(3, 200_000).astype(np.float32)
    counts = counts_of(values.size, 200)
    np.testing.assert_allclose(energies_of(values, counts), exact(values, counts), rtol=0.01)


def test_some_of_very_many_stand_for_all() -> None:
    values = np.random.default_rng(4).laplace(size=3_000_000).astype(np.float32)
    counts = counts_of(values.size, 6_000)
    np.testing.assert_allclose(energies_of(values, counts), exact(values, counts), rtol=0.05)


@given(VECTORS, st.integers(0, 2**32 - 1))
def test_energies_depend_neither_on_order_nor_on_signs(values: np.ndarray, seed: int) -> None:
    counts = np.arange(1, values.size + 1)
    other = np.random.default_rng(seed).permutation(values) * np.float32(-1)
    assert energies_of(other, counts).tolist() == energies_of(values, counts).tolist()


def test_energies_of_more_than_a_block() -> None:
    values = np.full(3 * (1 << 16) + 5, 2.0, np.float32)
    found = energies_of(values, np.array([1, 1 << 16, values.size]))
    np.testing.assert_allclose(found / found[0], [1, 1 << 16, values.size])
    assert found[0] == pytest.approx(4.0, rel=0.07)


@pytest.mark.parametrize(
    ("dimension", "smallest", "points"), [(444_062, 888, 64), (50_000, 100, 20), (1_210, 2, 8)]
)
def test_the_grid(dimension: int, smallest: int, points: int) -> None:
    counts = counts_of(dimension, smallest)
    assert (counts[0], counts[-1], len(counts)) == (smallest, dimension, points)
    assert (np.diff(counts) > 0).all()
    ratios = counts[1:] / counts[:-1]
    assert ratios.max() / ratios.min() < 1.5


@given(st.integers(1, 10**7), st.data())
def test_grids_of_all_sizes(dimension: int, data: st.DataObject) -> None:
    counts = counts_of(dimension, data.draw(st.integers(1, dimension)))
    assert counts[-1] == dimension
    assert (np.diff(counts) > 0).all()
    assert len(counts) <= 64


@pytest.mark.parametrize("smallest", [0, 11])
def test_bounds_of_the_grid(smallest: int) -> None:
    with pytest.raises(
        ValueError, match=rf"smallest is {smallest}, allowed are numbers from 1 to the dimension, 10"
    ):
        counts_of(10, smallest)


@given(VECTORS)
def test_a_sketch_says_the_energies(values: np.ndarray) -> None:
    sketch = MagnitudeSketch(values.size, 3)
    data = sketch.encode(values)
    assert data.dtype == np.uint8
    assert data.size == sketch.bytes == 4 + 2 * (len(sketch.counts) - 1)
    stated, expected = sketch.decode(data), energies_of(values, sketch.counts)
    np.testing.assert_allclose(stated, expected, rtol=2e-3, atol=1e-6 * expected[-1])
    assert (np.diff(stated) >= 0.0).all()


def test_a_sketch_is_small() -> None:
    """A per cent or two of a message of 1 % of the parameters, in pairs of 8 bytes."""
    for dimension in (50_000, 444_062, 6_600_000):
        assert MagnitudeSketch(dimension, round(0.002 * dimension)).bytes <= 0.02 * 8 * 0.01 * dimension


def test_of_nothing_but_zeros() -> None:
    sketch = MagnitudeSketch(20, 2)
    assert not sketch.decode(sketch.encode(np.zeros(20, np.float32))).any()


def test_of_few_that_are_left() -> None:
    """Under a mask with less than the smallest count."""
    sketch = MagnitudeSketch(3, 10)
    assert sketch.counts.tolist() == [3]
    assert sketch.decode(sketch.encode(np.array([2, 0, 0], np.float32)))[0] == pytest.approx(4.0, rel=0.07)


def test_no_sketch_has_no_bytes_under_any_mask() -> None:
    assert NO_SKETCH.bytes == replace(NO_SKETCH, dimension=7).bytes == 0
    assert MagnitudeSketch(7, 7).bytes == 4


def test_what_is_no_sketch() -> None:
    sketch = MagnitudeSketch(20, 2)
    good = sketch.encode(np.ones(20, np.float32))
    with pytest.raises(ValueError, match=r"a sketch is 18 bytes, found uint8 of shape \(17,\)"):
        sketch.decode(good[:-1])
    for at, value in ((0, np.float32(np.nan).view), (0, np.float32(-1.0).view)):
        bad = good.copy()
        bad[at : at + 4] = np.array([value(np.float32)], np.float32).view(np.uint8)
        with pytest.raises(ValueError, match="a norm that is negative or not finite"):
            sketch.decode(bad)
    bad = good.copy()
    bad[4:6] = np.array([1.5], np.float16).view(np.uint8)
    with pytest.raises(ValueError, match="a part above the whole"):
        sketch.decode(bad)


def test_of_the_largest_numbers_there_are() -> None:
    largest = np.finfo(np.float32).max
    sketch = MagnitudeSketch(8, 1)
    stated = sketch.decode(sketch.encode(np.array([largest, 0, 0, -1, 0, 0, 0, 0], np.float32)))
    np.testing.assert_allclose(stated, float(largest) ** 2, rtol=0.07)
    too_much = sketch.decode(sketch.encode(np.full(8, largest, np.float32)))
    np.testing.assert_allclose(too_much / too_much[-1], sketch.counts / 8, rtol=2e-3)
    assert too_much[-1] == float(largest) ** 2


def test_of_the_smallest_numbers_there_are() -> None:
    """Those that would not tell count as nothing; the others' squares do not vanish."""
    sketch = MagnitudeSketch(4, 2)
    assert not sketch.decode(sketch.encode(np.full(4, 1e-44, np.float32))).any()
    stated = sketch.decode(sketch.encode(np.full(4, 2.0**-126, np.float32)))
    np.testing.assert_allclose(stated, sketch.counts * 2.0**-252, rtol=0.07)


def test_a_period_in_very_many_is_not_met() -> None:
    """As in layers whose units of even number are dead."""
    for size in (1 << 21, 3_000_000):
        values = np.arange(size, dtype=np.float32) % 2
        found = energies_of(values, np.array([size // 8, size // 2, size]))
        np.testing.assert_allclose(found / found[-1], [1 / 4, 1.0, 1.0], rtol=0.01)
        assert found[-1] == pytest.approx(size / 2, rel=0.07)


def test_where_nothing_is_active_there_is_no_sketch() -> None:
    assert MagnitudeSketch(0, 5).bytes == 0
