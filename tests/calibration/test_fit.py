"""The linear time model is found where it holds, and its errors are told where it does not."""

import numpy as np
import pytest

from fedmpi.calibration import fit

SIZES = np.array([800, 51_200, 6_422_528])
TRUE = np.array([0.0, 1.8e-6, 1.3e-8])
ACTIVE = np.array(
    [[0.02, 0.02, 0.02], [0.4, 0.4, 0.4], [0.4, 0.02, 0.02], [0.02, 0.4, 0.02], [0.02, 0.02, 0.4]]
)


def test_exact_steps_give_their_coefficients():
    active = ACTIVE * SIZES
    found = fit(active, 0.012 + active @ TRUE)
    assert found.constant_s == pytest.approx(0.012)
    np.testing.assert_allclose(found.seconds_per_parameter, TRUE, rtol=1e-6, atol=1e-12)
    assert found.errors.max() < 1e-9
    assert found.left_out.shape == (5,)
    assert found.seconds(SIZES) == pytest.approx(0.012 + SIZES @ TRUE)


def test_no_coefficient_is_negative():
    active = ACTIVE * SIZES
    found = fit(active, 0.012 + active @ TRUE - 1e-6 * active[:, 0])
    assert found.seconds_per_parameter[0] == 0.0
    assert found.errors.max() > 1e-3


def test_errors_are_relative_and_those_of_points_left_out_are_larger():
    active = np.arange(1.0, 7.0)[:, None]
    seconds = 1.0 + active[:, 0]
    seconds[3] *= 1.5
    found = fit(active, seconds)
    assert found.errors == pytest.approx(abs(np.array([found.seconds(a) for a in active]) / seconds - 1))
    assert found.left_out[3] == pytest.approx(1 - 1 / 1.5)
    assert found.left_out[3] > found.errors[3]


def test_the_crossover_is_where_sparse_takes_as_long_as_dense():
    active = ACTIVE * SIZES
    found = fit(active, 0.012 + active @ TRUE)
    density = found.crossover(SIZES, 0.030)
    assert found.seconds(density * SIZES) == pytest.approx(0.030)
    assert found.crossover(SIZES, 0.010) < 0
    assert found.crossover(SIZES, 10.0) > 1
    flat = fit(np.arange(1.0, 4.0)[:, None], [2.0, 2.0, 2.0])
    assert (flat.crossover([1], 3.0), flat.crossover([1], 1.0)) == (np.inf, -np.inf)


def test_what_a_fit_misses_is_relative():
    active = ACTIVE * SIZES
    found = fit(active, 0.012 + active @ TRUE)
    new = np.array([[100, 2000, 30_000], [8, 50, 600]])
    exact = 0.012 + new @ TRUE
    np.testing.assert_allclose(found.missed(new, exact * [1.25, 0.5]), [0.2, 1.0], rtol=1e-6)


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="2 points do not tell 3 coefficients"):
        fit(np.ones((2, 2)), [1.0, 2.0])
    with pytest.raises(ValueError, match="seconds of steps are above 0"):
        fit(np.ones((3, 1)), [1.0, 2.0, 0.0])
