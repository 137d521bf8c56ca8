"""Recorded rates of links, read from files in two formats that are told apart by what is in them.

Mahimahi (Netravali et al., USENIX ATC 2015): one integer a line, the millisecond of a chance to send 1500 bytes; the
last one is the length of the loop. Chances are counted in bins, those at a bin's end in that bin, and become a rate by
steps. Two columns: the second from which on a rate in Mbit/s holds, where the first line is the beginning; the last
rate holds as long as the one before it. Both loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from io import StringIO
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.errors import shortened
from fedmpi.config.ranges import RATE, SECONDS
from fedmpi.emulation.bandwidth import BYTES_PER_S_PER_MBIT_PER_S
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.stepwise import StepwiseRate

CHANCE_BYTES = 1500

_MOST_BINS = 10**7
_MOST_OF_PATH = 200
_ROUNDING = 8 * np.finfo(np.float64).eps
"""Relative, of two divisions and of a bin's length in decimals."""
_FORMATS = "one integer millisecond a line (Mahimahi), or two columns: seconds, Mbit/s"

FloatArray = NDArray[np.float64]


def trace_files(key: str, given: str | Sequence[str]) -> tuple[tuple[Path, ...], tuple[Path, ...]]:
    """The files of a trace key in sorted order, and those of its folders that are none: hidden ones and READMEs.

    ``given`` is a file, a folder or a list of them. Raises EmulationError for what does not exist or is something else
    (a pipe, a link to nowhere in a folder), and for a folder without any trace.
    """
    found: list[Path] = []
    left_out: list[Path] = []
    for item in [given] if isinstance(given, str) else given:
        path = Path(item)
        try:
            inside = sorted(path.iterdir()) if path.is_dir() else [path]
            exists = path.exists()
        except OSError as error:
            raise EmulationError(
                f"{key}: found {shortened(repr(item), _MOST_OF_PATH)}, which cannot be read: {error.strerror}"
            ) from None
        if not exists:
            raise EmulationError(
                f"{key}: found {shortened(repr(item), _MOST_OF_PATH)}, which does not exist; "
                f"allowed: a file, a folder, or a list of them"
            )
        if path.is_dir():
            files = [file for file in inside if not file.is_dir()]
            none = [file for file in files if file.name.startswith((".", "README", "readme"))]
            inside = [file for file in files if file not in none]
            left_out += none
            if not inside:
                raise EmulationError(
                    f"{key}: found no trace in the folder {shortened(repr(item), _MOST_OF_PATH)}; "
                    f"allowed: a folder with files of {_FORMATS}"
                )
        for file in inside:
            if not file.is_file():
                raise EmulationError(
                    f"{key}: found {shortened(repr(str(file)), _MOST_OF_PATH)}, which is neither a file nor a folder; "
                    f"allowed: a file, a folder, or a list of them"
                )
        found += inside
    return tuple(sorted(found)), tuple(sorted(left_out))


def read_trace(path: Path, bin_s: float) -> StepwiseRate:
    """The rate in a file. Raises EmulationError that names file and line for anything that is no trace."""
    try:
        state = path.stat()
    except (OSError, ValueError):
        return _read_trace(path, bin_s)  # which says why
    return _read_again(path, bin_s, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=1024)
def _read_again(path: Path, bin_s: float, modified_ns: int, size: int) -> StepwiseRate:
    """A fleet is made several times for one run: what is read once is kept, unless the file has changed."""
    return _read_trace(path, bin_s)


def _read_trace(path: Path, bin_s: float) -> StepwiseRate:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except ValueError:
        raise EmulationError(f"{path}: found bytes that are no text in UTF-8; allowed: {_FORMATS}") from None
    except OSError as error:
        raise EmulationError(f"{path}: cannot be read: {error.strerror}; allowed: {_FORMATS}") from None
    rows = _rows(text.replace(",", " ").replace("\0", "?"), path)
    return _mahimahi(rows[:, 0], path, bin_s) if rows.shape[1] == 1 else _two_columns(rows, path)


def _rows(text: str, path: Path) -> FloatArray:
    """The numbers of the lines that are not empty, float64 (lines, 1 or 2); at least two lines."""
    try:
        # A faulty file is read again line by line, to say where; a good one of a million lines takes half a second.
        rows = np.loadtxt(StringIO(text), dtype=np.float64, comments=None, ndmin=2) if text.strip() else None
    except ValueError:
        rows = None
    if rows is None or rows.shape[1] > 2 or not np.isfinite(rows).all() or not (rows >= 0.0).all():
        raise _faulty_line(text, path)
    if len(rows) < 2:
        raise EmulationError(f"{path}: found one line; allowed: two lines or more of {_FORMATS}")
    return rows


