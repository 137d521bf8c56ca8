"""Transfers that share one server link, max-min fairly.

Every transfer is limited by the link of its own device and by its share of the server's link. At any moment
there is a water level: a transfer moves at its own rate if that lies below the level, else at the level, and
the level is such that the server's link is full or all move at their own rate (Bertsekas and Gallager, Data
Networks, 1992, section 6.5.2). The level changes only when a transfer begins or ends.

Transfers above the level all move at the same speed, so the bytes that each has moved since some moment are
the same number: one sum for all of them shows which ends next ("virtual time": Parekh and Gallager,
IEEE/ACM Transactions on Networking, 1993). An event then costs O(log n), besides the transfers that cross
the level.
"""

from __future__ import annotations

from bisect import bisect_left
from heapq import heappop, heappush
from math import inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.errors import EmulationError

FloatArray = NDArray[np.float64]


def finish_times(
    start_s: ArrayLike,
    latency_s: ArrayLike,
    transfer_bytes: ArrayLike,
    own_bytes_per_s: ArrayLike,
    shared_bytes_per_s: float,
) -> FloatArray:
    """The moment at which each transfer's last byte arrives, float64 (n,), in seconds.

    Transfer i waits until ``start_s + latency_s``, then its bytes move at the max-min fair share of its own
    link and the shared one. The first four arguments are (n,) or scalars; rates may be ``inf``. Nothing to
    move ends with the wait. The result does not depend on the order of the transfers, bit for bit.

    Raises EmulationError for a rate that is not positive, for bytes or a latency that are negative, and for
    anything that is not a number or not finite, rates excepted.
    """
    begin, size, own = _checked(start_s, latency_s, transfer_bytes, own_bytes_per_s, shared_bytes_per_s)
    # Summed in ascending order: which path is taken must not depend on the order of the transfers.
    if shared_bytes_per_s == inf or float(np.sort(own).sum()) <= shared_bytes_per_s:
        return np.asarray(begin + size / own, dtype=np.float64)
    finish = begin.copy()
    # Equal transfers are one transfer of a weight: they end at the same moment to the last bit, and the fleet
    # of equal devices that most experiments have costs one event.
    members: dict[tuple[float, float, float], list[int]] = {}
    keys = zip(own.tolist(), begin.tolist(), size.tolist(), strict=True)
    for index, key in enumerate(keys):
        if key[2] > 0.0:
            members.setdefault(key, []).append(index)
    groups = sorted(members)
    weights = [len(members[group]) for group in groups]
    for group, moment in zip(groups, _group_finish_times(groups, weights, shared_bytes_per_s), strict=True):
        finish[members[group]] = moment
    return finish


