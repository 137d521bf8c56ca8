"""A client's own test samples: held back from its training samples, or those of its writers."""

from __future__ import annotations

from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.learning.division import Division
from fedmpi.learning.own_tests import hold_back, of_writers

PERCENT = 100


@given(
    st.lists(st.integers(1, 40), min_size=2, max_size=6),
    st.integers(1, PERCENT - 1),
    st.integers(0, 2**40),
)
def test_a_part_of_each_clients_samples_is_held_back(sizes, percent, seed):
    starts = np.cumsum([0, *sizes])
    samples = [np.arange(start, start + size) for start, size in zip(starts, sizes, strict=False)]
    train, test = hold_back(Division.of(samples), percent / PERCENT, seed)
    for part, kept, held in zip(samples, train, test, strict=True):
        assert len(held) == min(ceil(percent * len(part) / PERCENT), len(part) - 1)
        assert len(kept) >= 1
        assert np.array_equal(np.sort(np.concatenate([kept, held])), part)
        assert (np.diff(kept) > 0).all()
        assert (np.diff(held) > 0).all()


def test_what_is_held_back_is_drawn_for_each_client_on_its_own():
    samples = [np.arange(100), np.arange(100, 200), np.arange(200, 300)]
    _, test = hold_back(Division.of(samples), 0.2, seed=3)
    assert not np.array_equal(test[0], test[1] - 100)
    _, fewer = hold_back(Division.of([np.arange(50), *samples[1:]]), 0.2, seed=3)
    assert np.array_equal(fewer[1], test[1])
    _, other = hold_back(Division.of(samples), 0.2, seed=4)
    assert not np.array_equal(other[1], test[1])


def test_clients_that_share_their_samples_share_what_is_held_back():
    everything = np.arange(30)
    train, test = hold_back(Division.of([everything] * 3), 0.1, seed=0)
    assert train[0] is train[1] is train[2]
    assert test[0] is test[2]
    assert (len(train[0]), len(test[0])) == (27, 3)


def test_the_test_samples_of_a_clients_writers_are_its_own():
    train_writer = np.array([7, 7, 900, 3, 3, 900])
    test_writer = np.array([900, 3, -1, 7, 3, 5, 10**15])
    samples = [np.array([0, 1, 3, 4]), np.array([2, 5])]
    own = of_writers(train_writer, test_writer, Division.of(samples))
    assert own is not None
    assert [part.tolist() for part in own] == [[1, 3, 4], [0]]
    missing = of_writers(train_writer, test_writer, Division.of([samples[1], np.array([0])]))
    assert missing is not None
    assert [part.tolist() for part in missing] == [[0], [3]]


@pytest.mark.parametrize(
    ("train_writer", "test_writer", "samples"),
    [
        (None, [0], [[0], [1]]),
        ([0, 1], None, [[0], [1]]),
        ([4, 4], [4], [[0], [1]]),  # one writer at two clients
    ],
)
def test_nothing_is_a_clients_own_where_writers_are_not(train_writer, test_writer, samples):
    writers = [None if given is None else np.array(given) for given in (train_writer, test_writer)]
    assert of_writers(*writers, Division.of([np.array(part) for part in samples])) is None
