"""Compare runs in a table: ``python analysis/summarize.py RUN... [--target ACCURACY] [--csv]``.

A RUN is a run folder or its trace, finished or not. The target is the test accuracy whose emulated time and
bytes are compared; by default the lowest of the runs' best accuracies, which all of them reached.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from arguments import OneLineParser

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
    """The runs' summaries, one row each, indexed by name."""
    if target is None:
        target = pd.Series([trace.rounds.test_accuracy.max() for trace in traces], dtype=float).min()
    return pd.DataFrame(
        [summary(trace, float(target)) for trace in traces], index=pd.Index(run_names(traces), name="name")
    )


def run_names(traces: Sequence[Trace]) -> list[str]:
    """The experiments' names, with the run folder where a name occurs twice."""
    given = [str(trace.config.get("experiment", {}).get("name", trace.path.stem)) for trace in traces]
    folders = [trace.path.resolve().parent.name for trace in traces]
    return [
        f"{name} ({folder})" if given.count(name) > 1 else name
        for name, folder in zip(given, folders, strict=True)
    ]


def aligned(frame: pd.DataFrame) -> str:
    """The table as plain text: names to the left, numbers to the right, "-" for what is not known."""
    columns = {frame.index.name: [str(name) for name in frame.index]}
    for column in frame:
        text = FORMATS.get(str(column), "{}")
        columns[str(column)] = ["-" if pd.isna(value) else text.format(value) for value in frame[column]]
    lines = []
    for row in zip(*([name, *values] for name, values in columns.items()), strict=True):
        cells = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, _widths(columns), strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _widths(columns: dict[Any, list[str]]) -> list[int]:
    return [max(len(str(name)), *map(len, values)) for name, values in columns.items()]


def _last(values: pd.Series) -> float:
    return values.iloc[-1] if len(values) else float("nan")


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments and unreadable runs."""
    parser = OneLineParser(prog="summarize.py", description="Compare runs of fedmpi in a table.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder or trace.h5")
    parser.add_argument("--target", type=float, help="test accuracy to compare at (between 0 and 1)")
    parser.add_argument("--csv", action="store_true", help="comma-separated values with every digit")
    options = parser.parse_args(arguments)
    if options.target is not None and not 0 <= options.target <= 1:
        parser.error(f"--target {options.target} is not between 0 and 1")
    try:
        frame = table([read(run) for run in options.runs], options.target)
    except TraceError as error:
        parser.error(str(error))
    print(frame.to_csv() if options.csv else aligned(frame), end="" if options.csv else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