def _checked(
    start_s: ArrayLike,
    latency_s: ArrayLike,
    transfer_bytes: ArrayLike,
    own_bytes_per_s: ArrayLike,
    shared_bytes_per_s: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """The moments at which bytes begin to move, the bytes and the own rates, all float64 (n,)."""
    arrays = [np.asarray(a, dtype=np.float64) for a in (start_s, latency_s, transfer_bytes, own_bytes_per_s)]
    if any(array.shape != arrays[0].shape for array in arrays):
        arrays = list(np.broadcast_arrays(*arrays))
    start, latency, size, own = arrays
    if start.ndim != 1:
        raise EmulationError(f"transfers: one number for each transfer expected, found shape {start.shape}")
    if not shared_bytes_per_s > 0.0:
        raise EmulationError(
            f"shared_bytes_per_s: {shared_bytes_per_s} found, a positive rate or inf is allowed"
        )
    _check_all(own > 0.0, own, "own_bytes_per_s", "a positive rate or inf")
    check_transfers(start, latency, size)
    return start + latency, size, own


def check_transfers(start_s: FloatArray, latency_s: FloatArray, transfer_bytes: FloatArray) -> None:
    """Raise EmulationError for moments, latencies or bytes (n,) that no transfer can have."""
    size, latency = transfer_bytes, latency_s
    _check_all((size >= 0.0) & (size < inf), size, "transfer_bytes", "a finite number, 0 or more")
    _check_all(np.isfinite(start_s), start_s, "start_s", "a finite moment")
    _check_all((latency >= 0.0) & (latency < inf), latency, "latency_s", "a finite number, 0 or more")


def _check_all(right: NDArray[np.bool_], values: FloatArray, name: str, allowed: str) -> None:
    if not right.all():
        index = int(right.argmin())
        raise EmulationError(f"{name}: {values[index]} found for transfer {index}, {allowed} is allowed")


def _group_finish_times(
    groups: list[tuple[float, float, float]], weights: list[int], capacity: float
) -> list[float]:
    """Finish times of groups (own rate, begin, bytes) in ascending order; a group stands for ``weight`` transfers."""
    return _SharedLink(groups, weights, capacity).run()


class _SharedLink:
    """Groups of transfers that move over one link, from event to event.

    ``active`` holds the groups that are moving, by own rate; those before ``boundary`` move at their own rate and end
    at a known moment, the others move at the ``level`` and end at a known ``moved``: the bytes that each transfer at
    the level has moved so far. Entries of the two heaps are void when the group has crossed the level since.
    """

    def __init__(self, groups: list[tuple[float, float, float]], weights: list[int], capacity: float) -> None:
        count = len(groups)
        self.own = [group[0] for group in groups]
        self.begin_s = [group[1] for group in groups]
        self.size = [group[2] for group in groups]
        self.weights, self.capacity = weights, capacity
        self.waiting = sorted(range(count), key=self.begin_s.__getitem__)[::-1]
        self.active: list[int] = []
        self.boundary = 0
        self.own_total = 0.0  # bytes per second of the groups before the boundary
        self.sharing = 0  # transfers at the level
        self.level = inf
        self.now = self.moved = 0.0
        self.ends_at_s = [inf] * count
        self.ends_at_moved = [inf] * count
        self.by_time: list[tuple[float, int]] = []
        self.by_moved: list[tuple[float, int]] = []
        self.finish_s = [0.0] * count

    def run(self) -> list[float]:
        """The finish time of each group."""
        while self.active or self.waiting:
            self._to_next_event()
            self._end_own()
            self._end_sharing()
            self._begin()
            self._find_level()
        return self.finish_s

    def _to_next_event(self) -> None:
        """A beginning, an end at an own rate, or an end at the level."""
        by_time, by_moved = self.by_time, self.by_moved
        while by_time and self.ends_at_s[by_time[0][1]] != by_time[0][0]:
            heappop(by_time)
        while by_moved and self.ends_at_moved[by_moved[0][1]] != by_moved[0][0]:
            heappop(by_moved)
        moment = self.begin_s[self.waiting[-1]] if self.waiting else inf
        if by_time and by_time[0][0] < moment:
            moment = by_time[0][0]
        if by_moved:
            shared_end = self.now + (by_moved[0][0] - self.moved) / self.level
            if shared_end <= moment:
                moment, self.moved = shared_end, by_moved[0][0]
            else:
                self.moved += self.level * (moment - self.now)
        self.now = moment

    def _end_own(self) -> None:
        while self.by_time and self.by_time[0][0] <= self.now:
            end, g = heappop(self.by_time)
            if self.ends_at_s[g] == end:
                self.ends_at_s[g] = inf
                self._finish(g)
                self.boundary -= 1
                self.own_total -= self.own[g] * self.weights[g]
        if self.boundary == 0:
            self.own_total = 0.0

    def _end_sharing(self) -> None:
        while self.by_moved and self.by_moved[0][0] <= self.moved:
            end, g = heappop(self.by_moved)
            if self.ends_at_moved[g] == end:
                self.ends_at_moved[g] = inf
                self._finish(g)
                self.sharing -= self.weights[g]
        if self.sharing == 0:  # begin the sum anew, for its rounding errors' sake
            self.moved = 0.0
            self.by_moved.clear()

    def _finish(self, g: int) -> None:
        self.finish_s[g] = self.now
        del self.active[bisect_left(self.active, g)]

    def _begin(self) -> None:
        """Groups whose moment has come: above the level, unless slower than one that is below it."""
        while self.waiting and self.begin_s[self.waiting[-1]] <= self.now:
            g = self.waiting.pop()
            place = bisect_left(self.active, g)
            self.active.insert(place, g)
            if place < self.boundary:
                self._move_on_own(g, self.size[g])
            else:
                self._move_at_level(g, self.size[g])

    def _find_level(self) -> None:
        """First down past the groups that the level no longer lets through, then up past those that it now does."""
        free = inf if self.own_total <= self.capacity else 0.0
        self.level = (self.capacity - self.own_total) / self.sharing if self.sharing else free
        while self.boundary and self.own[self.active[self.boundary - 1]] > self.level:
            g = self.active[self.boundary - 1]
            self.boundary -= 1
            self.own_total -= self.own[g] * self.weights[g]
            left = (self.ends_at_s[g] - self.now) * self.own[g]
            self.ends_at_s[g] = inf
            self._move_at_level(g, left)
            self.level = (self.capacity - self.own_total) / self.sharing
        while self.boundary < len(self.active) and self.own[self.active[self.boundary]] <= self.level:
            g = self.active[self.boundary]
            self.sharing -= self.weights[g]
            left = self.ends_at_moved[g] - self.moved
            self.ends_at_moved[g] = inf
            self._move_on_own(g, left)
            self.level = (self.capacity - self.own_total) / self.sharing if self.sharing else inf

    def _move_on_own(self, g: int, left: float) -> None:
        """A group with so many bytes ``left`` moves at its own rate from now on, before the boundary."""
        self.boundary += 1
        self.own_total += self.own[g] * self.weights[g]
        self.ends_at_s[g] = self.now + left / self.own[g]
        heappush(self.by_time, (self.ends_at_s[g], g))

    def _move_at_level(self, g: int, left: float) -> None:
        """A group with so many bytes ``left`` moves at the level from now on."""
        self.sharing += self.weights[g]
        self.ends_at_moved[g] = self.moved + left
        heappush(self.by_moved, (self.ends_at_moved[g], g))
