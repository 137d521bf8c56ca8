"""Many rates that vary by steps as one table: what transfers take that have their links to themselves, all at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import frexp, inf

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.stepwise import StepwiseRate, negligible_bytes

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

_SHARE_BITS = 40
"""A capacity as an integer has so many bits: enough for a share of a billionth, and for sums over millions of links."""

_MOST_STEPS = 2_000_000


@dataclass(frozen=True)
class RateTable:
    """The steps of R rates one after another; rate r has ``count[r]`` from ``first[r]`` on, and one place more.

    ``starts_s``, ``bytes_per_s``, ``moved_bytes`` float64: of each step, and in the place after a rate's last one the
    loop's end (without a loop: inf). ``period_s`` float64 (R,), inf without a loop; ``within_s``, ``peak_bytes_per_s``
    float64 (R,): see ``StepwiseRate``.
    """

    first: IntArray
    count: IntArray
    starts_s: FloatArray
    bytes_per_s: FloatArray
    moved_bytes: FloatArray
    period_s: FloatArray
    within_s: FloatArray
    peak_bytes_per_s: FloatArray

    @classmethod
    def of(cls, rates: Sequence[StepwiseRate]) -> RateTable:
        count = np.array([len(rate.starts_s) for rate in rates], dtype=np.int64)
        return cls(
            first=np.cumsum(count + 1) - (count + 1),
            count=count,
            starts_s=np.concatenate([np.append(rate.starts_s, rate.period_s) for rate in rates]),
            bytes_per_s=np.concatenate([np.append(rate.bytes_per_s, 0.0) for rate in rates]),
            moved_bytes=np.concatenate(
                [
                    rate.moved_bytes if rate.period_s < inf else np.append(rate.moved_bytes, inf)
                    for rate in rates
                ]
            ),
            period_s=np.array([rate.period_s for rate in rates]),
            within_s=np.array([rate.within_s for rate in rates]),
            peak_bytes_per_s=np.array([rate.peak_bytes_per_s for rate in rates]),
        )

    def arrival_s(
        self, which: IntArray, begin_s: FloatArray, size_bytes: FloatArray, shift_s: FloatArray
    ) -> FloatArray:
        """When transfers of ``size_bytes`` (n,), all above 0, end: ``StepwiseRate.arrival_s`` of each, bit for bit.

        ``which`` (n,): numbers of their rates, of which the steps' own time is ``shift_s`` (n,) ahead.
        """
        looped = self.period_s[which] < inf
        period_s = np.where(looped, self.period_s[which], 1.0)
        own_s, loops, step = self._places(which, begin_s + shift_s)
        due = self.moved_bytes[step] + (own_s - self.starts_s[step]) * self.bytes_per_s[step] + size_bytes
        least = negligible_bytes(
            size_bytes, begin_s + shift_s, self.within_s[which], self.peak_bytes_per_s[which]
        )
        first, count = self.first[which], self.count[which]
        of_loop = np.where(looped, self.moved_bytes[first + count], 1.0)
        more = np.where(looped, np.maximum(0.0, np.ceil((due - least) / of_loop) - 1.0), 0.0)
        loops += more
        due -= more * of_loop
        found = _bisect(self.moved_bytes, first, first + count + looped, due - least, right=False)
        step = np.minimum(np.maximum(first, found - 1), first + count - 1)
        own_s = self.starts_s[step]
        rate = self.bytes_per_s[step]
        moving = rate > 0.0  # else by rounding: nothing is left when the stall begins
        own_s = own_s + np.where(moving, (due - self.moved_bytes[step]) / np.where(moving, rate, 1.0), 0.0)
        own_s = np.minimum(own_s, self.starts_s[step + 1])
        own_s = np.where(looped, own_s + loops * period_s, own_s)
        return np.maximum(begin_s, own_s - shift_s)

    def fit_into(
        self,
        capacity: float,
        which: IntArray,
        begin_s: FloatArray,
        end_s: FloatArray,
        shift_s: FloatArray,
        weight: IntArray,
    ) -> bool:
        """Whether the rates of all that move together, from ``begin_s`` to ``end_s`` (n,), never exceed ``capacity``.

        Each stands for ``weight`` (n,) equal ones. The answer does not depend on their order: rates are counted in
        integers, rounded up. It is False also where they have more than some millions of steps.
        """
        count = self.count[which]
        _, loops, step = self._places(which, begin_s + shift_s)
        first_step = loops.astype(np.int64) * count + step - self.first[which]
        _, loops, step = self._places(which, end_s + shift_s)
        steps = loops.astype(np.int64) * count + step - self.first[which] - first_step + 1
        if steps.sum() > _MOST_STEPS:
            return False
        of = np.repeat(np.arange(len(which)), steps)
        number = np.arange(len(of)) - np.repeat(np.cumsum(steps) - steps, steps)
        loop, place = np.divmod(first_step[of] + number, count[of])
        place += self.first[which[of]]
        base_s = (
            np.where(loop > 0, loop * np.where(loop > 0, self.period_s[which[of]], 0.0), 0.0) - shift_s[of]
        )
        since_s = np.where(number > 0, base_s + self.starts_s[place], begin_s[of])
        per_unit = 2.0 ** (_SHARE_BITS - frexp(capacity)[1])
        units = np.ceil(np.minimum(self.bytes_per_s[place], 2.0 * capacity) * per_unit).astype(np.int64)
        units *= weight[of]
        before = np.where(number > 0, np.roll(units, 1), 0)
        moments = np.concatenate((since_s, end_s))
        changes = np.concatenate((units - before, -units[np.cumsum(steps) - 1]))
        order = np.argsort(moments, kind="stable")
        total = np.cumsum(changes[order])
        settled = np.append(
            np.diff(moments[order]) > 0.0, True
        )  # all that happens at one moment counts at once
        return bool(total[settled].max(initial=0) <= int(capacity * per_unit))

    def _places(self, which: IntArray, own_s: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        """Of moments of the steps' own time: the time within the loop, how many loops are over, and the step."""
        looped = self.period_s[which] < inf
        period_s = np.where(looped, self.period_s[which], 1.0)
        loops = np.where(looped, np.floor(own_s / period_s), 0.0)
        own_s = own_s - loops * period_s
        first = self.first[which]
        found = _bisect(self.starts_s, first, first + self.count[which], own_s, right=True)
        return own_s, loops, np.maximum(first, found - 1)


def _bisect(values: FloatArray, low: IntArray, high: IntArray, sought: FloatArray, right: bool) -> IntArray:
    """``bisect`` in each ``values[low:high]``, which rise; ``right``: after equal values, else before them."""
    low, high = low.copy(), high.copy()
    while (open_ := low < high).any():
        middle = (low + high) // 2
        found = values[np.where(open_, middle, 0)]
        beyond = open_ & ((found <= sought) if right else (found < sought))
        low = np.where(beyond, middle + 1, low)
        high = np.where(open_ & ~beyond, middle, high)
    return low
