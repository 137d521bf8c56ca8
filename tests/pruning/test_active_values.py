"""What travels under a mask."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from fedmpi.pruning.active_values import ActiveValues, new_mask_bytes
from fedmpi.pruning.mask import Mask


@given(hnp.arrays(np.bool_, st.integers(1, 60)))
def test_what_is_gathered_can_be_taken_off(layers_of: Callable, active: np.ndarray) -> None:
    mask = Mask.of(active)
    layers = layers_of([active.size])
    values = ActiveValues(mask, layers)
    vector = np.arange(1, active.size + 1, dtype=np.float32)
    mask.apply(vector)
    gathered = values.gather(vector, np.full(values.count, np.nan, np.float32))
    assert values.dense == (active.mean() > 0.9)
    if not values.dense:
        np.testing.assert_array_equal(gathered, vector[active])
    values.subtract(gathered, vector)
    assert not vector.any()


def test_what_is_pruned_stays_as_it_is(layers_of: Callable) -> None:
    values = ActiveValues(Mask.of(np.array([True, False, False])), layers_of([3]))
    out = np.full(3, 5, np.float32)
    values.subtract(np.array([7], np.float32), out)
    assert out.tolist() == [-2, 5, 5]


@pytest.mark.parametrize(("active", "dense"), [(90, False), (91, True), (100, True)])
def test_above_nine_tenths_everything_travels(layers_of: Callable, active: int, dense: bool) -> None:
    """The density is that of prunable parameters; what travels are the others too."""
    flags = np.arange(120) < 20 + active
    values = ActiveValues(Mask.of(flags), layers_of([-20, 100]))
    assert values.dense is dense
    assert values.count == (120 if dense else 20 + active)
    assert values.message_bytes() == 16 + 4 * values.count


@pytest.mark.parametrize(
    ("active", "expected"), [(0, 16), (1, 16 + 4), (3, 16 + 12), (4, 16 + 13), (90, 16 + 13)]
)
def test_a_new_mask_travels_as_indices_or_as_bits(layers_of: Callable, active: int, expected: int) -> None:
    flags = np.arange(130) >= 100 - active  # 100 prunable parameters, then 30 others
    assert new_mask_bytes(Mask.of(flags), layers_of([100, -30])) == expected


def test_other_shapes_are_refused(layers_of: Callable) -> None:
    values = ActiveValues(Mask.of(np.array([True, False, False])), layers_of([3]))
    for vector, out in ((np.zeros(4, np.float32), np.zeros(1, np.float32)), (np.zeros(3, np.float32),) * 2):
        with pytest.raises(ValueError, match="3 parameters and 1 values"):
            values.gather(vector, out)
