"""The exact weighted mean on one rank: what is taken, in any order, and what a revision makes of it."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from fedmpi.mpi import mean_by_segments
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.mean_by_segments import MeanBySegments, Share
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.exact_sum import accumulate, scale_exponent

LENGTH = 21


def averaging(length: int = LENGTH) -> ExactAverage:
    return ExactAverage(Ranks.of(MPI.COMM_SELF), GroupMemory(MPI.COMM_SELF), length)


def mean_of(average: ExactAverage, updates: np.ndarray, weights: np.ndarray, taken: np.ndarray) -> np.ndarray:
    average.begin(len(updates))
    average.rows[: len(updates)] = torch.from_numpy(updates)
    largest = float(np.abs(updates[taken]).max(initial=0.0))
    return average.finish(weights, taken, int(weights[taken].sum()), largest).numpy().copy()


@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 6))
def test_the_mean_is_exact_whatever_the_order(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    updates = draw.standard_normal((count, LENGTH)).astype(np.float32)
    weights, taken = draw.integers(1, 50, count), draw.random(count) < 0.7
    taken[0] = True
    average = averaging()
    mean = mean_of(average, updates, weights, taken)
    order = draw.permutation(count)
    np.testing.assert_array_equal(mean_of(average, updates[order], weights[order], taken[order]), mean)
    total = int(weights[taken].sum())
    for column in range(LENGTH):
        chosen = zip(updates[taken, column].tolist(), weights[taken].tolist(), strict=True)
        exact = sum((Fraction(value) * weight for value, weight in chosen), Fraction()) / total
        assert mean[column] == pytest.approx(float(exact), rel=1e-6, abs=1e-9)


def test_where_nothing_is_taken_the_mean_is_zero() -> None:
    updates = np.full((2, LENGTH), np.nan, np.float32)
    mean = mean_of(averaging(), updates, np.array([3, 4]), np.array([False, False]))
    assert mean.tolist() == [0.0] * LENGTH


def test_what_is_not_taken_may_be_anything() -> None:
    updates = np.ones((2, LENGTH), np.float32)
    updates[0] = np.inf
    assert mean_of(averaging(), updates, np.array([3, 4]), np.array([False, True])).tolist() == [1.0] * LENGTH


def test_a_revision_changes_the_mean_in_place() -> None:
    average, seen = averaging(), []

    def revise(mean: np.ndarray) -> None:
        seen.append(mean.copy())
        mean[:] = -mean

    average.begin(1)
    average.rows[0] = 2.0
    mean = average.finish(np.array([5]), np.array([True]), 5, 2.0, revise)
    assert seen[0].tolist() == [2.0] * LENGTH
    assert mean.tolist() == [-2.0] * LENGTH


def test_fewer_values_may_follow_but_not_more() -> None:
    average = averaging()
    average.resize(5)
    mean = mean_of(average, np.full((1, 5), 3.0, np.float32), np.array([2]), np.array([True]))
    assert mean.tolist() == [3.0] * 5
    average.resize(LENGTH)
    with pytest.raises(ValueError, match=f"updates of {LENGTH + 1} values do not fit, allowed are {LENGTH}"):
        average.resize(LENGTH + 1)


def test_the_rows_stay_for_the_most_participants_seen() -> None:
    average = averaging()
    average.begin(3)
    rows = average.rows
    assert rows.shape == (3, LENGTH)
    assert rows.stride(0) % 16 == 0
    average.begin(2)
    assert average.rows is rows
    average.begin(4)
    assert len(average.rows) == 4


@pytest.mark.parametrize(("total", "carried"), [(1, LENGTH * (4 + 8)), (0, LENGTH * (4 + 8))])
def test_what_is_carried_is_the_sums_and_the_mean(total: int, carried: int) -> None:
    ranks = Ranks.of(MPI.COMM_SELF)
    average = ExactAverage(ranks, GroupMemory(MPI.COMM_SELF), LENGTH)
    average.begin(1)
    average.rows[:] = 0.0
    average.finish(np.array([1]), np.array([total > 0]), total, 0.0)
    assert ranks.carried_bytes == carried


@given(length=st.integers(1, 100_000), ranks=st.integers(1, 40), least=st.sampled_from([1, 16, 1024]))
def test_segments_are_all_of_the_vector_in_order(length: int, ranks: int, least: int) -> None:
    on_ranks: Any = SimpleNamespace(size=ranks)
    with mock.patch.object(mean_by_segments, "_LEAST_SEGMENT", least):
        starts, counts = MeanBySegments(on_ranks)._segments(length)
    assert starts.shape == counts.shape == (ranks,)
    assert (counts >= 0).all()
    assert starts[0] == 0
    assert np.array_equal(starts[1:], (starts + counts)[:-1])
    assert starts[-1] + counts[-1] == length
    assert counts[0] == counts.max() == min(length, -(-length // (ranks * least)) * least)


@given(
    seed=st.integers(0, 2**32 - 1),
    length=st.integers(1, 70),
    piece=st.integers(1, 80),
    short=st.sampled_from([0, 1 << 14]),
)
def test_an_update_and_its_sum_give_the_same_mean_by_segments(
    seed: int, length: int, piece: int, short: int
) -> None:
    draw = np.random.default_rng(seed)
    update = (draw.standard_normal(length) * np.exp2(draw.uniform(-60, 20, length))).astype(np.float32)
    weight = int(draw.integers(1, 1000))
    exponent = scale_exponent(float(np.abs(update).max()), 2 * weight)
    sums = np.empty(length)
    accumulate([update], np.array([weight]), exponent, sums)
    expected = (sums / (2 * weight)).astype(np.float32)
    with mock.patch.multiple(mean_by_segments, _PIECE=piece, _SHORT=short, _LEAST_SEGMENT=1):
        segments = MeanBySegments(Ranks.of(MPI.COMM_SELF))
        for share in (Share(update, weight), Share.of_sums(sums.copy())):
            mean = np.full(length, np.nan, np.float32)
            segments.mean(share, exponent, 2 * weight, mean)
            assert mean.tobytes() == expected.tobytes()
        segments.mean(Share.nothing(), exponent, 2 * weight, mean)
        assert not mean.any()


def test_rows_belong_to_clients_of_the_group() -> None:
    rows = ClientRows(GroupMemory(MPI.COMM_SELF), np.array([2, 5]), 7, 3)
    rows.read(5)[:2] = [1, 2]
    rows.write(5, np.array([1, 2, 3], np.float32))
    assert rows.read(2).tolist() == [0, 0, 0]
    assert rows.read(5).tolist() == [1, 2, 3]
    for client in (0, 6):
        with pytest.raises(LookupError, match=f"client {client} is at home in another group of ranks"):
            rows.read(client)