def _faulty_line(text: str, path: Path) -> EmulationError:
    """The error of the first line that cannot stand in a trace."""
    columns = 0
    for number, line in enumerate(text.split("\n"), start=1):
        cells = line.split()
        if not cells:
            continue
        columns = columns or min(len(cells), 2)
        problem = f"{path}, line {number}: found {shortened(repr(line.strip()))}; allowed: "
        try:
            values = [float(cell) for cell in cells]
        except ValueError:
            return EmulationError(problem + _FORMATS)
        # Python reads 1_000 and digits of other scripts too, which stand in no file of numbers.
        if len(values) != columns or "_" in line or not line.isascii():
            return EmulationError(problem + _FORMATS)
        if not all(isfinite(value) and value >= 0.0 for value in values):
            return EmulationError(problem + "finite numbers, 0 or more")
    return EmulationError(f"{path}: found no lines; allowed: {_FORMATS}")


def _line_of(row: int, path: Path) -> str:
    """``FILE, line N`` of a row, where empty lines are no rows."""
    lines = path.read_text(encoding="utf-8-sig").replace(",", " ").split("\n")
    numbers = [number for number, line in enumerate(lines, start=1) if line.strip()]
    return f"{path}, line {numbers[row]}"


def _mahimahi(milliseconds: FloatArray, path: Path, bin_s: float) -> StepwiseRate:
    fractions = milliseconds != np.floor(milliseconds)
    if fractions.any():
        row = int(fractions.argmax())
        raise EmulationError(f"{_line_of(row, path)}: found {milliseconds[row]:g}; allowed: {_FORMATS}")
    falls = np.diff(milliseconds) < 0.0
    if falls.any():
        row = int(falls.argmax()) + 1
        raise EmulationError(
            f"{_line_of(row, path)}: found {milliseconds[row]:.15g} after {milliseconds[row - 1]:.15g}; "
            f"allowed: milliseconds that do not fall"
        )
    period_s = float(milliseconds[-1]) / 1000.0
    if not period_s > 0.0:
        raise EmulationError(
            f"{path}: found no millisecond after 0, so that nothing is ever sent; allowed: {_FORMATS}"
        )
    if period_s / bin_s > _MOST_BINS:
        raise EmulationError(
            f"{path}: found {period_s:g} s in bins of trace_bin_s = {bin_s:g}; allowed: at most {_MOST_BINS} bins"
        )
    bins = np.maximum(1, np.ceil(_in_bins(milliseconds, bin_s)).astype(np.int64))  # from 1 on
    edges = np.arange(bins[-1]) * bin_s
    chances = np.bincount(bins - 1, minlength=edges.size)
    lasts = np.diff(np.append(edges, period_s))
    return StepwiseRate(edges, chances * CHANCE_BYTES / lasts, period_s)


def _in_bins(milliseconds: FloatArray, bin_s: float) -> FloatArray:
    """Moments in bins of ``bin_s``; one that rounding puts beside the end of a bin is that end."""
    moments = milliseconds / 1000.0 / bin_s
    ends = np.rint(moments)
    return np.where(np.abs(moments - ends) <= _ROUNDING * ends, ends, moments)


def _two_columns(rows: FloatArray, path: Path) -> StepwiseRate:
    seconds, mbit_per_s = rows[:, 0], rows[:, 1]
    rises = np.diff(seconds) > 0.0
    if not rises.all():
        row = int(rises.argmin()) + 1
        raise EmulationError(
            f"{_line_of(row, path)}: found second {seconds[row]:.15g} after {seconds[row - 1]:.15g}; "
            f"allowed: seconds that rise"
        )
    wrong = (mbit_per_s > RATE.high) | ((mbit_per_s > 0.0) & (mbit_per_s < RATE.low))
    if wrong.any():
        row = int(wrong.argmax())
        allowed = f"0, or a number from {RATE.low:g} to {RATE.high:g}"
        raise EmulationError(f"{_line_of(row, path)}: found {mbit_per_s[row]:g} Mbit/s; allowed: {allowed}")
    if not mbit_per_s.any():
        raise EmulationError(
            f"{path}: found only rates of 0, so that nothing is ever sent; allowed: {_FORMATS}"
        )
    starts = seconds - seconds[0]
    before_s, last_s = starts[-2:].tolist()
    period_s = last_s + (last_s - before_s)
    if not period_s <= SECONDS.high:
        raise EmulationError(f"{path}: found a loop of {period_s:g} s; allowed: at most {SECONDS.high:g}")
    return StepwiseRate(starts, mbit_per_s * BYTES_PER_S_PER_MBIT_PER_S, period_s)
