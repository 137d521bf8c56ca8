"""What a page leaves out of long runs and large fleets, so that it stays small; it says so wherever it does.

Lines keep the highest and the lowest value of every stretch, bars become means or sums of blocks of rounds, and of the
participants of a round those are kept that were done at evenly spaced ranks, the first and the last among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, isfinite

import numpy as np
from numpy.typing import ArrayLike, NDArray

MOST_POINTS = 600
"""Of a line: more than there are pixels to tell them apart."""
MOST_BAND_POINTS = 300
"""Of a line with a band, whose bounds take time to compute."""
MOST_LINE_POINTS = 6_000
"""Of all lines of a chart together."""
MOST_BARS = 240
MOST_CLIENTS = 60
"""Of which each has a bar of its own."""
MOST_GANTT_ROWS = 24_000
"""Participants times rounds of the Gantt charts of all runs together."""
MOST_ROUNDS = 400
"""Of which each has a Gantt chart."""
MOST_RUNS = 40
"""Of which one can be chosen to be looked at by itself."""
MOST_EVENTS = 200
MOST_TABLE_ROWS = 300

_DIGITS = 6
"""Of numbers in charts."""


@dataclass(frozen=True)
class Blocks:
    """Rounds in blocks of ``length``, the last one possibly shorter: ``starts`` are places of their first ones."""

    starts: NDArray[np.int64]
    length: int
    count: int

    def mean(self, values: ArrayLike) -> NDArray[np.float64]:
        """Of values of rounds (count, ...), those of each block without NaN; NaN where there is nothing else."""
        known = np.asarray(values, dtype=np.float64)
        found = np.isfinite(known)
        sums = np.add.reduceat(np.where(found, known, 0.0), self.starts)
        counts = np.add.reduceat(found.astype(np.float64), self.starts)
        return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0)

    def sum(self, values: ArrayLike) -> NDArray[np.float64]:
        """Of values of rounds (count, ...), those of each block."""
        return np.add.reduceat(np.asarray(values, dtype=np.float64), self.starts)


def blocks(count: int, most: int = MOST_BARS) -> Blocks:
    """At most ``most`` blocks of ``count`` > 0 rounds, all but the last of one length."""
    length = ceil(count / most)
    return Blocks(np.arange(0, count, length), length, count)


def spaced(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` of the places 0 to ``count`` - 1, evenly, the first and the last among them; ascending."""
    if count <= most:
        return np.arange(count)
    if most < 2:
        return np.array([count - 1][:most], dtype=np.int64)
    return np.round(np.linspace(0, count - 1, most)).astype(np.int64)


def extremes(values: ArrayLike, most: int) -> NDArray[np.int64]:
    """Places of at most ``most`` (at least 4) of ``values`` (n,): the first, the last, and of each stretch the lowest
    and the highest."""
    y = np.asarray(values, dtype=np.float64)
    if len(y) <= most:
        return np.arange(len(y))
    bounds = np.linspace(1, len(y) - 1, (most - 2) // 2 + 1).astype(np.int64)
    kept = [0, len(y) - 1]
    for start, stop in pairwise(bounds):
        stretch = y[start:stop]
        kept += [start + int(np.argmin(stretch)), start + int(np.argmax(stretch))]
    return np.unique(kept)


def points_each(lines: int) -> int:
    """How many points each of so many lines of a chart may have."""
    return max(20, min(MOST_POINTS, MOST_LINE_POINTS // max(1, lines)))


def numbers(values: ArrayLike) -> list[float | None]:
    """Numbers for a chart: whole ones as they are, others with six digits, None for what is not finite."""
    return [_number(value) for value in np.asarray(values, dtype=np.float64).ravel().tolist()]


def kept_of(kept: int, count: int, what: str, how: str) -> str:
    """What was left out, in words; "" where nothing was."""
    return f"{kept:,} of {count:,} {what} are shown, {how}" if kept < count else ""


def joined(notes: Sequence[str]) -> str:
    """Remarks in one line, without those that are empty and without repetitions."""
    return "; ".join(dict.fromkeys(filter(None, notes)))


def _number(value: float) -> float | None:
    if not isfinite(value):
        return None
    return int(value) if value == int(value) and abs(value) < 2**53 else float(f"{value:.{_DIGITS}g}")
