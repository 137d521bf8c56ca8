"""Runs in a table: what they reached, and what that took, with the uncertainty of seeds. ``fedmpi summarize``."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from math import nan
from typing import Any

import numpy as np
import pandas as pd

from fedmpi.analysis.fairness import of_client_tests
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.measures import bytes_so_far, energy_so_far
from fedmpi.analysis.runs import AnalysisError
from fedmpi.analysis.statistics import FEWEST_PAIRS, bootstrap_interval, paired
from fedmpi.trace import Trace

FORMATS = {
    "seeds": "{:.0f}",
    "rounds": "{:,.0f}",
    "final_accuracy": "{:.4f}",
    "best_accuracy": "{:.4f}",
    "worst_clients_accuracy": "{:.4f}",
    "clients_gini": "{:.4f}",
    "target": "{:.4f}",
    "reached": "{:.0f}",
    "time_to_target_s": "{:,.1f}",
    "mbytes_to_target": "{:,.2f}",
    "energy_to_target_j": "{:,.1f}",
    "emulated_s": "{:,.1f}",
    "mbytes_up": "{:,.2f}",
    "mbytes_down": "{:,.2f}",
    "energy_j": "{:,.1f}",
    "k": "{:,.0f}",
    "density": "{:.4f}",
    "host_s": "{:,.1f}",
    "pairs": "{:.0f}",
    "p_value": "{:.3f}",
}
"""How each column is written; those of measures that are not here, "{}"."""

OF_TARGET = ("target", "reached", "time_to_target_s", "mbytes_to_target", "energy_to_target_j")
OF_SEEDS = ("seeds", "reached")
"""Columns that a table without a target, and one of single runs, does without."""

COMPARED = ("final_accuracy", "time_to_target_s", "mbytes_to_target", "energy_to_target_j")
LOW, HIGH = "_low", "_high"
"""Ends of the names of columns that hold the bounds of an interval."""

_NOT_MEASURED = ("seeds", "status", "target", "reached")
_LONGEST_NAME = 30
_GAP = 2


def summarized(trace: Trace, target: float) -> dict[str, Any]:
    """One run in figures: NaN for what was never measured or reached; megabytes are 10**6 bytes.

    Initial pruning counts in times and bytes, not among the rounds. Energy is there where the trace has it, and so are
    the accuracy of the worst tenth of clients and how unequal clients are, of the last test at clients.
    """
    rounds = trace.rounds
    mbytes = bytes_so_far(trace) / 1e6
    reached = rounds.index[rounds.test_accuracy >= target]
    accuracy = rounds.test_accuracy.dropna()
    try:
        energy_j = energy_so_far(trace)
    except AnalysisError:  # a trace without energy
        energy_j = None
    worst, unequal = of_client_tests(trace) or (None, None)
    row = {
        "rounds": int((rounds.phase == "federated").sum()),
        "status": trace.attributes["status"],
        "final_accuracy": _last(accuracy),
        "best_accuracy": accuracy.max(),
        "worst_clients_accuracy": worst,
        "clients_gini": unequal,
        "target": target,
        "time_to_target_s": _at(rounds.end_s, reached),
        "mbytes_to_target": _at(mbytes, reached),
        "energy_to_target_j": None if energy_j is None else _at(energy_j, reached),
        "emulated_s": _last(rounds.end_s),
        "mbytes_up": rounds.bytes_up.sum() / 1e6,
        "mbytes_down": rounds.bytes_down.sum() / 1e6,
        "energy_j": None if energy_j is None else _last(energy_j),
        "k": _last(rounds.k),
        "density": _last(rounds.density),
        "host_s": rounds.host_s.sum(),
    }
    return {name: value for name, value in row.items() if value is not None}


def common_target(groups: Sequence[Configuration]) -> float:
    """The lowest of the runs' best accuracies, which all of them reached; NaN where no run was evaluated."""
    best = [run.trace.rounds.test_accuracy.max() for group in groups for run in group.runs]
    return float(pd.Series(best, dtype=float).min())


def table(groups: Sequence[Configuration], target: float | None = None) -> pd.DataFrame:
    """A row for each configuration, indexed by its label: means over seeds, and bounds of their bootstrap intervals.

    Bounds are in columns named with ``_low`` and ``_high``, which are there where any configuration has several seeds.
    To the target (None: ``common_target``) counts what all seeds reached, else NaN; ``reached`` says how many did.
    """
    single = sum(len(group.runs) for group in groups) == 1
    several = any(len(group.runs) > 1 for group in groups)
    compared = common_target(groups) if target is None else target
    rows = [_row(group, compared, several) for group in groups]
    names = [", ".join(filter(None, (group.name, group.extra))) for group in groups]
    frame = pd.DataFrame(rows, index=pd.Index(names, name="name"))
    ordered = [
        name for column in ("seeds", "status", *FORMATS) for name in (column, column + LOW, column + HIGH)
    ]
    frame = frame[list(dict.fromkeys(name for name in ordered if name in frame))]
    left_out = [*(OF_TARGET if single and target is None else ()), *(() if several else OF_SEEDS)]
    return frame.drop(columns=[name for name in left_out if name in frame])


