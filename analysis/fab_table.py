"""The study of FAB-top-k in three tables: ``python analysis/fab_table.py STUDY_DIR [--time S] [--target ACCURACY]``.

1. accuracy at the same emulated time, of each method
2. accuracy at that time, and time to a target accuracy, of each controller of k and each fixed k, for each beta
3. the worst-off client's contribution, of each method

Markdown; means over seeds, with the lowest and the highest where there are several. Runs that are missing are told.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from math import isnan
from pathlib import Path

import numpy as np
from arguments import OneLineParser
from fab_figures import CONTROLLERS, METHODS
from fairness import fairness
from study import (
    StudyRun,
    accuracy_at,
    betas,
    common_time,
    grouped,
    load_study,
    mean_accuracy_at,
    methods_compared,
    same,
    time_to,
)

TARGET_SHARE = 0.8
"""The default target accuracy, as a share of what the best fixed k has at the end."""


def methods_table(runs: Sequence[StudyRun], time_s: float | None) -> list[str]:
    """Accuracy of each method at one emulated moment; no lines where no method was run."""
    k, beta, compared = methods_compared(runs)
    if not compared:
        return []
    moment_s = common_time(compared) if time_s is None else time_s
    rows = []
    for method, group in _in_order(grouped(compared, lambda run: run.method), METHODS):
        rounds = [run.trace.rounds[run.trace.rounds.end_s <= moment_s] for run in group]
        sent = [(seen.bytes_up + seen.bytes_down).sum() / 1e6 for seen in rounds]
        accuracies = [accuracy_at(run, moment_s) for run in group]
        rows.append(
            [
                method,
                _spread(accuracies, "{:.3f}"),
                _mean(map(len, rounds), "{:,.0f}"),
                _mean(sent, "{:,.1f}"),
            ]
        )
    title = f"Accuracy at {moment_s:,.0f} s of emulated time, k = {k:,}{_beta_text(beta)}"
    return _table(title, ["method", "accuracy", "rounds", "MB up and down"], rows)


def k_table(runs: Sequence[StudyRun], beta: float, time_s: float | None, target: float | None) -> list[str]:
    """FAB-top-k with each controller and each fixed k at one beta; no lines unless there are both."""
    here = [run for run in runs if same(run.beta, beta) and run.method == "fab"]
    fixed = dict(sorted(grouped((run for run in here if not run.adaptive), lambda run: run.k).items()))
    adaptive = _in_order(
        grouped((run for run in here if run.adaptive), lambda run: run.controller), CONTROLLERS
    )
    if not fixed or not adaptive:
        return []
    moment_s = common_time(here) if time_s is None else time_s
    accuracy_of = {k: mean_accuracy_at(group, moment_s) for k, group in fixed.items()}
    best = max(fixed, key=lambda k: -1.0 if isnan(accuracy_of[k]) else accuracy_of[k])
    if target is None:
        target = TARGET_SHARE * accuracy_of[best]
    named = adaptive + [
        (f"fixed k = {k:,}{' (best)' if k == best else ''}", group) for k, group in fixed.items()
    ]
    rows = []
    for name, group in named:
        times = [time_to(run, target) for run in group]
        late = [run.trace.rounds.k.iloc[len(run.trace.rounds) * 3 // 4 :].median() for run in group]
        rows.append(
            [
                name,
                _spread([accuracy_at(run, moment_s) for run in group], "{:.3f}"),
                _reached(times),
                _spread(late, "{:,.0f}"),
            ]
        )
    title = f"FAB-top-k with adaptive and fixed k{_beta_text(beta)}"
    columns = [
        "k",
        f"accuracy at {moment_s:,.0f} s",
        f"seconds to accuracy {target:.3f}",
        "median k of the last quarter",
    ]
    return _table(title, columns, rows)


def contributions_table(runs: Sequence[StudyRun]) -> list[str]:
    """Contribution of the worst-off client of each method; no lines where no method was run."""
    k, beta, compared = methods_compared(runs)
    sparse = [run for run in compared if run.method in ("fab", "fub_flat", "fub_tree", "unidirectional")]
    if not sparse:
        return []
    rows = []
    for method, group in _in_order(grouped(sparse, lambda run: run.method), METHODS):
        figures = [fairness(run.trace) for run in group]
        clients = int(figures[0]["clients"])
        least = [int(run.trace.clients.entries_used.min()) for run in group]
        rows.append(
            [
                method,
                _spread([run["least"] for run in figures], "{:,.1f}"),
                f"{min(least):,}",
                _mean([100 * run["zero_share"] for run in figures], "{:.2f} %"),
                _mean([run["gini"] for run in figures], "{:.3f}"),
                _mean([run["jain"] for run in figures], "{:.3f}"),
            ]
        )
    columns = [
        "method",
        "worst-off client, mean of its rounds",
        "least in a round",
        "rounds with nothing used",
    ]
    title = f"Entries used of a client in a round, k = {k:,}{_beta_text(beta)}; k / N = {k // clients:,}"
    return _table(title, [*columns, "Gini", "Jain"], rows)


def report(runs: Sequence[StudyRun], time_s: float | None = None, target: float | None = None) -> str:
    """All tables that the runs allow, as Markdown. ``target`` None: 80 % of the best fixed k's accuracy."""
    sections = [methods_table(runs, time_s)]
    sections += [k_table(runs, beta, time_s, target) for beta in betas(runs)]
    sections.append(contributions_table(runs))
    return "\n".join(line for section in sections if section for line in [*section, ""])


