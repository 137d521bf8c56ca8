"""Largest remainders: exact sums, quotas kept, ties to the first."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.numerics.apportionment import largest_remainder

WEIGHTS = st.lists(st.integers(0, 50), min_size=1, max_size=6).filter(any)


@given(WEIGHTS, st.integers(0, 500), st.booleans())
def test_quotas_are_kept_and_the_sum_is_exact(weights: list[int], total: int, as_shares: bool) -> None:
    given_weights = np.array(weights) / sum(weights) if as_shares else weights
    counts = largest_remainder(given_weights, total).tolist()
    assert sum(counts) == total
    quotas = [Fraction(weight * total, sum(weights)) for weight in weights]
    assert all(abs(count - quota) < 1 for count, quota in zip(counts, quotas, strict=True))
    rounded_up = [q - int(q) for count, q in zip(counts, quotas, strict=True) if count > q]
    rounded_down = [q - int(q) for count, q in zip(counts, quotas, strict=True) if count < q]
    assert min(rounded_up, default=1) >= max(rounded_down, default=0)


def test_ties_go_to_the_first() -> None:
    assert largest_remainder([0.25] * 4, 6).tolist() == [2, 2, 1, 1]
    assert largest_remainder([4, 4, 4], 2).tolist() == [1, 1, 0]


def test_a_quota_within_rounding_of_a_whole_number_is_that_number() -> None:
    assert largest_remainder([0.1, 0.2, 0.7], 30).tolist() == [3, 6, 21]


@pytest.mark.parametrize("weights", [[], [0, 0], [-1, 2], [np.nan, 1.0], [np.inf, 1.0]])
def test_weights_that_cannot_be_divided_by_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must be finite"):
        largest_remainder(weights, 3)
