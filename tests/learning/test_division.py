"""Divisions are sequences of arrays that lie in one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.learning.division import Division

PARTS = st.lists(st.lists(st.integers(0, 99), unique=True, max_size=6), min_size=2, max_size=8)


@given(PARTS, st.data())
def test_it_is_the_list_of_its_parts(parts: list[list[int]], data: st.DataObject) -> None:
    division = Division.of([np.array(part, np.int64) for part in parts])
    assert len(division) == len(parts)
    assert [part.tolist() for part in division] == parts
    assert division.sizes.tolist() == [len(part) for part in parts]
    assert [part.tolist() for part in division.in_order()] == [sorted(part) for part in parts]
    assert not division.common
    clients = data.draw(st.lists(st.integers(0, len(parts) - 1)))
    expected = [sample for client in clients for sample in parts[client]]
    assert division.of_clients(np.array(clients, np.int64)).tolist() == expected
    assert [part.tolist() for part in division[1:]] == parts[1:]


def test_parts_in_order_are_not_copied() -> None:
    division = Division.cut(np.array([3, 7, 1, 2, 0]), np.array([2, 0, 2, 1]))
    assert division.in_order() is division


def test_the_same_array_for_all_is_kept_once() -> None:
    everything = np.array([4, 2, 9])
    division = Division.of([everything] * 3)
    assert division.common
    assert division[0] is division[2] is everything
    assert division.sizes.tolist() == [3, 3, 3]
    assert division.of_clients(np.array([0, 2])).tolist() == [4, 2, 9, 4, 2, 9]
    ordered = division.in_order()
    assert ordered.common
    assert ordered[1].tolist() == [2, 4, 9]
    assert not Division.of([everything, everything.copy()]).common


def test_there_is_no_client_beyond_the_last() -> None:
    division = Division.of([])
    assert len(division) == 0
    with pytest.raises(IndexError):
        Division.of([np.arange(2)] * 2)[2]
