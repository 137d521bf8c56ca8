"""The level of a link that transfers share max-min fairly: the rate of each that could use more.

A transfer moves at its own rate if that is at most the level, else at the level, which makes the link full unless all
move at their own rates. Which are below it is decided in integers, so that the level does not depend on the order in
which transfers come and go, bit for bit. Where a transfer crosses it, that costs O(log n).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import frexp, inf

from fedmpi.emulation.stepwise import Pieces

_CAPACITY_BITS = 60
"""A link's capacity as an integer has so many bits; rates are counted in the same unit."""

_UNLIMITED_BYTES_PER_S = 1e30
"""What an infinite capacity counts as in sums; more than a million links of any finite rate."""

ANY_UNITS = 2 ** (_CAPACITY_BITS + 1)
"""More than any rate has."""

NOTHING = (0.0, inf)
"""The rate after the last."""

WAITING, OWN, SHARED, ENDED = range(4)
"""A transfer before its beginning, at its own rate, at the level, and after its end."""


@dataclass(slots=True)
class Transfer:
    """``left`` bytes at ``since_s`` while it moves at its ``own`` rate; at the level it ends when ``target`` bytes have
    moved there. ``own`` holds until ``until_s``; ``due_s`` is its next event but for an end at the level, and
    its ``last`` one where it ends then. ``units``: the own rate as an integer, of one of ``weight`` equal transfers."""

    number: int
    size: float
    weight: int
    pieces: Pieces
    left: float
    due_s: float
    since_s: float = 0.0
    coming: tuple[float, float] = NOTHING
    own: float = 0.0
    units: int = 0
    until_s: float = inf
    target: float = inf
    mode: int = WAITING
    last: bool = False


@dataclass(slots=True)
class MaxMinLevel:
    """The level of a link of ``bytes_per_s`` (or inf), above 0.

    ``own_units`` is the sum of the rates of transfers below it, ``sharing`` how many are at it, each as often as it
    weighs. It has been at ``rate`` bytes/s (inf: nobody is at it) from ``since_s`` on, when ``moved`` bytes of each
    transfer there had moved. In ``below`` and ``above`` are transfers by their own rates, besides some that are
    elsewhere by now.
    """

    bytes_per_s: float
    rate: float = inf
    since_s: float = 0.0
    moved: float = 0.0
    own_units: int = 0
    sharing: int = 0
    below: list[tuple[int, int]] = field(default_factory=list)
    above: list[tuple[int, int]] = field(default_factory=list)
    capacity: float = field(init=False)
    capacity_units: int = field(init=False)
    units_per_rate: float = field(init=False)

    def __post_init__(self) -> None:
        self.capacity = min(self.bytes_per_s, _UNLIMITED_BYTES_PER_S)
        self.units_per_rate = 2.0 ** (_CAPACITY_BITS - frexp(self.capacity)[1])
        self.capacity_units = int(self.capacity * self.units_per_rate)

    def moved_at(self, moment: float) -> float:
        """Bytes that each transfer at the level has moved since the first of them came there."""
        return self.moved + self.rate * (moment - self.since_s) if self.sharing else 0.0

    def leave(self, transfer: Transfer) -> None:
        """A transfer that moves has ended."""
        if transfer.mode == OWN:
            self.own_units -= transfer.units * transfer.weight
        else:
            self.sharing -= transfer.weight
        transfer.mode, transfer.due_s = ENDED, inf

    def cross(self, transfers: list[Transfer], before: dict[int, int]) -> None:
        """First down past those that the level no longer lets through, then up past those that it now does; exact.

        Those that cross are noted in ``before`` with the mode that they had.
        """
        below, above = self.below, self.above
        sharing, free = self.sharing, self.capacity_units - self.own_units
        while below:
            units, number = below[0]
            transfer = transfers[number]
            if transfer.mode != OWN or transfer.units != -units:
                heappop(below)
                continue
            if -units * sharing <= free:
                break
            heappop(below)
            before.setdefault(number, OWN)
            transfer.mode = SHARED
            free += transfer.units * transfer.weight
            sharing += transfer.weight
            heappush(above, (transfer.units, number))
        while above:
            units, number = above[0]
            transfer = transfers[number]
            if transfer.mode != SHARED or transfer.units != units:
                heappop(above)
                continue
            if units * sharing > free:
                break
            heappop(above)
            before.setdefault(number, SHARED)
            transfer.mode = OWN
            free -= units * transfer.weight
            sharing -= transfer.weight
            heappush(below, (-units, number))
        self.own_units, self.sharing = self.capacity_units - free, sharing

    def settle(self, moment: float, moved: float) -> None:
        """Take the rate that those at the level have from ``moment`` on, by when ``moved`` bytes of each have moved."""
        rate = inf
        if self.sharing:
            rate = (self.capacity_units - self.own_units) // self.sharing / self.units_per_rate
        if rate != self.rate:
            self.rate, self.since_s, self.moved = rate, moment, moved
