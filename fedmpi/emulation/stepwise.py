"""Rates that vary in time by steps: of a constant link, of a recorded one that loops, of a sender that starts slowly.

A link is a ``StepwiseRate``; what one transfer meets of it are ``Pieces``, one after another from the transfer's
beginning on. The slower of two is again such a sequence: a recorded link and the start of TCP on it are one rate.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, inf

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.errors import EmulationError

FloatArray = NDArray[np.float64]

Pieces = Iterator[tuple[float, float]]
"""Pairs of a rate (bytes per second) and the moment (s) until which it holds; the last moment may be inf."""

NEGLIGIBLE, MOST_NEGLIGIBLE = 1e-12, 1e-9
"""The share of a transfer that counts as nothing left: else rounding would let a last billionth of a byte wait for the
end of a stall. The larger one where a transfer begins so late that moments are not known better."""

ROUNDING = 2.0**-46
"""Of a moment, relative: what it may be off by after many steps that each were rounded."""


def negligible_bytes(
    size_bytes: ArrayLike, own_s: ArrayLike, within_s: ArrayLike, peak_bytes_per_s: ArrayLike
) -> FloatArray:
    """What counts as nothing left of transfers that begin at moments ``own_s`` of rates: what moves at most while
    nobody can tell the time, which depends on the moment and on the length of the rate's steps ``within_s``."""
    size, peak = np.asarray(size_bytes, dtype=np.float64), np.asarray(peak_bytes_per_s, dtype=np.float64)
    unknown = ROUNDING * np.maximum(own_s, within_s) * np.where(peak < inf, peak, 0.0)
    return np.asarray(np.clip(unknown, NEGLIGIBLE * size, MOST_NEGLIGIBLE * size))


