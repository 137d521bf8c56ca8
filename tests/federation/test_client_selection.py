"""Who takes part in a round, and when it can begin."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedmpi.config import loads
from fedmpi.emulation.availability import Availability, AvailabilityModel, Setup
from fedmpi.federation.client_selection import draw_participants, next_start


def test_participants_are_a_reproducible_uniform_draw() -> None:
    assert np.array_equal(draw_participants(1, 0, np.arange(7), 0), np.arange(7))
    counts = np.zeros(20)
    for round_index in range(2000):
        chosen = draw_participants(3, round_index, np.arange(20), 5)
        assert np.array_equal(chosen, np.unique(chosen))
        assert len(chosen) == 5
        counts[chosen] += 1
    assert np.array_equal(
        draw_participants(3, 9, np.arange(20), 5), draw_participants(3, 9, np.arange(20), 5)
    )
    assert abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_participants_are_drawn_among_the_available() -> None:
    available = np.array([2, 3, 5, 11, 17])
    drawn = [draw_participants(3, round_index, available, 3) for round_index in range(60)]
    assert all(len(chosen) == 3 and (np.diff(chosen) > 0).all() for chosen in drawn)
    assert set(np.concatenate(drawn).tolist()) == {2, 3, 5, 11, 17}
    for per_round in (0, 5, 9):
        np.testing.assert_array_equal(draw_participants(3, 0, available, per_round), available)


def availability_of(available: Callable, next_s: Callable | None = None) -> Availability:
    model = AvailabilityModel(summary="Some.", available=available, next_s=next_s)
    return Availability(model, Setup(loads("").emulation.availability, 8, 0))


def test_a_round_begins_now_where_somebody_is_available() -> None:
    config = loads("clients.count = 8", ["clients.per_round=2", "federation.over_selection=0.5"])
    start = next_start(config, availability_of(lambda setup, r, s: np.arange(8) != 3), 4, 7.5)
    assert start is not None
    assert (start.round_index, start.start_s) == (4, 7.5)
    asked = draw_participants(config.experiment.seed, 4, np.array([0, 1, 2, 4, 5, 6, 7]), 3)
    assert start.participants.tolist() == asked.tolist()


def test_a_round_begins_when_somebody_comes() -> None:
    """Two of the moments at which somebody may come pass without anybody."""
    config = loads("clients.count = 8")
    some = availability_of(
        lambda setup, r, s: (np.arange(8) == 5) & (s >= 12.0 + r), lambda setup, r, s: s + 4.0
    )
    start = next_start(config, some, 1, 2.0)
    assert start is not None
    assert (start.start_s, start.participants.tolist()) == (14.0, [5])


def test_a_round_never_begins_where_nobody_ever_comes() -> None:
    assert next_start(loads(""), availability_of(lambda setup, r, s: np.zeros(8, bool)), 0, 0.0) is None
