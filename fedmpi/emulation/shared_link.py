"""One link that transfers share max-min fairly while the rate of each varies by steps: an engine over events.

As in ``link_sharing`` there is a level, and a transfer moves at its own rate if that is at most the level, else at the
level, which makes the link full unless all move at their own rates. Here own rates step, and transfers can be added and
removed while others move. An event costs O(log n), besides the transfers that cross the level.

Which transfers are below the level is decided in integers, and bytes are counted anew only where a transfer's speed
changes. So the result does not depend on the order in which transfers were added, bit for bit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush, heapreplace
from math import frexp, inf

from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.stepwise import NEGLIGIBLE, Pieces

_CAPACITY_BITS = 60
"""A link's capacity as an integer has so many bits; rates are counted in the same unit."""

_UNLIMITED_BYTES_PER_S = 1e30
"""What an infinite capacity counts as in sums; more than a million links of any finite rate."""

_ANY_RATE = 2 ** (_CAPACITY_BITS + 1)

_NOTHING = (0.0, inf)
"""The rate after the last."""

_WAITING, _OWN, _SHARED, _ENDED = range(4)
"""A transfer before its beginning, at its own rate, at the level, and after its end."""


@dataclass(slots=True)
class _Transfer:
    """``left`` bytes at ``since_s`` while it moves at its ``own`` rate; at the level it ends when ``target`` bytes have
    moved there. ``own`` holds until ``until_s``; ``due_s`` is its next event but for an end at the level, and
    its ``last`` one where it ends then. ``least``: so few bytes left are none. ``units``: the own rate as an integer,
    of one of ``weight`` equal transfers."""

    number: int
    size: float
    weight: int
    pieces: Pieces
    left: float
    due_s: float
    least: float
    since_s: float = 0.0
    coming: tuple[float, float] = _NOTHING
    own: float = 0.0
    units: int = 0
    until_s: float = inf
    target: float = inf
    mode: int = _WAITING
    last: bool = False


