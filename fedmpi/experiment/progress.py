"""How a run is reported on rank 0: a rewritten line with a bar on a terminal, a log of dated lines elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from math import isfinite, nan
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from fedmpi.numerics.quantities import duration

if TYPE_CHECKING:
    from rich.console import Console

TERMINAL_VARIABLE = "FEDMPI_TERMINAL"
"""The columns of the terminal at the other end of a launcher's pipe, for the ranks that are started by it."""

_REDRAW_S = 0.1
_LINE_S = 1.0
_SILENCE_S = 60.0
_INITIAL_S = 10.0
"""Host seconds: between rewrites on a terminal, at least between lines of a log, at most without one; between lines
of initial pruning in a log."""

_NARROWEST_BAR, _WIDEST_BAR = 8, 40
_GAP = "  "

Row = Mapping[str, Any] | np.void


class Progress:
    """Reports on the rounds of one run.

    ``varying``: what changes from round to round besides losses and times, of "k" and "density"; the rest is not
    reported. ``quiet``: warnings alone, on stderr; ``silent``: nothing, on the ranks beside the server's.

    A log has the first and the last round, and rounds with an evaluation, at most about one a second; a round
    without an evaluation only after a minute of silence.
    """

    def __init__(
        self,
        total_rounds: int,
        varying: Collection[str] = (),
        quiet: bool = False,
        silent: bool = False,
        stream: TextIO | None = None,
        warnings: TextIO | None = None,
    ) -> None:
        self._varying = varying
        self._quiet = quiet or silent
        self._silent = silent
        self._stream = sys.stdout if stream is None else stream
        self._warnings = sys.stderr if warnings is None else warnings
        self._console = None if self._quiet else _terminal(self._stream)
        self._rounds = _Pace(total_rounds)
        self._initial: _Pace | None = None
        self._told_at: float | None = None
        self._accuracy = nan
        self._parts: list[str] = []
        self._share = 0.0
        self._is_told = True

    def header(self, lines: Sequence[str]) -> None:
        """What a log begins with; a terminal shows the command above already."""
        if not self._quiet and self._console is None:
            for line in lines:
                self._write_line(line)

    def update(self, round_row: Row) -> None:
        """One finished round, as a row of the trace's table ``rounds``."""
        if self._quiet:
            return
        now, pace = time.monotonic(), self._rounds
        done = int(round_row["round"]) + 1
        remaining_s = pace.remaining_s(done, now)
        accuracy = float(round_row["test_accuracy"])
        evaluated, last = isfinite(accuracy), done == pace.total
        if evaluated:
            self._accuracy = accuracy
        parts = [f"round {done}/{pace.total}"]
        if isfinite(self._accuracy):
            parts.append(f"accuracy {self._accuracy:.4f}")
        parts.append(f"emulated {duration(float(round_row['end_s']))}")
        parts.append(f"train loss {float(round_row['train_loss']):.4f}")
        if "k" in self._varying:
            parts.append(f"k {int(round_row['k'])} entries")
        if "density" in self._varying:
            parts.append(f"density {float(round_row['density']):.3f}")
        parts.append("" if last else f"ETA {duration(remaining_s)}")
        self._offer(parts, done / pace.total, now, _LINE_S if evaluated else _SILENCE_S, last)

    def initial(self, done: int, most: int, row: Row, emulated_s: float) -> None:
        """``done`` of at most ``most`` local rounds of initial pruning; ``row`` has the loss and the density."""
        if self._quiet:
            return
        now = time.monotonic()
        if self._initial is None:
            self._initial = _Pace(most)
            self._initial.started = self._rounds.started
        parts = [
            f"initial pruning {done}/{most}",
            f"density {float(row['density']):.3f}",
            f"emulated {duration(emulated_s)}",
            f"train loss {float(row['train_loss']):.4f}",
            f"ETA at most {duration(self._initial.remaining_s(done, now))}",
        ]
        self._offer(parts, done / most, now, _INITIAL_S)
        self._rounds.started = now  # the pace of the rounds is their own

    def message(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._erase()
            self._write_line(text)
            self._redraw()

    def warn(self, text: str) -> None:
        """A line that stays, on stderr, also where the run is quiet."""
        if not self._silent:
            self._erase()
            self._warnings.write(f"fedmpi: warning: {text}\n")
            self._warnings.flush()
            self._redraw()

    def close(self, *summary: str) -> None:
        """The end of the run: its last round, if that was not shown yet, and a summary."""
        if self._quiet:
            return
        if not self._is_told:
            self._tell()
        if self._console is not None and self._parts:
            self._stream.write("\n")
            self._parts = []
        for line in summary:
            self._write_line(line)

    def _offer(self, parts: list[str], share: float, now: float, every_s: float, last: bool = False) -> None:
        """Tell of a round if that is due; between lines of a log lie at least ``every_s``."""
        self._parts, self._share = parts, share
        self._is_told = False
        silence = now - self._told_at if self._told_at is not None else None
        if silence is None or last or silence >= (every_s if self._console is None else _REDRAW_S):
            self._tell()
            self._told_at = now

    def _tell(self) -> None:
        self._is_told = True
        if self._console is None:
            self._write_line(_GAP.join(part for part in self._parts if part))
        else:
            self._erase()
            self._redraw()

    def _write_line(self, line: str) -> None:
        dated = line if self._console is not None else f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {line}"
        self._stream.write(f"{dated}\n")
        self._stream.flush()

    def _erase(self) -> None:
        if self._console is not None and self._parts:
            from rich.control import Control, ControlType

            self._console.control(Control(ControlType.CARRIAGE_RETURN, (ControlType.ERASE_IN_LINE, 2)))

    def _redraw(self) -> None:
        if self._console is not None and self._parts:
            from rich.progress_bar import ProgressBar

            columns = self._console.width - 1  # a full line would wrap
            line = fitted(self._parts, columns)
            bar = min(columns - len(line) - len(_GAP), _WIDEST_BAR)
            if bar >= _NARROWEST_BAR:
                self._console.print(ProgressBar(1.0, self._share, width=bar))
                line = _GAP + line
            self._console.out(line, end="", highlight=False)
            self._stream.flush()


class _Pace:
    """How fast rounds go here; ``total`` of them, the clock ``started`` when it was made."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.started = time.monotonic()
        self._first: tuple[int, float] | None = None

    def remaining_s(self, done: int, now: float) -> float:
        """Host seconds to the last round, from the pace since the first one seen (a run may be resumed)."""
        if self._first is None:
            self._first = (done, now)
        first, first_at = self._first
        pace = (now - first_at) / (done - first) if done > first else now - self.started
        return pace * (self.total - done)


def fitted(parts: Sequence[str], columns: int) -> str:
    """The parts in one line of at most ``columns``: the first and the last stay longest, of the others the first."""
    first, *middle, last = parts
    while True:
        line = _GAP.join(part for part in (first, *middle, last) if part)
        if len(line) <= columns or not middle:
            return line[:columns]
        middle.pop()


def _terminal(stream: TextIO) -> Console | None:
    """The console of a stream that ends at a terminal on which a line can be rewritten."""
    columns = os.environ.get(TERMINAL_VARIABLE, "")
    if not (stream.isatty() or columns.isdecimal()):
        return None
    from rich.console import Console

    width = None if stream.isatty() else int(columns)
    console = Console(file=stream, force_terminal=True, width=width)
    return None if console.is_dumb_terminal else console
