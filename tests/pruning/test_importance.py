"""Sums of squared gradients."""

import numpy as np
import pytest

from fedmpi.pruning.importance import add_squares


@pytest.mark.parametrize("size", [0, 1, 7, 65_539])
def test_squares_times_samples_are_added(size: int) -> None:
    rng = np.random.default_rng(size)
    sums = rng.random(size, dtype=np.float32)
    gradient = rng.standard_normal(size).astype(np.float32)
    before, squares = sums.copy(), gradient * gradient
    add_squares(sums, gradient, 100)
    np.testing.assert_allclose(sums, before + squares * np.float32(100), rtol=1e-6)
    before = sums.copy()
    add_squares(sums, gradient)  # of a single sample
    np.testing.assert_allclose(sums, before + squares, rtol=1e-6)


def test_overflow_shows() -> None:
    sums = np.zeros(1, np.float32)
    add_squares(sums, np.array([3e19], np.float32))
    assert np.isinf(sums[0])


def test_other_shapes_and_types_are_refused() -> None:
    for gradient in (np.zeros(2, np.float32), np.zeros(3)):
        with pytest.raises(ValueError, match="float32 of one shape"):
            add_squares(np.zeros(3, np.float32), gradient)