def comparisons(
    groups: Sequence[Configuration], target: float | None = None, baseline: str | None = None
) -> pd.DataFrame:
    """Each configuration against ``baseline`` (a label; None: the first) on the seeds that both were run with.

    A row for each measure of COMPARED that both have: ``pairs`` of seeds, the mean ``difference`` to the baseline with
    its bootstrap interval, and Wilcoxon's ``p_value`` (NaN with fewer than six pairs), not corrected for their number.
    Configurations with fewer than two seeds in common with the baseline are left out. AnalysisError: no such label.
    """
    shown = labels(groups)
    known = [group.label for group in groups]
    if baseline is not None and baseline not in known:
        raise AnalysisError(f"--baseline: found {baseline!r}; allowed: {', '.join(map(repr, known))}")
    place = 0 if baseline is None else known.index(baseline)
    compared = common_target(groups) if target is None else target
    seeds = [{run.seed: summarized(run.trace, compared) for run in group.runs} for group in groups]
    rows = []
    for name, measured in zip(shown, seeds, strict=True):
        common = [seed for seed in measured if seed in seeds[place]]
        if measured is seeds[place] or len(common) < 2:
            continue
        for column in COMPARED:
            own = [measured[seed].get(column, nan) for seed in common]
            found = paired(own, [seeds[place][seed].get(column, nan) for seed in common])
            if found.pairs >= 2:
                p_value = nan if found.p_value is None else found.p_value
                bounds = {f"difference{LOW}": found.low, f"difference{HIGH}": found.high}
                row = {"name": name, "measure": column, "pairs": found.pairs, "difference": found.difference}
                rows.append({**row, **bounds, "p_value": p_value})
    columns = ["measure", "pairs", "difference", f"difference{LOW}", f"difference{HIGH}", "p_value"]
    return pd.DataFrame(rows, columns=["name", *columns]).set_index("name")


def texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The table as strings: an interval in brackets where it is not its mean alone, "-" for what is not known."""
    shown = [name for name in frame if not str(name).endswith((LOW, HIGH))]
    cells = {str(name): [_cell(frame, str(name), place) for place in range(len(frame))] for name in shown}
    return pd.DataFrame(cells, index=frame.index)


def aligned(frame: pd.DataFrame, width: int | None = None) -> str:
    """The table as plain text: names to the left, numbers to the right, "-" for what is not known.

    What does not fit into ``width`` characters (None: all does) stands below, with the names once more; long names
    are folded.
    """
    cells_of = {str(column): list(cells) for column, cells in texts(frame).items()}
    widths = {column: max(len(column), *map(len, cells)) for column, cells in cells_of.items()}
    fold = _LONGEST_NAME if width is not None else max(map(len, map(str, frame.index)))
    names = [textwrap.wrap(str(name), fold) or [""] for name in frame.index]
    name_width = max(len(str(frame.index.name)), *(len(line) for lines in names for line in lines))
    blocks, left = [], list(cells_of)
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
            cells = [cells_of[column][place].rjust(widths[column]) for column in shown]
            lines += [_line(first, name_width, cells), *more]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _line(name: str, width: int, cells: Sequence[str]) -> str:
    return (" " * _GAP).join([name.ljust(width), *cells]).rstrip()


def _row(group: Configuration, target: float, several: bool) -> dict[str, Any]:
    """The means over a configuration's seeds, and if there are ``several`` in the table the bounds of intervals."""
    rows = [summarized(run.trace, target) for run in group.runs]
    reached = sum(not np.isnan(row["time_to_target_s"]) for row in rows)
    row: dict[str, Any] = {"seeds": len(rows), "status": group.status, "target": target, "reached": reached}
    for name in rows[0]:
        if name in _NOT_MEASURED:
            continue
        values = np.array([row.get(name, nan) for row in rows], dtype=np.float64)
        row[name] = values.mean()
        if several:
            low, high = bootstrap_interval(values)
            row |= {name + LOW: float(low), name + HIGH: float(high)}
    return row


def _cell(frame: pd.DataFrame, column: str, place: int) -> str:
    value = frame[column].iloc[place]
    if pd.isna(value):
        return f"under {FEWEST_PAIRS} seeds" if column == "p_value" else "-"
    form = FORMATS.get(str(frame["measure"].iloc[place]) if column == "difference" else column, "{}")
    signed = form.replace(":", ":+", 1) if column == "difference" else form
    text = signed.format(value)
    if column + LOW not in frame or pd.isna(frame[column + LOW].iloc[place]):
        return text
    bounds = [signed.format(frame[column + end].iloc[place]) for end in (LOW, HIGH)]
    return text if bounds == [text, text] else f"{text} [{', '.join(bounds)}]"


def _at(values: pd.Series, reached: pd.Index) -> float:
    return float(values[reached[0]]) if len(reached) else nan


def _last(values: pd.Series) -> float:
    return float(values.iloc[-1]) if len(values) else nan
