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
    """Finish times of groups (own rate, begin, bytes) in ascending order; a group stands for ``weight``
    transfers.

    ``active`` holds the groups that are moving, by own rate; those before ``boundary`` move at their own
    rate and end at a known moment, the others move at the level and end at a known ``moved``: the bytes
    that each transfer at the level has moved so far. Entries of the two heaps are void when the group has
    crossed the level since.
    """
    count = len(groups)
    own = [group[0] for group in groups]
    arrivals = sorted(range(count), key=lambda g: groups[g][1])
    next_arrival = 0
    active: list[int] = []
    boundary = 0
    own_total = 0.0  # bytes per second of the groups before the boundary
    sharing = 0  # transfers at the level
    level = inf
    moved = 0.0
    ends_at_s = [inf] * count
    ends_at_moved = [inf] * count
    by_time: list[tuple[float, int]] = []
    by_moved: list[tuple[float, int]] = []
    finish = [0.0] * count
    now = 0.0

    while active or next_arrival < count:
        # The next event: a beginning, an end at an own rate, or an end at the level.
        while by_time and ends_at_s[by_time[0][1]] != by_time[0][0]:
            heappop(by_time)
        while by_moved and ends_at_moved[by_moved[0][1]] != by_moved[0][0]:
            heappop(by_moved)
        moment = groups[arrivals[next_arrival]][1] if next_arrival < count else inf
        if by_time and by_time[0][0] < moment:
            moment = by_time[0][0]
        if by_moved:
            shared_end = now + (by_moved[0][0] - moved) / level
            if shared_end <= moment:
                moment, moved = shared_end, by_moved[0][0]
            else:
                moved += level * (moment - now)
        now = moment

        # Ends.
        while by_time and by_time[0][0] <= now:
            end, g = heappop(by_time)
            if ends_at_s[g] == end:
                ends_at_s[g] = inf
                finish[g] = now
                del active[bisect_left(active, g)]
                boundary -= 1
                own_total -= own[g] * weights[g]
        while by_moved and by_moved[0][0] <= moved:
            end, g = heappop(by_moved)
            if ends_at_moved[g] == end:
                ends_at_moved[g] = inf
                finish[g] = now
                del active[bisect_left(active, g)]
                sharing -= weights[g]
        if sharing == 0:  # begin the sum anew, for its rounding errors' sake
            moved = 0.0
            by_moved.clear()
        if boundary == 0:
            own_total = 0.0

        # Beginnings: above the level, unless slower than one that is below it.
        while next_arrival < count and groups[arrivals[next_arrival]][1] <= now:
            g = arrivals[next_arrival]
            next_arrival += 1
            place = bisect_left(active, g)
            active.insert(place, g)
            if place < boundary:
                boundary += 1
                own_total += own[g] * weights[g]
                ends_at_s[g] = now + groups[g][2] / own[g]
                heappush(by_time, (ends_at_s[g], g))
            else:
                sharing += weights[g]
                ends_at_moved[g] = moved + groups[g][2]
                heappush(by_moved, (ends_at_moved[g], g))

        # The new level: first down past those it no longer lets through, then up past those it now does.
        level = (capacity - own_total) / sharing if sharing else (inf if own_total <= capacity else 0.0)
        while boundary and own[active[boundary - 1]] > level:
            boundary -= 1
            g = active[boundary]
            own_total -= own[g] * weights[g]
            sharing += weights[g]
            ends_at_moved[g] = moved + (ends_at_s[g] - now) * own[g]
            ends_at_s[g] = inf
            heappush(by_moved, (ends_at_moved[g], g))
            level = (capacity - own_total) / sharing
        while boundary < len(active) and own[active[boundary]] <= level:
            g = active[boundary]
            boundary += 1
            own_total += own[g] * weights[g]
            sharing -= weights[g]
            ends_at_s[g] = now + (ends_at_moved[g] - moved) / own[g]
            ends_at_moved[g] = inf
            heappush(by_time, (ends_at_s[g], g))
            level = (capacity - own_total) / sharing if sharing else inf
    return finish
