import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.k_control.interface import round_stochastically


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
