"""One link that transfers share max-min fairly while the rate of each varies by steps: an engine over events.

As in ``link_sharing`` there is a level (``max_min_level``). Here own rates step, and transfers can be added and removed
while others move. An event costs O(log n), besides the transfers that cross the level.

Bytes are counted anew only where a transfer's speed changes. So the result does not depend on the order in which
transfers were added, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from math import inf

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.max_min_level import (
    ANY_UNITS,
    ENDED,
    NOTHING,
    OWN,
    SHARED,
    WAITING,
    MaxMinLevel,
    Transfer,
)
from fedmpi.emulation.stepwise import NEGLIGIBLE, Pieces


@dataclass
class SharedLink:
    """A link of ``bytes_per_s`` (or inf), and all that moves over it. ``now_s``: the moment up to which it is known."""

    bytes_per_s: float
    now_s: float = -inf
    _transfers: list[Transfer] = field(default_factory=list)
    _agenda: list[tuple[float, int]] = field(default_factory=list)
    _ends_at_level: list[tuple[float, int]] = field(default_factory=list)
    _level: MaxMinLevel = field(init=False)

    def __post_init__(self) -> None:
        if not self.bytes_per_s > 0.0:
            raise EmulationError(
                f"shared_bytes_per_s: {self.bytes_per_s} found, a positive rate or inf is allowed"
            )
        self._level = MaxMinLevel(self.bytes_per_s)

    def add(self, begin_s: float, size_bytes: float, pieces: Pieces, weight: int = 1) -> int:
        """Let a transfer begin at ``begin_s``, which is not before ``now_s``; its number, from 0 on.

        Its own rates are ``pieces``, from ``begin_s`` on. ``weight``: so many equal transfers, which end together.
        """
        if not self.now_s <= begin_s < inf:
            raise EmulationError(f"begin_s: {begin_s} found, a moment from {self.now_s} on is allowed")
        if not 0.0 <= size_bytes < inf:
            raise EmulationError(f"size_bytes: {size_bytes} found, a finite number, 0 or more, is allowed")
        transfer = Transfer(
            len(self._transfers),
            size_bytes,
            weight,
            pieces,
            size_bytes,
            begin_s,
            coming=next(pieces, NOTHING),
        )
        self._transfers.append(transfer)
        heappush(self._agenda, (begin_s, transfer.number))
        return transfer.number

    def next_event_s(self) -> float:
        """The next moment at which anything changes; no transfer ends before it. inf: nothing will."""
        return self._next_event()[0]

    def advance(self, until_s: float = inf) -> list[tuple[float, int]]:
        """Move on to ``until_s``, its own events included; moments and numbers of transfers that ended, in order.

        Raises EmulationError where transfers are left that will never end.
        """
        ended: list[tuple[float, int]] = []
        while True:
            self._step_alone(until_s)
            moment, moved = self._next_event()
            if moment > until_s or moment == inf:
                break
            self.now_s = moment
            before = self._happen(moment, moved, ended)
            self._level.cross(self._transfers, before)
            self._settle(moment, moved, before)
        if until_s < inf:
            self.now_s = max(self.now_s, until_s)
        elif self._level.sharing or any(transfer.mode == OWN for transfer in self._transfers):
            raise EmulationError("a transfer never ends: its rate is 0 at last")
        return ended

    def remove(self, number: int) -> float:
        """End a transfer now, whatever is left of it; the bytes that it has moved (each of equal ones)."""
        transfer = self._transfers[number]
        moved = self.moved_bytes(number)
        if transfer.mode in (OWN, SHARED):
            before: dict[int, int] = {}
            level = self._level
            level_moved = level.moved_at(self.now_s)
            level.leave(transfer)
            level.cross(self._transfers, before)
            self._settle(self.now_s, level_moved, before)
        transfer.mode, transfer.due_s = ENDED, inf
        transfer.left = transfer.size - moved
        return moved

    def moved_bytes(self, number: int) -> float:
        """Bytes of a transfer that have arrived by ``now_s``."""
        transfer = self._transfers[number]
        left = transfer.left
        if transfer.mode == OWN:
            left -= transfer.own * (self.now_s - transfer.since_s)
        elif transfer.mode == SHARED:
            left = transfer.target - self._level.moved_at(self.now_s)
        return min(transfer.size, max(0.0, transfer.size - left))

    def _next_event(self) -> tuple[float, float]:
        """The moment of the next event, and the bytes that have moved at the level by then."""
        transfers, agenda, ends, level = self._transfers, self._agenda, self._ends_at_level, self._level
        while agenda and transfers[agenda[0][1]].due_s != agenda[0][0]:
            heappop(agenda)
        moment = agenda[0][0] if agenda else inf
        while ends:
            target, number = ends[0]
            transfer = transfers[number]
            if transfer.mode == SHARED and transfer.target == target:
                end = level.since_s + (target - level.moved) / level.rate
                if end <= moment:
                    return end, target
                return moment, level.moved + level.rate * (moment - level.since_s)
            heappop(ends)
        return moment, 0.0

    def _step_alone(self, until_s: float) -> None:
        """Go through events while each is a step of one transfer that makes nobody cross the level: most of them are.

        The first that may be anything else is left as it is. What is here is what the other methods do in that case,
        written out, for it takes most of the time.
        """
        transfers, agenda, ends, shared = self._transfers, self._agenda, self._ends_at_level, self._level
        below, above, sharing = shared.below, shared.above, shared.sharing
        level, level_since_s, level_moved = shared.rate, shared.since_s, shared.moved
        capacity, units_per_rate = shared.capacity, shared.units_per_rate
        free, now_s = shared.capacity_units - shared.own_units, self.now_s
        while agenda:
            moment, number = agenda[0]
            transfer = transfers[number]
            if transfer.due_s != moment:
                heappop(agenda)
                continue
            mode = transfer.mode
            if moment > until_s or transfer.last or mode == WAITING or moment in (now_s, inf):
                break
            if len(agenda) > 1 and (agenda[1][0] == moment or agenda[min(2, len(agenda) - 1)][0] == moment):
                break
            moved = level_moved
            if sharing:
                moved += level * (moment - level_since_s)
                if ends[0][0] <= moved or level_since_s + (ends[0][0] - level_moved) / level <= moment:
                    break
            rate, next_s = transfer.coming
            own = rate if rate < capacity else capacity
            units = int(own * units_per_rate)
            if mode == SHARED:
                if units * sharing <= free:
                    break
                heappush(above, (units, number))
                due_s = next_s
            else:
                left = transfer.left - transfer.own * (moment - transfer.since_s)
                then_free = free + (transfer.units - units) * transfer.weight
                # The highest rate that is not above the level: any where nobody is there, if all fit into the link.
                most = then_free // sharing if sharing else (ANY_UNITS if then_free >= 0 else -1)
                if (
                    left <= NEGLIGIBLE * transfer.size
                    or units > most
                    or (below and -below[0][0] > most)
                    or (above and above[0][0] <= most)
                ):
                    break
                free = then_free
                # Where a loop ends with the rate that it begins with, nothing changes: see ``_settle``.
                if sharing and most / units_per_rate != level:
                    level, level_since_s, level_moved = most / units_per_rate, moment, moved
                transfer.left, transfer.since_s = left, moment
                heappush(below, (-units, number))
                end_s = moment + left / own if own > 0.0 else inf
                transfer.last = end_s <= next_s
                due_s = end_s if transfer.last else next_s
            transfer.own, transfer.units, transfer.until_s, transfer.due_s = own, units, next_s, due_s
            transfer.coming = next(transfer.pieces, NOTHING)
            if due_s < inf:
                heapreplace(agenda, (due_s, number))
            else:
                heappop(agenda)
            now_s = moment
        self.now_s = now_s
        shared.own_units, shared.rate = shared.capacity_units - free, level
        shared.since_s, shared.moved = level_since_s, level_moved

    def _happen(self, moment: float, moved: float, ended: list[tuple[float, int]]) -> dict[int, int]:
        """What begins, steps or ends at ``moment``; the transfers of which that changes something, with the mode that
        each had before."""
        transfers, agenda, ends, level = self._transfers, self._agenda, self._ends_at_level, self._level
        before: dict[int, int] = {}
        while ends and ends[0][0] <= moved:
            target, number = heappop(ends)
            transfer = transfers[number]
            if transfer.mode == SHARED and transfer.target == target:
                self._end(transfer, moment, ended)
        while agenda and agenda[0][0] <= moment:
            due_s, number = heappop(agenda)
            transfer = transfers[number]
            if transfer.due_s != due_s:
                continue
            transfer.due_s = inf
            mode = transfer.mode
            if mode == OWN:
                transfer.left -= transfer.own * (moment - transfer.since_s)
                transfer.since_s = moment
                if transfer.last or transfer.left <= NEGLIGIBLE * transfer.size:
                    self._end(transfer, moment, ended)
                    continue
                level.own_units -= transfer.units * transfer.weight
            elif mode == WAITING and not transfer.size > 0.0:
                transfer.mode = ENDED
                ended.append((moment, number))
                continue
            rate, transfer.until_s = transfer.coming
            transfer.coming = next(transfer.pieces, NOTHING)
            transfer.own = rate if rate < level.capacity else level.capacity
            transfer.units = int(transfer.own * level.units_per_rate)
            before[number] = mode
            if mode == OWN:
                level.own_units += transfer.units * transfer.weight
                heappush(level.below, (-transfer.units, number))
            else:
                if mode == WAITING:
                    transfer.mode = SHARED
                    level.sharing += transfer.weight
                heappush(level.above, (transfer.units, number))
        return before

    def _end(self, transfer: Transfer, moment: float, ended: list[tuple[float, int]]) -> None:
        self._level.leave(transfer)
        transfer.left = 0.0
        ended.append((moment, transfer.number))

    def _settle(self, moment: float, moved: float, before: dict[int, int]) -> None:
        """The new level, and the next event of each transfer in ``before``."""
        transfers, level = self._transfers, self._level
        level.settle(moment, moved)
        for number, mode in before.items():
            transfer = transfers[number]
            if transfer.mode == OWN:
                if mode == SHARED:
                    transfer.left = max(0.0, transfer.target - moved)
                elif mode == OWN and transfer.due_s != inf:
                    continue  # it crossed the level and came back
                transfer.since_s = moment
                end_s = moment + transfer.left / transfer.own if transfer.own > 0.0 else inf
                transfer.last = end_s <= transfer.until_s
                due_s = end_s if transfer.last else transfer.until_s
            else:
                if mode != SHARED:
                    if mode == OWN:
                        transfer.left -= transfer.own * (moment - transfer.since_s)
                    transfer.target = moved + transfer.left
                    heappush(self._ends_at_level, (transfer.target, number))
                due_s = transfer.until_s
            if due_s != transfer.due_s:
                transfer.due_s = due_s
                if due_s < inf:
                    heappush(self._agenda, (due_s, number))
        if not level.sharing:  # begin the sum anew, for its rounding errors' sake
            level.moved = 0.0
            self._ends_at_level.clear()
