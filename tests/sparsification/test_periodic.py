import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.sparsification import periodic
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice


def coordinates(seed: int, dimension: int, round_index: int, k: int) -> np.ndarray:
    return periodic.coordinates(dimension, k, Choice(seed, round_index, ALL_CLIENTS, ()))


@given(st.integers(0, 99), st.integers(1, 60), st.integers(1, 60), st.integers(0, 3))
def test_every_coordinate_comes_once_a_cycle(seed: int, dimension: int, k: int, cycle: int) -> None:
    k = min(k, dimension)
    rounds = -(-dimension // k)
    sets = [coordinates(seed, dimension, cycle * rounds + turn, k) for turn in range(rounds)]
    for chosen in sets:
        assert chosen.dtype == np.int32
        assert len(chosen) == k
        assert (np.diff(chosen) > 0).all()
    times = np.bincount(np.concatenate(sets), minlength=dimension)
    again = rounds * k - dimension  # how many top up the last set
    assert sorted(times.tolist()) == [1] * (dimension - again) + [2] * again
    assert np.bincount(np.concatenate(sets[:-1]) if rounds > 1 else [], minlength=dimension).max() <= 1


def test_cycles_and_seeds_differ_and_rounds_repeat() -> None:
    first = coordinates(1, 1000, 0, 100)
    assert not np.array_equal(first, coordinates(1, 1000, 10, 100))
    assert not np.array_equal(first, coordinates(2, 1000, 0, 100))
    np.testing.assert_array_equal(first, coordinates(1, 1000, 0, 100))


def test_what_tops_up_is_drawn_evenly() -> None:
    """5 coordinates, 2 a round: one of the four that were dealt comes again."""
    firsts = 0
    for seed in range(400):
        sets = [set(coordinates(seed, 5, turn, 2).tolist()) for turn in range(3)]
        firsts += len(sets[2] & sets[0])
    assert 150 < firsts < 250


@pytest.mark.parametrize("k", [0, 6])
def test_a_k_outside_the_dimension_is_refused(k: int) -> None:
    with pytest.raises(ValueError, match="allowed are 1 to 5"):
        coordinates(0, 5, 0, k)
