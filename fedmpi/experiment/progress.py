"""How a run is told about on rank 0: one rewritten line on a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Mapping
from math import isfinite, nan
from typing import Any, TextIO

import numpy as np

_REDRAW_S = 0.1
_LINE_S = 1.0
_SILENCE_S = 60.0
_INITIAL_S = 10.0
"""Host seconds: between rewrites on a terminal, at least between plain lines, at most without one; between plain
lines of initial pruning."""

Row = Mapping[str, Any] | np.void


class Progress:
    """Tells of the rounds of one run. ``quiet`` tells nothing.

    Plain lines: the first and the last round, and rounds with an evaluation, at most about one a second; a
    round without an evaluation only after a minute of silence.
    """

    def __init__(self, total_rounds: int, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._total = total_rounds
        self._quiet = quiet
        self._stream = sys.stdout if stream is None else stream
        self._terminal = self._stream.isatty()
        self._started = time.monotonic()
        self._first: tuple[int, float] | None = None
        self._told_at: float | None = None
        self._accuracy = nan
        self._line = ""
        self._line_is_told = True

    def update(self, round_row: Row) -> None:
        """One finished round, as a row of the trace's table ``rounds``."""
        if self._quiet:
            return
        now = time.monotonic()
        done = int(round_row["round"]) + 1
        accuracy = float(round_row["test_accuracy"])
        evaluated = isfinite(accuracy)
        if evaluated:
            self._accuracy = accuracy
        if self._first is None:
            self._first = (done, now)
        self._line = self._describe(round_row, done, now)
        self._offer(now, _LINE_S if evaluated else _SILENCE_S, last=done == self._total)

    def initial(self, done: int, most: int, row: Row, emulated_s: float) -> None:
        """``done`` of at most ``most`` local rounds of initial pruning; ``row`` has the loss and the density."""
        if self._quiet:
            return
        now = time.monotonic()
        self._line = (
            f"initial pruning {done}/{most}  loss {float(row['train_loss']):.4f}  "
            f"emulated {duration(emulated_s)}  density {float(row['density']):.3f}"
        )
        self._offer(now, _INITIAL_S)
        self._started = now  # the pace of the rounds is their own

    def _offer(self, now: float, every_s: float, last: bool = False) -> None:
        """Tell the present line if it is due; between plain lines lie at least ``every_s``."""
        self._line_is_told = False
        silence = now - self._told_at if self._told_at is not None else None
        if silence is None or last or silence >= (_REDRAW_S if self._terminal else every_s):
            self._tell()
            self._told_at = now

    def message(self, text: str) -> None:
        """A line that stays."""
        if self._quiet:
            return
        if self._terminal:
            self._stream.write("\r\x1b[K")
        self._stream.write(f"{text}\n")
        if self._terminal and self._line:
            self._tell()
        self._stream.flush()

    def close(self, summary: str = "") -> None:
        """The end of the run: its last round, if that was not told yet, and a summary."""
        if self._quiet:
            return
        if not self._line_is_told:
            self._tell()
        if self._terminal and self._line:
            self._stream.write("\n")
        if summary:
            self._stream.write(f"{summary}\n")
        self._stream.flush()

    def _tell(self) -> None:
        if self._terminal:
            columns = shutil.get_terminal_size().columns
            self._stream.write(f"\r{self._line[: columns - 1]}\x1b[K")
        else:
            self._stream.write(f"{self._line}\n")
        self._stream.flush()
        self._line_is_told = True

    def _describe(self, row: Row, done: int, now: float) -> str:
        parts = [f"round {done}/{self._total}"]
        if isfinite(self._accuracy):
            parts.append(f"accuracy {self._accuracy:.4f}")
        parts.append(f"emulated {duration(float(row['end_s']))}")
        parts.append(f"k {int(row['k'])}")
        parts.append(f"density {float(row['density']):.3f}")
        if done < self._total:
            parts.append(f"ETA {duration(self._remaining_s(done, now))}")
        return "  ".join(parts)

    def _remaining_s(self, done: int, now: float) -> float:
        """Host seconds to the last round, from the pace since the first one seen (a run may be resumed)."""
        assert self._first is not None
        first, first_at = self._first
        pace = (now - first_at) / (done - first) if done > first else now - self._started
        return pace * (self._total - done)


def duration(seconds: float) -> str:
    """Seconds in the two largest units: ``8.4 s``, ``3 min 05 s``, ``2 h 10 min``, ``4 d 06 h``."""
    if seconds < 59.95:  # which one decimal would show as 60.0
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 24:
        return f"{hours} h {minutes:02d} min"
    return f"{hours // 24} d {hours % 24:02d} h"
