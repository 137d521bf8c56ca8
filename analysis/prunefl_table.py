"""The study of PruneFL in tables: ``python analysis/prunefl_table.py STUDY_DIR [--target ACCURACY]``.

1. time, rounds and bytes of each method to a target accuracy, that of the run without pruning at its end, the size
   of the model then and at the end, and accuracies at the same round
2. PruneFL and adaptive FAB-top-k at once, beside each of them alone, to the same accuracy

Both for the same clients in all rounds, and for clients drawn anew. Markdown; a row is one configuration: the mean over
its seeds, with the lowest and the highest where there are several. Whatever else differs makes another row, compared
with the run without pruning that differs in nothing but the method. Lines on stderr name runs that are missing or not
complete.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from math import nan
from pathlib import Path

import numpy as np
from command import Parser
from methods import MEASURING
from prunefl_runs import BOTH, FAB, NONE, PRUNEFL, SELECTIONS, compared, last_accuracy
from study import Configuration, StudyRun, alike, evaluations, labels, late_k, reaching
from tables import reached, spread, table

COMBINED = (PRUNEFL, FAB, BOTH)
"""The two methods whose combination is compared with them, and the combination."""
METHOD_SECTIONS = ("pruning.", "sparsification.", "k_control.")


def cost_to(run: StudyRun, accuracy: float) -> dict[str, float]:
    """What a run had spent at the first evaluation with at least this accuracy; NaN where there was none.

    ``time_s``, ``rounds`` (federated ones), ``mbytes`` (of all clients, up and down, initial pruning included),
    and the ``active`` parameters and the ``share`` of all parameters that they are.
    """
    row = reaching(run, accuracy)
    if row is None:
        return dict.fromkeys(("time_s", "rounds", "mbytes", "active", "share"), nan)
    until = run.trace.rounds[run.trace.rounds["round"] <= row["round"]]
    return {
        "time_s": float(row.end_s),
        "rounds": float(row["round"]) + 1,
        "mbytes": float((until.bytes_up + until.bytes_down).sum()) / 1e6,
        "active": float(row.active_parameters),
        "share": float(row.active_parameters) / run.trace.attributes["parameters"],
    }


def accuracy_at_round(run: StudyRun, round_index: int) -> float:
    """The last test accuracy measured up to a round; NaN before the first."""
    measured = evaluations(run)
    before = measured.test_accuracy[measured["round"] <= round_index]
    return float(before.iloc[-1]) if len(before) else nan


def default_target(groups: Sequence[Configuration]) -> float:
    """The test accuracy that runs without pruning have at their end, the mean over seeds.

    ValueError where there is none, or more than one configuration of them.
    """
    found = [group for group in groups if group.name == NONE]
    if not found:
        raise ValueError("there is no run without pruning to take a target accuracy from; give --target")
    if len(found) > 1:
        several = "; ".join(group.label for group in found)
        raise ValueError(f"{len(found)} configurations have no pruning ({several}); give --target")
    return float(np.mean([last_accuracy(run) for run in found[0].runs]))


def methods_table(groups: Sequence[Configuration], target: float) -> list[str]:
    """Costs to the target and accuracy at the last round that all complete runs have reached."""
    runs = [run for group in groups for run in group.runs]
    waited_for = [run for run in runs if run.complete] or runs
    last = min(int(evaluations(run)["round"].iloc[-1]) for run in waited_for)
    rows = []
    for label, group in zip(labels(groups), groups, strict=True):
        like = _like(group, NONE, groups, METHOD_SECTIONS)
        base = like.runs if like is not None else ()
        base_s = _mean_of(base, lambda run: cost_to(run, target)["time_s"])
        base_accuracy = _mean_of(base, lambda run: accuracy_at_round(run, last))
        costs = [cost_to(run, target) for run in group.runs]
        accuracies = [accuracy_at_round(run, last) for run in group.runs]
        times = [cost["time_s"] for cost in costs]
        rows.append(
            [
                label,
                reached(times),
                spread([time_s / base_s for time_s in times], "{:.2f}"),
                reached([cost["rounds"] for cost in costs]),
                reached([cost["mbytes"] for cost in costs]),
                spread([cost["active"] for cost in costs], "{:,.0f}"),
                spread([100 * cost["share"] for cost in costs], "{:.1f} %"),
                spread(accuracies, "{:.3f}"),
                spread([100 * (value - base_accuracy) for value in accuracies], "{:+.1f}"),
                spread([run.trace.rounds.density.iloc[-1] for run in group.runs], "{:.3f}"),
            ]
        )
    columns = [
        "method",
        "seconds",
        "of the time without pruning",
        "rounds",
        "MB up and down",
        "active parameters then",
        "of all",
        f"accuracy at round {last:,}",
        "points above no pruning",
        "density at the end",
    ]
    return table(f"To accuracy {target:.3f}", columns, rows)


def both_tables(groups: Sequence[Configuration], target: float) -> list[str]:
    """Pruning and sparsification at once, beside each alone: a table for each setting in which all three were run."""
    lines: list[str] = []
    complete = [group for group in groups if group.status == "completed"]
    for both in (group for group in complete if group.name == BOTH):
        alone = {PRUNEFL: ("sparsification.", "k_control."), FAB: ("pruning.",)}
        found = {name: _like(both, name, complete, sections) for name, sections in alone.items()}
        by_name = {name: group.runs for name, group in found.items() if group is not None}
        if len(by_name) == len(alone):
            lines += [
                *([""] if lines else []),
                *_both_table({**by_name, BOTH: both.runs}, target, both.extra),
            ]
    return lines


def _both_table(by_name: Mapping[str, Sequence[StudyRun]], target: float, extra: str) -> list[str]:
    """Where one of the three never had the target, the lowest of their best accuracies is compared instead."""
    together = [run for name in COMBINED for run in by_name[name]]
    best = min(float(run.trace.rounds.test_accuracy.max()) for run in together)
    target = target if target <= best else best
    costs = {name: [cost_to(run, target) for run in by_name[name]] for name in COMBINED}
    combined = costs[BOTH]
    rows = []
    for name in COMBINED:
        row = [name]
        for column in ("time_s", "mbytes"):
            values = [cost[column] for cost in costs[name]]
            share = float(np.mean([cost[column] for cost in combined]) / np.mean(values))
            row += [reached(values), spread([share], "{:.2f}")]
        row += [
            spread([cost["active"] for cost in costs[name]], "{:,.0f}"),
            spread(list(map(late_k, by_name[name])), "{:,.0f}"),
        ]
        rows.append(row)
    columns = [
        "method",
        "seconds",
        "time of both / this",
        "MB up and down",
        "bytes of both / this",
        "active parameters then",
        "median k of the last quarter",
    ]
    where = f"; {extra}" if extra else ""
    return table(f"Pruning and sparsification at once, to accuracy {target:.3f}{where}", columns, rows)


def report(runs: Sequence[StudyRun], target: float | None = None) -> str:
    """All tables that the runs allow, as Markdown. ``target`` None: what is reached without pruning.

    ValueError where that is not known.
    """
    lines = []
    selections = compared(runs)
    for selected, groups in selections.items():
        accuracy = default_target(groups) if target is None else target
        if len(selections) > 1:
            lines += [f"### {SELECTIONS[selected].capitalize()}", ""]
        for section in (methods_table(groups, accuracy), both_tables(groups, accuracy)):
            lines += [*section, ""] if section else []
    return "\n".join(lines)


def _like(
    group: Configuration, name: str, groups: Sequence[Configuration], sections: tuple[str, ...]
) -> Configuration | None:
    """The configuration of that name that differs from ``group`` in ``sections`` alone; one that is complete first."""
    found = [other for other in groups if other.name == name and alike(group, other, (*MEASURING, *sections))]
    return min(found, key=lambda other: other.status != "completed") if found else None


def _mean_of(seeds: Sequence[StudyRun], value: Callable[[StudyRun], float]) -> float:
    return float(np.mean([value(run) for run in seeds])) if seeds else nan


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments, a folder without runs, and no accuracy to compare at."""
    parser = Parser(prog="prunefl_table.py", description="The study of PruneFL in tables.")
    parser.add_argument("folder", metavar="STUDY_DIR", type=Path, help="folder of run folders")
    parser.add_argument(
        "--target",
        type=float,
        help="test accuracy (0 to 1); default: the last one of the run without pruning",
    )
    options = parser.parse_args(arguments)
    target = parser.target(options.target)
    try:
        print(report(parser.runs(options.folder), target), end="")
    except ValueError as error:
        parser.error(f"{options.folder}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