@dataclass(frozen=True, eq=False)
class StepwiseRate:
    """A rate that is constant between the moments at which it steps.

    ``bytes_per_s`` (n,) holds from ``starts_s`` (n,) on, which rise from 0; both are float64 and read-only. The steps
    repeat every ``period_s``; where that is inf, the last one lasts for ever. A rate of 0 stalls whatever moves.

    Raises EmulationError for steps that do not begin at 0 and rise to below the period, for rates that are negative or
    not a number, and for a rate that is 0 at last, or throughout.
    """

    starts_s: FloatArray
    bytes_per_s: FloatArray
    period_s: float = inf

    def __post_init__(self) -> None:
        starts, rates = (
            np.array(self.starts_s, dtype=np.float64),
            np.array(self.bytes_per_s, dtype=np.float64),
        )
        if starts.ndim != 1 or starts.shape != rates.shape or not starts.size or starts[0] != 0.0:
            raise EmulationError("steps of a rate: one start for each rate is expected, and the first at 0")
        if not ((np.diff(starts) > 0.0).all() and starts[-1] < self.period_s):
            raise EmulationError("steps of a rate: starts that rise to below the period are expected")
        if not (rates >= 0.0).all():
            raise EmulationError("steps of a rate: rates of 0 or more are expected")
        if not (rates[-1] if self.period_s == inf else rates.max()) > 0.0:
            raise EmulationError("steps of a rate: a rate above 0 is expected, at last or in the loop")
        # Equal neighbours are one step: no moment is an event only because a file names it.
        kept = np.concatenate(([True], rates[1:] != rates[:-1]))
        for name, values in (("starts_s", starts[kept]), ("bytes_per_s", rates[kept])):
            values.setflags(write=False)
            object.__setattr__(self, name, values)

    @classmethod
    def constant(cls, bytes_per_s: float) -> StepwiseRate:
        """One step for ever; ``bytes_per_s`` may be inf."""
        return cls(np.zeros(1), np.array([bytes_per_s]))

    @cached_property
    def mean_bytes_per_s(self) -> float:
        """The mean over the loop; without a loop, the rate at last."""
        if self.period_s == inf:
            return float(self.bytes_per_s[-1])
        return float(self.moved_bytes[-1]) / self.period_s

    @cached_property
    def peak_bytes_per_s(self) -> float:
        """The highest rate."""
        return float(self.bytes_per_s.max())

    @property
    def within_s(self) -> float:
        """The loop's length; without a loop, the last step's beginning."""
        return float(self.starts_s[-1]) if self.period_s == inf else self.period_s

    def negligible_bytes(self, begin_s: float, size_bytes: float, shift_s: float = 0.0) -> float:
        """What counts as nothing left of a transfer, see ``pieces``: ``negligible_bytes`` of one, bit for bit."""
        within_s, peak_bytes_per_s = self._within_and_peak
        unknown = ROUNDING * max(begin_s + shift_s, within_s) * peak_bytes_per_s
        return min(max(unknown, NEGLIGIBLE * size_bytes), MOST_NEGLIGIBLE * size_bytes)

    @cached_property
    def _within_and_peak(self) -> tuple[float, float]:
        return self.within_s, self.peak_bytes_per_s if self.peak_bytes_per_s < inf else 0.0

    @cached_property
    def longest_stall_s(self) -> float:
        """The longest time of rate 0 in one piece; equal neighbours are one step, but for the loop's two ends."""
        if self.period_s == inf:
            return float(np.diff(self.starts_s)[self.bytes_per_s[:-1] == 0.0].max(initial=0.0))
        lasts = np.diff(np.append(self.starts_s, self.period_s))
        stalls = lasts[self.bytes_per_s == 0.0].max(initial=0.0)
        over_the_end = lasts[0] + lasts[-1] if self.bytes_per_s[0] == self.bytes_per_s[-1] == 0.0 else 0.0
        return float(max(stalls, over_the_end))

    @cached_property
    def moved_bytes(self) -> FloatArray:
        """Bytes from the loop's start to each step, and to its end, (n + 1,) or without a loop (n,)."""
        ends = self.starts_s[1:] if self.period_s == inf else np.append(self.starts_s[1:], self.period_s)
        lasts = ends - self.starts_s[: ends.size]
        return np.concatenate(([0.0], np.cumsum(self.bytes_per_s[: ends.size] * lasts)))

    @cached_property
    def _moved_list(self) -> list[float]:
        moved: list[float] = self.moved_bytes.tolist()
        return moved

    @cached_property
    def _lists(self) -> tuple[list[float], list[float], list[float]]:
        """Starts, rates and ends as lists, which single values are read from faster."""
        starts = self.starts_s.tolist()
        return starts, self.bytes_per_s.tolist(), [*starts[1:], self.period_s]

    def pieces(self, begin_s: float, shift_s: float = 0.0) -> Pieces:
        """The rates from ``begin_s`` on, where the steps' own time is ``shift_s`` ahead."""
        starts, rates, ends = self._lists
        own_s = begin_s + shift_s
        loop, base = 0, -shift_s
        if self.period_s < inf:
            loop = floor(own_s / self.period_s)
            base = loop * self.period_s - shift_s
            own_s -= loop * self.period_s
        step = max(0, bisect_right(starts, own_s) - 1)
        while True:
            for index in range(step, len(rates)):
                until_s = base + ends[index]
                if until_s > begin_s:  # else over already, by rounding
                    yield rates[index], until_s
            if self.period_s == inf:
                return
            loop += 1
            base = loop * self.period_s - shift_s
            step = 0

    def arrival_s(self, begin_s: float, size_bytes: float, shift_s: float = 0.0) -> float:
        """When a transfer ends that has the link to itself from ``begin_s`` on, see ``pieces``."""
        if not size_bytes > 0.0:
            return begin_s
        starts, rates, ends = self._lists
        moved = self._moved_list
        own_s, loops = begin_s + shift_s, 0
        if self.period_s < inf:
            loops = floor(own_s / self.period_s)
            own_s -= loops * self.period_s
        step = max(0, bisect_right(starts, own_s) - 1)
        due = moved[step] + (own_s - starts[step]) * rates[step] + size_bytes  # bytes since the loop's start
        least = self.negligible_bytes(begin_s, size_bytes, shift_s)
        if self.period_s < inf:
            more = max(0, ceil((due - least) / moved[-1]) - 1)
            loops += more
            due -= more * moved[-1]
        step = min(max(0, bisect_left(moved, due - least) - 1), len(rates) - 1)
        own_s = starts[step]
        if rates[step] > 0.0:  # else by rounding: nothing is left when the stall begins
            own_s = min(ends[step], own_s + (due - moved[step]) / rates[step])
        if self.period_s < inf:
            own_s += loops * self.period_s
        return max(begin_s, own_s - shift_s)


def slower(one: Pieces, other: Pieces) -> Pieces:
    """At each moment the lower of two rates that are known from the same moment on."""
    (rate, until_s), (other_rate, other_until_s) = next(one), next(other)
    while True:
        end_s = min(until_s, other_until_s)
        yield min(rate, other_rate), end_s
        if end_s == inf:
            return
        if until_s <= end_s:
            rate, until_s = next(one)
        if other_until_s <= end_s:
            other_rate, other_until_s = next(other)


def arrival_of(begin_s: float, size_bytes: float, pieces: Pieces, negligible_bytes: float = 0.0) -> float:
    """When a transfer ends that begins to move at ``begin_s``, at the rates of ``pieces`` and no others."""
    now_s, left = begin_s, size_bytes
    least = max(negligible_bytes, NEGLIGIBLE * size_bytes)
    if not left > 0.0:
        return begin_s
    for rate, until_s in pieces:
        end_s = now_s + left / rate if rate > 0.0 else inf
        if rate > 0.0 and end_s <= until_s:
            return end_s
        left -= rate * (until_s - now_s)
        now_s = until_s
        if left <= least:
            return now_s
    raise EmulationError(f"a transfer of {size_bytes:g} bytes never ends: its rate is 0 at last")
