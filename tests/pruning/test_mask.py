"""Masks: canonical form, bits, and what they do to a vector."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmpi.pruning.mask import Mask, never_pruned


def test_parameters_of_other_layers_are_active_under_every_mask(layers_of: Callable) -> None:
    assert never_pruned(layers_of([4, -3, 5, -1])) == 4
    assert never_pruned(layers_of([4, 5])) == 0


@given(hnp.arrays(np.bool_, st.integers(0, 70)))
def test_bits_give_the_mask_back(active: np.ndarray) -> None:
    mask = Mask.of(active)
    bits = mask.to_bits()
    assert bits.size == -(-active.size // 8)
    again = Mask.from_bits(bits, active.size)
    np.testing.assert_array_equal(again.flags(), active)
    assert again.is_full == mask.is_full == bool(active.all())


def test_the_first_parameter_is_the_highest_bit() -> None:
    active = np.zeros(9, np.bool_)
    active[[0, 8]] = True
    assert Mask.of(active).to_bits().tolist() == [0x80, 0x80]


def test_apply_clears_whatever_is_there() -> None:
    vector = np.array([1.5, -2.0, np.nan, np.inf, -0.0], np.float32)
    Mask.of(np.array([True, False, False, False, True])).apply(vector)
    np.testing.assert_array_equal(vector, np.array([1.5, 0, 0, 0, -0.0], np.float32))
    assert np.signbit(vector).tolist() == [False, False, False, False, True]


def test_a_full_mask_changes_nothing() -> None:
    vector = np.array([1.0, np.nan], np.float32)
    Mask(2).apply(vector)
    np.testing.assert_array_equal(vector, np.array([1.0, np.nan], np.float32))


@pytest.mark.parametrize("vector", [np.zeros(3, np.float64), np.zeros(4, np.float32)])
def test_apply_refuses_other_vectors(vector: np.ndarray) -> None:
    with pytest.raises(ValueError, match="over 3 parameters"):
        Mask(3).apply(vector)


@pytest.mark.parametrize("bits", [np.zeros(1, np.uint8), np.zeros(2, np.int64), np.zeros((2, 1), np.uint8)])
def test_bits_of_another_length_or_type_are_refused(bits: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"over 9 parameters are uint8 of shape \(2,\)"):
        Mask.from_bits(bits, 9)


def test_only_flat_bools_make_a_mask() -> None:
    with pytest.raises(ValueError, match="one-dimensional bool"):
        Mask.of(np.zeros(3, np.uint8))
