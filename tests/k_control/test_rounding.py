import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.k_control.interface import round_stochastically
from fedmpi.numerics.streams import Purpose, generator


@given(st.floats(-1e6, 1e6), st.floats(0, 1, exclude_max=True))
def test_rounding_gives_one_of_the_two_neighbours(number: float, uniform: float) -> None:
    rounded = round_stochastically(number, lambda: uniform)
    assert np.floor(number) <= rounded <= np.ceil(number)


@pytest.mark.parametrize("number", [0.0, 7.0, 2.25, 1234.5, -0.9])
def test_rounding_is_unbiased(number: float) -> None:
    """Over uniforms that cover [0, 1) evenly the mean is the number itself."""
    uniforms = (np.arange(1000) + 0.5) / 1000
    rounded = [round_stochastically(number, lambda u=u: float(u)) for u in uniforms]
    assert np.mean(rounded) == pytest.approx(number, abs=1e-3)


@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.5, 0.97])
def test_rounding_is_unbiased_over_the_streams_of_runs(fraction: float) -> None:
    """One draw from each of 4000 rounds, as the server makes them: within 4 standard deviations."""
    rounded = [
        round_stochastically(100 + fraction, generator(7, Purpose.K_CONTROL, number).random)
        for number in range(4000)
    ]
    assert set(rounded) == {100, 101}
    assert np.mean(rounded) == pytest.approx(
        100 + fraction, abs=4 * (fraction * (1 - fraction) / 4000) ** 0.5
    )