def _table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    rule = [":--", *["--:"] * (len(columns) - 1)]
    return [f"**{title}**", "", *(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))]


def _spread(values: Sequence[float], form: str) -> str:
    """The mean, and the extremes of several; "-" where one is missing."""
    if any(isnan(value) for value in values):
        return "-"
    mean = form.format(np.mean(values))
    return mean if len(values) == 1 else f"{mean} ({form.format(min(values))} to {form.format(max(values))})"


def _mean(values: Iterable[float], form: str) -> str:
    return form.format(np.mean(list(values)))


def _reached(times_s: Sequence[float]) -> str:
    reached = [time_s for time_s in times_s if not isnan(time_s)]
    if len(reached) == len(times_s):
        return _spread(reached, "{:,.0f}")
    return f"reached by {len(reached)} of {len(times_s)}"


def _in_order(groups: dict[str, list[StudyRun]], names: dict[str, str]) -> list[tuple[str, list[StudyRun]]]:
    """Names as readers know them, in the order of the figures, what is unknown last."""
    order = {name: place for place, name in enumerate(names)}
    ordered = sorted(groups.items(), key=lambda item: order.get(item[0], len(order)))
    return [(names.get(name, name), group) for name, group in ordered]


def _beta_text(beta: float) -> str:
    return f", beta = {beta:g}" if not isnan(beta) else ""


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments and a folder without runs."""
    parser = OneLineParser(prog="fab_table.py", description="The study of FAB-top-k in tables.")
    parser.add_argument("folder", metavar="STUDY_DIR", type=Path, help="folder of run folders")
    parser.add_argument("--time", type=float, metavar="S", help="emulated seconds to compare at")
    parser.add_argument("--target", type=float, help="test accuracy whose time is compared (between 0 and 1)")
    options = parser.parse_args(arguments)
    if options.target is not None and not 0 <= options.target <= 1:
        parser.error(f"--target {options.target} is not between 0 and 1")
    try:
        study = load_study(options.folder)
    except OSError as error:
        parser.error(str(error))
    for remark in study.remarks:
        print(remark, file=sys.stderr)
    if not study.runs:
        parser.error(f"{options.folder}: no run with an evaluated model is there")
    print(report(study.runs, options.time, options.target), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
