"""Importance from the entries that arrive anyway."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.received_importance import ReceivedImportance
from fedmpi.pruning.importance import add_squares
from fedmpi.sparsification.uploads import Uploads

ALL = np.ones(4, bool)


def uploads(*entries: dict[int, float], dimension: int = 4) -> Uploads:
    """Of each client the entries by index."""
    indices = tuple(np.array(list(each), np.int32) for each in entries)
    values = tuple(np.array(list(each.values()), np.float32) for each in entries)
    return Uploads(indices, values, np.full(len(entries), 1 / len(entries)), dimension)


def test_squares_of_all_rounds_are_weighted_by_samples() -> None:
    received = ReceivedImportance(4)
    received.add(uploads({0: 2.0, 3: -1.0}, {3: 3.0}), np.array([10, 4]), None)
    received.add(uploads({1: 1.0}, {0: 1.0}), np.array([1, 2]), None)
    assert received.importance(np.zeros(4), 89 / 2, ALL).tolist() == [42, 1, 0, 46]


def test_updates_count_as_the_gradients_of_which_they_are_made() -> None:
    """Also where the learning rate has become so small that its square is 0; of none nothing is learned."""
    gradients, updates = ReceivedImportance(4), ReceivedImportance(4)
    for rate in (0.25, 2.0**-110):
        gradients.add(uploads({0: 2.0, 3: -1.0}, {3: 3.0}), np.array([10, 4]), None)
        updates.add(uploads({0: 2 * rate, 3: -rate}, {3: 3 * rate}), np.array([10, 4]), None, rate)
    updates.add(uploads({0: 3.0}), np.array([1]), None, 0.0)
    of_gradients, of_updates = (each.to_dict()[0]["received_importance"] for each in (gradients, updates))
    assert of_updates.tolist() == of_gradients.tolist() == [80, 0, 0, 92]


def test_squares_beyond_float32_are_added_up_and_uploads_stay_as_they_are() -> None:
    received, sent = ReceivedImportance(4), uploads({0: 2.0**100, 3: 1.0 + 2.0**-20})
    received.add(sent, np.array([3]), None, 2.0)
    sums = received.to_dict()[0]["received_importance"]
    assert sums.tolist() == [3 * 2.0**198, 0, 0, 0.75 * (1.0 + 2.0**-20) ** 2]
    assert sent.values[0].tolist() == [2.0**100, 1.0 + 2.0**-20]


def test_indices_count_among_active_parameters() -> None:
    received = ReceivedImportance(6)
    support = np.array([1, 2, 4, 5], np.int32)
    received.add(uploads({0: 2.0, 2: 1.0}), np.array([3]), support)
    active = np.array([0, 1, 1, 0, 1, 1], bool)
    assert received.importance(np.zeros(6), 15, active).tolist() == [0, 12, 0, 0, 3, 0]


def test_what_was_sent_of_one_round_counts_for_all() -> None:
    received = ReceivedImportance(4)
    for _ in range(3):
        received.add(uploads({0: 1.0}), np.array([2]), None)
    active = np.array([1, 1, 0, 0], bool)
    assert received.importance(np.array([0, 0, 5.0, 0]), 2, active).tolist() == [6, 0, 15, 0]
    received.clear()
    assert received.importance(np.ones(4), 2, active).tolist() == [0, 0, 0, 0]


def test_what_arrived_is_scaled_down_to_the_stated_energy() -> None:
    """Three rounds of gradients 1 and 2 arrive as 3 and 6, whose squares are 9 and 36 and not 3 and 12."""
    received = ReceivedImportance(4)
    for sent in ({}, {}, {0: 3.0, 1: 6.0}):
        received.add(uploads(sent), np.array([10]), None)
    active = np.array([1, 1, 1, 0], bool)
    assert received.importance(np.array([0, 0, 0, 7.0]), 50, active).tolist() == [30, 120, 0, 21]


def test_what_is_missing_of_the_energy_is_shared_among_those_of_which_nothing_arrived() -> None:
    received = ReceivedImportance(5)
    for _ in range(2):
        received.add(uploads({0: 1.0}, dimension=4), np.array([10]), None)
    active = np.array([1, 1, 1, 0, 1], bool)
    assert received.importance(np.array([0, 0, 0, 4.0, 0]), 25, active).tolist() == [20, 10, 10, 8, 10]


def test_where_something_arrived_of_all_that_is_active_it_is_scaled_up_to_the_energy() -> None:
    """There is nobody to share the rest; and with nothing that is active there is nothing to share."""
    received = ReceivedImportance(3)
    received.add(uploads({0: 1.0, 1: 2.0}, dimension=2), np.array([10]), np.array([0, 2], np.int32))
    active = np.array([1, 0, 1], bool)
    assert received.importance(np.array([0, 7.0, 0]), 75, active).tolist() == [15, 7, 60]
    received.clear()
    received.add(uploads({}, dimension=0), np.array([10]), np.zeros(0, np.int32))
    assert received.importance(np.array([3.0, 7, 0]), 0, np.zeros(3, bool)).tolist() == [3, 7, 0]


def test_it_goes_on_from_a_checkpoint() -> None:
    received, again = ReceivedImportance(4), ReceivedImportance(4)
    received.add(uploads({0: 1.5}), np.array([2]), None)
    again.restore(*received.to_dict())
    received.clear()
    again.add(uploads({0: 1.0}), np.array([2]), None)
    active = np.array([1, 0, 0, 0], bool)
    assert again.importance(np.array([0, 1.0, 1, 1]), 3.25, active).tolist() == [6.5, 2, 2, 2]


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
    flags = np.isin(np.arange(40), active)
    np.testing.assert_allclose(
        received.importance(of_pruned, float(full[active].sum()), flags), full, rtol=1e-5, atol=1e-5
    )
