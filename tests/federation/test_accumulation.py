"""The memory of error feedback: one by one and together, under masks, put back, taken out, and its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.accumulation import Accumulation
from fedmpi.pruning import Mask

D = 6
SOME = Mask.of(np.array([True, False, True, True, False, True]))


@dataclass
class Vectors:
    """Vectors of three clients; what is read is a copy where they are on disk, as there."""

    on_disk: bool = False
    rows: np.ndarray = field(default_factory=lambda: np.zeros((3, D), np.float32))

    def read(self, client: int) -> np.ndarray:
        return self.rows[client].copy() if self.on_disk else self.rows[client]

    def write(self, client: int, values: np.ndarray) -> None:
        self.rows[client] = values


@dataclass
class Masked:
    support: np.ndarray | None = None


def made(on_disk: bool = False, mask: Mask | None = None, keeps: bool = True) -> tuple[Any, Vectors]:
    vectors: Any = Vectors(on_disk)
    masked: Any = Masked(None if mask is None else mask.support())
    accumulation = Accumulation(vectors, masked, keeps)
    accumulation.begin()
    return accumulation, vectors


def directions(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(3, D)).astype(np.float32)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("mask", [None, SOME])
def test_rounds_add_up(on_disk: bool, mask: Mask | None) -> None:
    accumulation, vectors = made(on_disk, mask)
    first, second = directions(1), directions(2)
    inside = slice(None) if mask is None else mask.support()
    np.testing.assert_array_equal(accumulation.add(1, first[1]), first[1][inside])
    np.testing.assert_array_equal(accumulation.add(1, second[1]), (first[1] + second[1])[inside])
    expected = np.zeros((3, D), np.float32)
    expected[1][inside] = (first[1] + second[1])[inside]
    np.testing.assert_array_equal(vectors.rows, expected)


@given(st.integers(0, 2**32 - 1), st.booleans(), st.booleans())
def test_together_is_as_one_by_one(seed: int, on_disk: bool, masked: bool) -> None:
    mask = SOME if masked else None
    (one, rows), (many, rows_of_many) = made(on_disk, mask), made(on_disk, mask)
    for round_ in range(3):
        each = directions(seed + round_)
        singly = np.stack([one.add(client, each[client]).copy() for client in (0, 2)])
        np.testing.assert_array_equal(many.add_many(np.array([0, 2]), each[[0, 2]].copy()), singly)
    np.testing.assert_array_equal(rows.rows, rows_of_many.rows)


@pytest.mark.parametrize("on_disk", [False, True])
@pytest.mark.parametrize("together", [False, True])
def test_what_a_client_had_before_the_round_is_put_back(on_disk: bool, together: bool) -> None:
    accumulation, vectors = made(on_disk)
    vectors.rows[:] = before = directions(3)
    before = before.copy()
    accumulation.begin()
    if together:
        accumulation.add_many(np.arange(3), directions(4))
    else:
        for client in range(3):
            accumulation.add(client, directions(4)[client])
    after = vectors.rows.copy()
    accumulation.put_back([2])
    np.testing.assert_array_equal(vectors.rows, [after[0], after[1], before[2]])
    accumulation.put_back()
    np.testing.assert_array_equal(vectors.rows, before)
    accumulation.add(0, directions(5)[0])
    accumulation.begin()
    accumulation.put_back()
    assert (vectors.rows[0] != before[0]).any()


def test_nothing_is_put_back_where_nobody_stops_early() -> None:
    accumulation, vectors = made(keeps=False)
    accumulation.add(0, directions(6)[0])
    accumulation.put_back()
    np.testing.assert_array_equal(vectors.rows[0], directions(6)[0])


@pytest.mark.parametrize("on_disk", [False, True])
def test_what_was_used_is_taken_out_and_what_rounding_lost_stays(on_disk: bool) -> None:
    accumulation, vectors = made(on_disk)
    accumulation.add(1, np.arange(D, dtype=np.float32))
    accumulation.take_out(
        1, np.array([1, 3, 5], np.int32), np.array([1.0, 2.5, 5.0], np.float32), np.array([True, True, False])
    )
    np.testing.assert_array_equal(vectors.rows[1], [0, 0, 2, 0.5, 4, 5])


@pytest.mark.parametrize("on_disk", [False, True])
def test_pruned_parameters_have_nothing(on_disk: bool) -> None:
    accumulation, vectors = made(on_disk)
    vectors.rows[:] = 1.0
    accumulation.prune(SOME, [0, 2])
    np.testing.assert_array_equal(vectors.rows, [SOME.flags(), [1] * D, SOME.flags()])


def test_a_checkpoint_has_what_is_not_on_disk() -> None:
    accumulation, _ = made()
    accumulation.add(1, directions(7)[1])
    other, vectors = made()
    other.restore(1, accumulation.state(1))
    np.testing.assert_array_equal(vectors.rows[1], directions(7)[1])
    assert made(on_disk=True)[0].state(1) == {}


def test_who_has_done_nothing_has_nothing_to_put_back() -> None:
    accumulation, vectors = made()
    vectors.rows[:] = before = directions(8)
    before = before.copy()
    accumulation.add(0, directions(9)[0])
    accumulation.put_back([1, 0])
    np.testing.assert_array_equal(vectors.rows, before)
