"""The trimmed mean: its formula, and that neither the order of clients nor their samples show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fedmpi.aggregation.means import left_out, mean_without_extremes, trimmed_mean

updates_of_clients = arrays(
    np.float32,
    array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.floats(-8, 8, width=32) | st.sampled_from([0.0, -0.0]),
)


def combined(updates: np.ndarray, trim: float) -> np.ndarray:
    combine = trimmed_mean(trim).combine
    assert combine is not None
    return combine(updates, np.arange(1, len(updates) + 1))


def test_the_least_and_the_largest_of_each_coordinate_are_left_out() -> None:
    updates = np.array([[1, 90], [-50, 2], [2, 3], [6, -70], [100, 7]], np.float32)
    np.testing.assert_array_equal(combined(updates, 0.2), np.array([3, 4], np.float32))
    np.testing.assert_array_equal(combined(updates, 0.4), np.array([2, 3], np.float32))


@given(updates_of_clients)
def test_without_trimming_it_is_the_plain_mean(updates: np.ndarray) -> None:
    expected = updates.mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(combined(updates, 0.0), expected, rtol=1e-6, atol=1e-7)


@given(updates_of_clients, st.floats(0, 0.499), st.randoms(use_true_random=False))
def test_the_order_of_clients_does_not_show(updates: np.ndarray, trim: float, random) -> None:
    order = list(range(len(updates)))
    random.shuffle(order)
    one, other = combined(updates, trim), combined(updates[order], trim)
    assert one.dtype == np.float32
    np.testing.assert_array_equal(one.view(np.uint32), other.view(np.uint32))


@given(updates_of_clients, st.floats(0, 0.499))
def test_it_is_odd_and_within_what_is_kept(updates: np.ndarray, trim: float) -> None:
    mean, ordered = combined(updates, trim), np.sort(updates, axis=0)
    np.testing.assert_allclose(combined(-updates, trim), -mean, rtol=1e-6, atol=1e-6)
    cut = left_out(trim, len(updates))
    assert (mean >= ordered[cut] - 1e-6).all()
    assert (mean <= ordered[len(updates) - 1 - cut] + 1e-6).all()


def test_the_sign_of_zeros_does_not_show() -> None:
    for zeros in ([-0.0, 0.0, 0.0], [0.0, -0.0, 0.0], [-0.0, -0.0, -0.0]):
        assert not np.signbit(combined(np.array(zeros, np.float32).reshape(3, 1), 0.4))[0]


def test_a_minority_cannot_move_it_far() -> None:
    draw = np.random.default_rng(0)
    honest = draw.standard_normal((8, 50)).astype(np.float32)
    wild = np.full((2, 50), 1e6, np.float32)
    mean = combined(np.concatenate([wild, honest]), 0.2)
    assert (np.abs(mean) <= np.abs(honest).max(axis=0)).all()


def test_long_updates_are_taken_like_short_ones() -> None:
    updates = np.random.default_rng(0).standard_normal((7, 40_003)).astype(np.float32)
    expected = np.sort(updates, axis=0)[2:-2].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(mean_without_extremes(updates, 2), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("trim", "clients", "expected"),
    [(0.0, 9, 0), (0.1, 9, 0), (0.1, 10, 1), (0.29, 100, 29), (0.49, 2, 0), (0.4999999999999999, 2, 0)],
)
def test_left_out_is_the_whole_part(trim: float, clients: int, expected: int) -> None:
    assert left_out(trim, clients) == expected


def test_as_many_are_left_out_as_the_decimals_say() -> None:
    """29 of the 100 at each end, so that 30 large values show where 29 do not."""
    updates = np.zeros((100, 2), np.float32)
    updates[:29], updates[29, 1] = 42.0, 42.0
    np.testing.assert_array_equal(combined(updates, 0.29), np.array([0, 1], np.float32))


@pytest.mark.parametrize("trim", [0.5, -0.1, float("nan")])
def test_a_trim_out_of_its_range_is_refused(trim: float) -> None:
    with pytest.raises(ValueError, match=f"trim is {trim}; allowed: a number from 0 to below 0.5"):
        trimmed_mean(trim)
