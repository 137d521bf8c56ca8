"""Clocks: one that only computes emulated time, and one that lets it pass."""

from __future__ import annotations

import time
from math import inf, nan
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.errors import EmulationError

SPIN_S = 0.0002
"""Host seconds: the last stretch of a wait, which spins, as a sleep ends late by a timer's slack."""

_TOLERATED_S = 0.001
_TOLERATED_SHARE = 0.01
"""Host seconds, and share of a round, by which a moment may be missed. A timer interrupt comes every 1 to 4 ms and
an operating system without real-time scheduling promises nothing finer; nobody reads the time of a round closer
than to a percent."""


def tolerated_overrun_s(round_host_s: ArrayLike) -> NDArray[np.float64]:
    """Host seconds by which the moments of rounds may be missed and count as met; ``round_host_s`` is what their
    emulated time lasts on the host."""
    return np.maximum(_TOLERATED_S, _TOLERATED_SHARE * np.asarray(round_host_s, dtype=np.float64))


_LONGEST_SLEEP_S = 1e6
"""The system's timers end at some hundred years."""


class Clock(Protocol):
    """What every rank holds its messages by. Emulated moments come from timelines, never from a clock.

    ``runs``: whether emulated time passes with the host's.
    """

    runs: bool

    def hold_until(self, emulated_s: float) -> float:
        """Wait for an emulated moment; host seconds by which the wait ended after it, NaN where time does not pass."""

    def now_s(self) -> float:
        """The emulated moment that it is now; NaN for a clock that does not run."""


class VirtualClock:
    """Emulated time is only computed: nothing waits, nothing is late."""

    runs = False

    def hold_until(self, emulated_s: float) -> float:
        """Return NaN at once."""
        del emulated_s
        return nan

    def now_s(self) -> float:
        """NaN: no moment is measured."""
        return nan


class RealtimeClock:
    """Emulated time passes with the host's: an emulated second lasts ``time_scale`` host seconds.

    ``origin_s`` is the reading of ``time.perf_counter()`` at which emulated time is 0. All deadlines are
    absolute, so that lateness does not add up over rounds. Ranks of one machine share one origin, as their
    counters are the same (on Linux and macOS); on several machines each has its own, taken after a barrier.
    """

    runs = True

    def __init__(self, origin_s: float, time_scale: float = 1.0) -> None:
        if not 0.0 < time_scale < inf:
            raise EmulationError(
                f"emulation.time_scale: found {time_scale}; allowed: a finite number above 0"
            )
        self.origin_s = origin_s
        self.time_scale = time_scale

    @classmethod
    def showing(cls, emulated_s: float, at_host_s: float, time_scale: float = 1.0) -> RealtimeClock:
        """A clock that shows ``emulated_s`` when ``time.perf_counter()`` is ``at_host_s``."""
        clock = cls(0.0, time_scale)
        clock.origin_s = at_host_s - emulated_s * time_scale
        return clock

    def now_s(self) -> float:
        """The emulated moment that it is now."""
        return (time.perf_counter() - self.origin_s) / self.time_scale

    def hold_until(self, emulated_s: float) -> float:
        """Wait for an emulated moment; host seconds by which the wait ended after it, at least 0.

        Returns at once for a moment that has passed. Sleeps but for the last ``SPIN_S``.
        """
        deadline = self.origin_s + emulated_s * self.time_scale
        while (left := deadline - time.perf_counter()) > 0.0:
            if left > SPIN_S:
                time.sleep(min(left - SPIN_S, _LONGEST_SLEEP_S))
        return -left


def make_clock(
    kind: str, time_scale: float, emulated_s: float = 0.0, at_host_s: float | None = None
) -> VirtualClock | RealtimeClock:
    """The clock of ``emulation.clock``, at ``emulated_s``: 0 for a new run, the last moment of one that is resumed.

    ``at_host_s``: the reading of ``time.perf_counter()`` at which it shows that; None: now. Raises EmulationError for
    an unknown kind.
    """
    if kind == "virtual":
        return VirtualClock()
    if kind == "realtime":
        begin_s = time.perf_counter() if at_host_s is None else at_host_s
        return RealtimeClock.showing(emulated_s, begin_s, time_scale)
    raise EmulationError(f"emulation.clock: found {kind!r}; allowed: virtual, realtime")
