"""Importance from the entries that arrive anyway."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.received_importance import ReceivedImportance
from fedmpi.pruning.importance import add_squares
from fedmpi.sparsification.uploads import Uploads


def uploads(*entries: dict[int, float], dimension: int = 4) -> Uploads:
    """Of each client the entries by index."""
    indices = tuple(np.array(list(each), np.int32) for each in entries)
    values = tuple(np.array(list(each.values()), np.float32) for each in entries)
    return Uploads(indices, values, np.full(len(entries), 1 / len(entries)), dimension)


def test_squares_of_all_rounds_are_weighted_by_samples() -> None:
    received = ReceivedImportance(4)
    received.add(uploads({0: 2.0, 3: -1.0}, {3: 3.0}), np.array([10, 4]), None)
    received.add(uploads({1: 1.0}, {0: 1.0}), np.array([1, 2]), None)
    assert received.with_pruned(np.zeros(4)).tolist() == [42, 1, 0, 46]


def test_indices_count_among_active_parameters() -> None:
    received = ReceivedImportance(6)
    support = np.array([1, 2, 4, 5], np.int32)
    received.add(uploads({0: 2.0, 2: 1.0}), np.array([3]), support)
    assert received.with_pruned(np.zeros(6)).tolist() == [0, 12, 0, 0, 3, 0]


def test_what_was_sent_of_one_round_counts_for_all() -> None:
    received = ReceivedImportance(4)
    for _ in range(3):
        received.add(uploads({0: 1.0}), np.array([2]), None)
    assert received.with_pruned(np.array([0, 0, 5.0, 0])).tolist() == [6, 0, 15, 0]
    received.clear()
    assert received.with_pruned(np.ones(4)).tolist() == [0, 0, 0, 0]


def test_it_goes_on_from_a_checkpoint() -> None:
    received, again = ReceivedImportance(4), ReceivedImportance(4)
    received.add(uploads({0: 1.5}), np.array([2]), None)
    again.restore(*received.to_dict())
    received.clear()
    again.add(uploads({0: 1.0}), np.array([2]), None)
    assert again.with_pruned(np.ones(4)).tolist() == [8.5, 2, 2, 2]


@given(seed=st.integers(0, 2**32 - 1), samples=st.integers(1, 1000))
def test_what_one_client_sends_in_full_in_one_round_is_full_importance(seed: int, samples: int) -> None:
    """Half of the parameters are active and travel, of the others the squares are sent."""
    rng = np.random.default_rng(seed)
    gradient = rng.standard_normal(40).astype(np.float32)
    active = np.flatnonzero(rng.random(40) < 0.5).astype(np.int32)
    full, of_pruned = np.zeros(40, np.float32), np.zeros(40)
    add_squares(full, gradient, float(samples))
    of_pruned[:] = full
    of_pruned[active] = 0.0
    received = ReceivedImportance(40)
    sent = Uploads((np.arange(active.size, dtype=np.int32),), (gradient[active],), np.ones(1), active.size)
    received.add(sent, np.array([samples]), active)
    np.testing.assert_allclose(received.with_pruned(of_pruned), full, rtol=1e-6)
