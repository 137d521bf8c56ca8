"""Messages are released each at its own moment, and the moments that were missed are gathered from all ranks."""

from __future__ import annotations

from math import nan

import numpy as np
import pytest
from mpi4py import MPI

from fedmpi.emulation.clock import VirtualClock
from fedmpi.federation.exchange import Roster
from fedmpi.federation.release import RELEASE, Releases
from fedmpi.mpi.collectives import Ranks


class LateClock:
    """Emulated time passes by waiting alone; moments are missed by ``late_s``, or by as much as they have passed."""

    runs = True

    def __init__(self, late_s: float = 0.0) -> None:
        self.now = 0.0
        self.late_s = late_s
        self.waited: list[float] = []

    def now_s(self) -> float:
        return self.now

    def hold_until(self, emulated_s: float) -> float:
        self.waited.append(emulated_s)
        self.now = max(self.now, emulated_s + self.late_s)
        return self.now - emulated_s


@pytest.fixture
def ranks() -> Ranks:
    return Ranks.of(MPI.COMM_SELF)


def a_roster(*dealt: list[int]) -> Roster:
    clients = np.sort(np.concatenate([np.array(d, dtype=np.int64) for d in dealt]))
    ones = np.ones(len(clients), dtype=np.int64)
    of_ranks = [np.array(d, dtype=np.int64) for d in dealt]
    return Roster(clients, ones == 1, ones, ones, 1.0, of_ranks, ones == 1)


def test_each_message_has_its_own_moment_the_earliest_first(ranks: Ranks) -> None:
    clock = LateClock()
    releases = Releases(ranks, clock, a_roster([3, 5, 7, 9]))
    releases.hold(np.array([2.0, 1.0, 4.0, 3.0]))
    assert clock.waited == [1.0, 2.0, 3.0, 4.0]
    assert releases.achieved["late_s"].tolist() == [0.0] * 4


def test_a_late_release_delays_those_soon_after_it_and_no_others(ranks: Ranks) -> None:
    clock = LateClock()
    clock.now = 1.5
    releases = Releases(ranks, clock, a_roster([0, 1, 2]))
    releases.hold(np.array([3.0, 1.25, 1.0]))
    assert releases.gather()["late_s"].tolist() == [0.0, 0.25, 0.5]


def test_the_worst_of_a_participants_messages_counts(ranks: Ranks) -> None:
    clock = LateClock(late_s=0.5)
    releases = Releases(ranks, clock, a_roster([4, 6]))
    releases.hold(np.array([1.0, 3.0]))
    clock.late_s = 0.25
    releases.hold(np.array([10.0, 3.0]))
    assert releases.gather()["late_s"].tolist() == [0.5, 0.5]
    clock.late_s = 1.0
    releases.hold_until_servers(np.array([30.0, 20.0]))
    assert releases.gather()["late_s"].tolist() == [1.0, 1.0]


def test_the_release_of_an_update_is_recorded_and_not_that_of_the_losses(ranks: Ranks) -> None:
    clock = LateClock(late_s=0.5)
    releases = Releases(ranks, clock, a_roster([4, 6]))
    releases.hold(np.array([3.0, 1.0]))
    releases.hold(np.array([10.0, 20.0]))
    assert releases.gather()["released_s"].tolist() == [3.5, 1.5]


class BusyClock(LateClock):
    """Whatever is done between two looks at it takes a second."""

    def now_s(self) -> float:
        self.now += 1.0
        return self.now - 1.0


def test_the_release_is_read_at_once(ranks: Ranks) -> None:
    releases = Releases(ranks, BusyClock(), a_roster([4, 6]))
    releases.hold(np.array([10.0, 20.0]))
    assert releases.gather()["released_s"].tolist() == [10.0, 20.0]


def test_what_is_said_about_moments_is_not_counted_as_carried(ranks: Ranks) -> None:
    releases = Releases(ranks, LateClock(), a_roster([0, 1]))
    ranks.carried_bytes = 7
    releases.hold_until_servers(np.array([1.0, 2.0]))
    releases.gather()
    assert ranks.carried_bytes == 7


def test_under_a_virtual_clock_nothing_is_held_or_measured(ranks: Ranks) -> None:
    releases = Releases(ranks, VirtualClock(), a_roster([0, 1]))
    releases.hold(np.array([1.0, 2.0]))
    releases.hold_until_servers(None)
    for name in ("late_s", "released_s"):
        np.testing.assert_array_equal(releases.gather()[name], [nan, nan])


class _OtherRanks:
    """The server of three ranks, with the rows that the others sent."""

    rank = 0
    carried_bytes = 0

    def gather_rows(self, rows: np.ndarray, counts: list[int]) -> np.ndarray:
        assert counts == [0, 2, 3]
        return np.array([(late_s, 10 * late_s) for late_s in (0.3, 0.1, 0.0, 0.2, 0.4)], dtype=RELEASE)


def test_what_ranks_measured_is_put_in_the_order_of_clients() -> None:
    releases = Releases(_OtherRanks(), LateClock(), a_roster([], [3, 1], [0, 2, 4]))
    assert releases.gather()["late_s"].tolist() == [0.0, 0.1, 0.2, 0.3, 0.4]
    assert releases.gather()["released_s"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