@dataclass
class SharedLink:
    """A link of ``bytes_per_s`` (or inf), and all that moves over it. ``now_s``: the moment up to which it is known."""

    bytes_per_s: float
    now_s: float = -inf
    _transfers: list[_Transfer] = field(default_factory=list)
    _agenda: list[tuple[float, int]] = field(default_factory=list)
    _ends_at_level: list[tuple[float, int]] = field(default_factory=list)
    _below: list[tuple[int, int]] = field(default_factory=list)
    _above: list[tuple[int, int]] = field(default_factory=list)
    _own_units: int = 0
    _sharing: int = 0
    _level: float = inf
    _level_since_s: float = 0.0
    _level_moved: float = 0.0
    _capacity: float = field(init=False)
    _capacity_units: int = field(init=False)
    _units_per_rate: float = field(init=False)

    def __post_init__(self) -> None:
        if not self.bytes_per_s > 0.0:
            raise EmulationError(
                f"shared_bytes_per_s: {self.bytes_per_s} found, a positive rate or inf is allowed"
            )
        self._capacity = min(self.bytes_per_s, _UNLIMITED_BYTES_PER_S)
        self._units_per_rate = 2.0 ** (_CAPACITY_BITS - frexp(self._capacity)[1])
        self._capacity_units = int(self._capacity * self._units_per_rate)

    def add(
        self,
        begin_s: float,
        size_bytes: float,
        pieces: Pieces,
        weight: int = 1,
        negligible_bytes: float = 0.0,
    ) -> int:
        """Let a transfer begin at ``begin_s``, which is not before ``now_s``; its number, from 0 on.

        Its own rates are ``pieces``, from ``begin_s`` on. ``weight``: so many equal transfers, which end together.
        ``negligible_bytes``: where a rate steps, so many left are none, and a share of ``NEGLIGIBLE`` is in any case.
        """
        if not self.now_s <= begin_s < inf:
            raise EmulationError(f"begin_s: {begin_s} found, a moment from {self.now_s} on is allowed")
        if not 0.0 <= size_bytes < inf:
            raise EmulationError(f"size_bytes: {size_bytes} found, a finite number, 0 or more, is allowed")
        transfer = _Transfer(
            len(self._transfers),
            size_bytes,
            weight,
            pieces,
            size_bytes,
            begin_s,
            max(negligible_bytes, NEGLIGIBLE * size_bytes),
            coming=next(pieces, _NOTHING),
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
            self._find_level(before)
            self._settle(moment, moved, before)
        if until_s < inf:
            self.now_s = max(self.now_s, until_s)
        elif self._sharing or any(transfer.mode == _OWN for transfer in self._transfers):
            raise EmulationError("a transfer never ends: its rate is 0 at last")
        return ended

    def remove(self, number: int) -> float:
        """End a transfer now, whatever is left of it; the bytes that it has moved (each of equal ones)."""
        transfer = self._transfers[number]
        moved = self.moved_bytes(number)
        if transfer.mode in (_OWN, _SHARED):
            before: dict[int, int] = {}
            level_moved = self._level_moved_at(self.now_s)
            self._leave(transfer)
            self._find_level(before)
            self._settle(self.now_s, level_moved, before)
        transfer.mode, transfer.due_s = _ENDED, inf
        transfer.left = transfer.size - moved
        return moved

    def moved_bytes(self, number: int) -> float:
        """Bytes of a transfer that have arrived by ``now_s``."""
        transfer = self._transfers[number]
        left = transfer.left
        if transfer.mode == _OWN:
            left -= transfer.own * (self.now_s - transfer.since_s)
        elif transfer.mode == _SHARED:
            left = transfer.target - self._level_moved_at(self.now_s)
        return min(transfer.size, max(0.0, transfer.size - left))

    def _level_moved_at(self, moment: float) -> float:
        """Bytes that each transfer at the level has moved since the first of them came there."""
        if not self._sharing:
            return 0.0
        return self._level_moved + self._level * (moment - self._level_since_s)

    def _next_event(self) -> tuple[float, float]:
        """The moment of the next event, and the bytes that have moved at the level by then."""
        transfers, agenda, ends = self._transfers, self._agenda, self._ends_at_level
        while agenda and transfers[agenda[0][1]].due_s != agenda[0][0]:
            heappop(agenda)
        moment = agenda[0][0] if agenda else inf
        while ends:
            target, number = ends[0]
            transfer = transfers[number]
            if transfer.mode == _SHARED and transfer.target == target:
                end = self._level_since_s + (target - self._level_moved) / self._level
                if end <= moment:
                    return end, target
                return moment, self._level_moved + self._level * (moment - self._level_since_s)
            heappop(ends)
        return moment, 0.0

    def _step_alone(self, until_s: float) -> None:
        """Go through events while each is a step of one transfer that makes nobody cross the level: most of them are.

        The first that may be anything else is left as it is. What is here is what the other methods do in that case,
        written out, for it takes most of the time.
        """
        transfers, agenda, capacity = self._transfers, self._agenda, self._capacity
        below, above, ends = self._below, self._above, self._ends_at_level
        own_units, sharing, level = self._own_units, self._sharing, self._level
        level_since_s, level_moved = self._level_since_s, self._level_moved
        free = self._capacity_units - own_units
        now_s, units_per_rate = self.now_s, self._units_per_rate
        while agenda:
            moment, number = agenda[0]
            transfer = transfers[number]
            if transfer.due_s != moment:
                heappop(agenda)
                continue
            mode = transfer.mode
            if moment > until_s or transfer.last or mode == _WAITING or moment in (now_s, inf):
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
            if mode == _SHARED:
                if units * sharing <= free:
                    break
                heappush(above, (units, number))
                due_s = next_s
            else:
                left = transfer.left - transfer.own * (moment - transfer.since_s)
                then_free = free + (transfer.units - units) * transfer.weight
                # The highest rate that is not above the level: any where nobody is there, if all fit into the link.
                most = then_free // sharing if sharing else (_ANY_RATE if then_free >= 0 else -1)
                if (
                    left <= transfer.least
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
            transfer.coming = next(transfer.pieces, _NOTHING)
            if due_s < inf:
                heapreplace(agenda, (due_s, number))
            else:
                heappop(agenda)
            now_s = moment
        self.now_s = now_s
        self._own_units, self._level = self._capacity_units - free, level
        self._level_since_s, self._level_moved = level_since_s, level_moved

    def _happen(self, moment: float, moved: float, ended: list[tuple[float, int]]) -> dict[int, int]:
        """What begins, steps or ends at ``moment``; the transfers of which that changes something, with the mode that
        each had before."""
        transfers, agenda, ends = self._transfers, self._agenda, self._ends_at_level
        before: dict[int, int] = {}
        while ends and ends[0][0] <= moved:
            target, number = heappop(ends)
            transfer = transfers[number]
            if transfer.mode == _SHARED and transfer.target == target:
                self._end(transfer, moment, ended)
        while agenda and agenda[0][0] <= moment:
            due_s, number = heappop(agenda)
            transfer = transfers[number]
            if transfer.due_s != due_s:
                continue
            transfer.due_s = inf
            mode = transfer.mode
            if mode == _OWN:
                transfer.left -= transfer.own * (moment - transfer.since_s)
                transfer.since_s = moment
                if transfer.last or transfer.left <= transfer.least:
                    self._end(transfer, moment, ended)
                    continue
                self._own_units -= transfer.units * transfer.weight
            elif mode == _SHARED and transfer.target - moved <= transfer.least:
                self._end(transfer, moment, ended)
                continue
            elif mode == _WAITING and not transfer.size > 0.0:
                transfer.mode = _ENDED
                ended.append((moment, number))
                continue
            rate, transfer.until_s = transfer.coming
            transfer.coming = next(transfer.pieces, _NOTHING)
            transfer.own = rate if rate < self._capacity else self._capacity
            transfer.units = int(transfer.own * self._units_per_rate)
            before[number] = mode
            if mode == _OWN:
                self._own_units += transfer.units * transfer.weight
                heappush(self._below, (-transfer.units, number))
            else:
                if mode == _WAITING:
                    transfer.mode = _SHARED
                    self._sharing += transfer.weight
                heappush(self._above, (transfer.units, number))
        return before

    def _end(self, transfer: _Transfer, moment: float, ended: list[tuple[float, int]]) -> None:
        self._leave(transfer)
        transfer.left = 0.0
        ended.append((moment, transfer.number))

    def _leave(self, transfer: _Transfer) -> None:
        if transfer.mode == _OWN:
            self._own_units -= transfer.units * transfer.weight
        else:
            self._sharing -= transfer.weight
        transfer.mode, transfer.due_s = _ENDED, inf

    def _find_level(self, before: dict[int, int]) -> None:
        """First down past those that the level no longer lets through, then up past those that it now does; exact.

        Those that cross are noted in ``before`` with the mode that they had.
        """
        transfers, below, above = self._transfers, self._below, self._above
        own_units, sharing = self._own_units, self._sharing
        free = self._capacity_units - own_units
        while below:
            units, number = below[0]
            transfer = transfers[number]
            if transfer.mode != _OWN or transfer.units != -units:
                heappop(below)
                continue
            if -units * sharing <= free:
                break
            heappop(below)
            before.setdefault(number, _OWN)
            transfer.mode = _SHARED
            free += transfer.units * transfer.weight
            sharing += transfer.weight
            heappush(above, (transfer.units, number))
        while above:
            units, number = above[0]
            transfer = transfers[number]
            if transfer.mode != _SHARED or transfer.units != units:
                heappop(above)
                continue
            if units * sharing > free:
                break
            heappop(above)
            before.setdefault(number, _SHARED)
            transfer.mode = _OWN
            free -= units * transfer.weight
            sharing -= transfer.weight
            heappush(below, (-units, number))
        self._own_units, self._sharing = self._capacity_units - free, sharing

    def _settle(self, moment: float, moved: float, before: dict[int, int]) -> None:
        """The new level, and the next event of each transfer in ``before``."""
        transfers = self._transfers
        level = inf
        if self._sharing:
            most = (self._capacity_units - self._own_units) // self._sharing
            level = most / self._units_per_rate
        if level != self._level:
            self._level, self._level_since_s, self._level_moved = level, moment, moved
        for number, mode in before.items():
            transfer = transfers[number]
            if transfer.mode == _OWN:
                if mode == _SHARED:
                    transfer.left = max(0.0, transfer.target - moved)
                elif mode == _OWN and transfer.due_s != inf:
                    continue  # it crossed the level and came back
                transfer.since_s = moment
                end_s = moment + transfer.left / transfer.own if transfer.own > 0.0 else inf
                transfer.last = end_s <= transfer.until_s
                due_s = end_s if transfer.last else transfer.until_s
            else:
                if mode != _SHARED:
                    if mode == _OWN:
                        transfer.left -= transfer.own * (moment - transfer.since_s)
                    transfer.target = moved + transfer.left
                    heappush(self._ends_at_level, (transfer.target, number))
                due_s = transfer.until_s
            if due_s != transfer.due_s:
                transfer.due_s = due_s
                if due_s < inf:
                    heappush(self._agenda, (due_s, number))
        if not self._sharing:  # begin the sum anew, for its rounding errors' sake
            self._level_moved = 0.0
            self._ends_at_level.clear()
