"""Compare runs in a table: ``python analysis/summarize.py RUN... [--target ACCURACY] [--wide] [--csv]``.

A RUN is a run folder or its trace, finished or not. The target is the test accuracy whose emulated time and
bytes are compared; by default the lowest of the runs' best accuracies, which all of them reached. A single run has
none, unless it is given. Columns that do not fit the terminal stand below, ``--wide`` keeps each run on one line.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from arguments import OneLineParser
from configurations import run_labels

from fedmpi.trace import Trace, TraceError, read

FORMATS = {
    "final_accuracy": "{:.4f}",
    "best_accuracy": "{:.4f}",
    "target": "{:.4f}",
    "time_to_target_s": "{:,.1f}",
    "mbytes_to_target": "{:,.2f}",
    "emulated_s": "{:,.1f}",
    "mbytes_up": "{:,.2f}",
    "mbytes_down": "{:,.2f}",
    "k": "{:,.0f}",
    "density": "{:.4f}",
    "host_s": "{:,.1f}",
}
OF_TARGET = ("target", "time_to_target_s", "mbytes_to_target")

_LONGEST_NAME = 30
_GAP = 2


def summary(trace: Trace, target: float) -> dict[str, Any]:
    """One run in figures: NaN for what was never measured or reached; megabytes are 10**6 bytes.

    Initial pruning counts in times and bytes, not among the rounds.
    """
    rounds = trace.rounds
    mbytes = (rounds.bytes_up + rounds.bytes_down).cumsum() / 1e6
    reached = rounds.index[rounds.test_accuracy >= target]
    accuracy = rounds.test_accuracy.dropna()
    return {
        "rounds": int((rounds.phase == "federated").sum()),
        "status": trace.attributes["status"],
        "final_accuracy": _last(accuracy),
        "best_accuracy": accuracy.max(),
        "target": target,
        "time_to_target_s": rounds.end_s[reached[0]] if len(reached) else float("nan"),
        "mbytes_to_target": mbytes[reached[0]] if len(reached) else float("nan"),
        "emulated_s": _last(rounds.end_s),
        "mbytes_up": rounds.bytes_up.sum() / 1e6,
        "mbytes_down": rounds.bytes_down.sum() / 1e6,
        "k": _last(rounds.k),
        "density": _last(rounds.density),
        "host_s": rounds.host_s.sum(),
    }


def table(traces: Sequence[Trace], target: float | None = None) -> pd.DataFrame:
    """The runs' summaries, one row each, indexed by name; without ``OF_TARGET`` for one run without a target."""
    compared = pd.Series([trace.rounds.test_accuracy.max() for trace in traces], dtype=float).min()
    rows = [summary(trace, float(compared if target is None else target)) for trace in traces]
    frame = pd.DataFrame(rows, index=pd.Index(run_labels(traces, status=False), name="name"))
    return frame.drop(columns=list(OF_TARGET)) if target is None and len(traces) == 1 else frame


def aligned(frame: pd.DataFrame, width: int | None = None) -> str:
    """The table as plain text: names to the left, numbers to the right, "-" for what is not known.

    What does not fit into ``width`` characters (None: all does) stands below, with the names once more; long names
    are folded.
    """
    texts = {
        str(column): ["-" if pd.isna(value) else _form(str(column)).format(value) for value in frame[column]]
        for column in frame
    }
    widths = {column: max(len(column), *map(len, cells)) for column, cells in texts.items()}
    fold = _LONGEST_NAME if width is not None else max(map(len, map(str, frame.index)))
    names = [textwrap.wrap(str(name), fold) or [""] for name in frame.index]
    name_width = max(len(str(frame.index.name)), *(len(line) for lines in names for line in lines))
    blocks, left = [], list(texts)
    while left:
        room = sys.maxsize if width is None else width - name_width
        shown = left[:1]
        for column in left[1:]:
            if sum(widths[name] + _GAP for name in [*shown, column]) > room:
                break
            shown.append(column)
        left = left[len(shown) :]
        lines = [_line(str(frame.index.name), name_width, [column.rjust(widths[column]) for column in shown])]
        for place, (first, *more) in enumerate(names):
            cells = [texts[column][place].rjust(widths[column]) for column in shown]
            lines += [_line(first, name_width, cells), *more]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _line(name: str, width: int, cells: Sequence[str]) -> str:
    return (" " * _GAP).join([name.ljust(width), *cells]).rstrip()


def _form(column: str) -> str:
    return FORMATS.get(column, "{}")


def _last(values: pd.Series) -> float:
    return values.iloc[-1] if len(values) else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments and unreadable runs."""
    parser = OneLineParser(prog="summarize.py", description="Compare runs of fedmpi in a table.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder or trace.h5")
    parser.add_argument("--target", type=float, help="test accuracy to compare at (between 0 and 1)")
    parser.add_argument(
        "--wide", action="store_true", help="one line for each run, however long (default: fits the terminal)"
    )
    parser.add_argument("--csv", action="store_true", help="comma-separated values with every digit")
    options = parser.parse_args(arguments)
    if options.target is not None and not 0 <= options.target <= 1:
        parser.error(f"--target {options.target} is not between 0 and 1")
    try:
        frame = table([read(run) for run in options.runs], options.target)
    except TraceError as error:
        parser.error(str(error))
    if options.csv:
        print(frame.to_csv(), end="")
    else:
        print(aligned(frame, None if options.wide else shutil.get_terminal_size().columns))
    return 0


if __name__ == "__main__":
    sys.exit(main())
