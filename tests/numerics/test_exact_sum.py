"""Exact sums: associativity to the bit, and accuracy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics import exact_sum
from fedmpi.numerics.exact_sum import MAX_TOTAL_WEIGHT, accumulate, scale_exponent


def largest(updates: np.ndarray) -> float:
    return float(np.abs(updates).max())


def mean(updates: np.ndarray, weights: np.ndarray, groups: list[np.ndarray]) -> np.ndarray:
    """The weighted mean: of the first group of clients from their updates, of others from their sums."""
    total_weight = int(weights.sum())
    exponent = scale_exponent(largest(updates), total_weight)
    sums = []
    for group in groups[1:]:
        sums.append(np.full(updates.shape[1], -7.0))  # overwritten
        accumulate(updates[group], weights[group], exponent, sums[-1])
    out = np.full(updates.shape[1], np.nan, np.float32)
    exact_sum.mean(list(updates[groups[0]]), weights[groups[0]], sums, exponent, total_weight, out)
    return out


def by_definition(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The mean from integers: every update times its weight in units of 2**-exponent, rounded to even."""
    exponent = scale_exponent(largest(updates), int(weights.sum()))
    products = updates.astype(np.float64) * weights[:, None]  # exact
    total = np.rint(products * np.float64(2.0) ** exponent).astype(np.int64).sum(axis=0)
    return (total / (np.float64(weights.sum()) * np.float64(2.0) ** exponent)).astype(np.float32)


@st.composite
def rounds(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Updates of some clients, of any scale, and their sample counts."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    clients, size = draw(st.integers(1, 9)), draw(st.sampled_from([1, 5, 300, 20_000]))
    scale = np.float64(2.0) ** draw(st.sampled_from([-149, -140, -126, -60, -3, 0, 40, 120]))
    spread = np.exp2(rng.uniform(-draw(st.sampled_from([0, 8, 40])), 0, (clients, size)))
    updates = (rng.standard_normal((clients, size)) * spread * scale).astype(np.float32)
    return updates, rng.integers(1, draw(st.sampled_from([2, 100, 10**6])), clients)


@given(rounds(), st.data())
def test_any_order_and_grouping_gives_the_same_bits(
    case: tuple[np.ndarray, np.ndarray], data: st.DataObject
) -> None:
    updates, weights = case
    clients = len(weights)
    order = np.array(data.draw(st.permutations(range(clients))))
    cuts = sorted(data.draw(st.lists(st.integers(0, clients), max_size=4)))
    together = mean(updates, weights, [np.arange(clients)])
    apart = mean(updates, weights, np.split(order, cuts))
    assert together.tobytes() == apart.tobytes() == by_definition(updates, weights).tobytes()


@given(rounds())
def test_the_mean_is_the_true_one_to_float32_rounding(case: tuple[np.ndarray, np.ndarray]) -> None:
    updates, weights = case
    exact = (updates.astype(np.longdouble) * weights[:, None]).sum(axis=0) / np.longdouble(weights.sum())
    found = mean(updates, weights, [np.arange(len(weights))])
    exponent = scale_exponent(largest(updates), int(weights.sum()))
    rounding = np.spacing(np.abs(exact).astype(np.float32)).astype(np.longdouble) / 2
    share = len(weights) * np.exp2(np.longdouble(-exponent - 1)) / np.longdouble(weights.sum())
    assert (np.abs(found - exact) <= 1.000001 * rounding + share).all()
    # The scale's own share is far below what float32 can tell apart at the largest update.
    assert largest(updates) == 0 or share <= largest(updates) * len(weights) * 2.0**-49


def test_one_client_gets_back_its_own_update() -> None:
    update = np.random.default_rng(0).standard_normal((1, 1000)).astype(np.float32)
    found = mean(update, np.array([17]), [np.array([0])])
    np.testing.assert_array_equal(found, update[0])


def test_sums_at_the_bound_do_not_overflow() -> None:
    most = float(np.finfo(np.float32).max)
    for total_weight in (1, 3, 2**13 - 1, 2**20, MAX_TOTAL_WEIGHT):
        updates = np.full((1, 3), most, np.float32)
        updates[0, 1] *= -1
        np.testing.assert_array_equal(mean(updates, np.array([total_weight]), [np.array([0])]), updates[0])


@pytest.mark.parametrize("value", [0.0, 1e-45, -1.4e-45])
def test_zeros_and_the_smallest_subnormal(value: float) -> None:
    updates = np.full((3, 4), value, np.float32)
    np.testing.assert_array_equal(mean(updates, np.array([1, 2, 3]), [np.arange(3)]), updates[0])


@pytest.mark.parametrize("max_abs", [np.nan, np.inf, -1.0])
def test_a_bound_that_is_none_is_refused(max_abs: float) -> None:
    with pytest.raises(ValueError, match="max_abs"):
        scale_exponent(max_abs, 1)


@pytest.mark.parametrize("total_weight", [0, -1, MAX_TOTAL_WEIGHT + 1])
def test_total_weight_out_of_range_is_refused(total_weight: int) -> None:
    with pytest.raises(ValueError, match="total_weight"):
        scale_exponent(1.0, total_weight)


def test_halves_are_rounded_to_even_by_every_client() -> None:
    exponent = 10
    halves = np.array([[0.5, 1.5, 2.5, -0.5, -1.5, -2.5]] * 3, np.float32) * np.float32(2.0) ** -exponent
    found = np.empty(6)
    accumulate(halves, np.ones(3, np.int64), exponent, found)
    assert (found * 2.0**exponent).tolist() == [0.0, 6.0, 6.0, 0.0, -6.0, -6.0]


@pytest.mark.parametrize("clients", [0, 1, 2, 3])
def test_a_sum_is_in_real_units_and_never_a_negative_zero(clients: int) -> None:
    updates, found = np.tile(np.array([[-0.0, 1.0]], np.float32), (clients, 1)), np.full(2, np.nan)
    accumulate(updates, np.full(clients, 4), 20, found)
    assert found.tolist() == [0.0, 4.0 * clients]
    assert not np.signbit(found).any()


def test_shapes_and_dtypes_that_do_not_fit_are_refused() -> None:
    updates, weights, out = np.zeros((2, 3), np.float32), np.ones(2, np.int64), np.zeros(3)
    with pytest.raises(ValueError, match=r"updates must be float32 \(3,\), not float64 \(3,\)"):
        accumulate(updates.astype(np.float64), weights, 0, out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"updates must be float32 \(3,\), not float32 \(2,\)"):
        accumulate(updates[:, :2], weights, 0, out)
    with pytest.raises(ValueError, match="2 updates do not fit 1 weights"):
        accumulate(updates, weights[:1], 0, out)
    with pytest.raises(ValueError, match=r"out must be float64 \(D,\), not float32 \(3,\)"):
        accumulate(updates, weights, 0, out.astype(np.float32))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"out must be float32 \(D,\), not float64 \(3,\)"):
        exact_sum.mean(updates, weights, [], 0, 2, out)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"sums must be float64 \(3,\), not float64 \(2,\)"):
        exact_sum.mean(updates, weights, [out, out[:2]], 0, 2, np.zeros(3, np.float32))
