"""The study of PruneFL (Jiang et al., IEEE TNNLS 2022) in tables: ``fedmpi tables prunefl``.

1. time, rounds and bytes of each method to a target accuracy, that of all runs without pruning at their end, the size
   of the model then and at the end, and accuracies at the same round
2. PruneFL and adaptive FAB-top-k at once, beside each of them alone, to the same accuracy
3. lottery tickets: the accuracy of PruneFL's last mask with its first and with new weights, at the same rounds

All for the same clients in all rounds, and for clients drawn anew. Markdown; a row is one configuration: the mean over
its seeds, with the lowest and the highest where there are several. Whatever else differs makes another row, compared
with the run without pruning that differs in nothing but the method.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from math import nan

import numpy as np

from fedmpi.analysis.groups import Configuration, alike, labels
from fedmpi.analysis.markdown import reached, spread, table
from fedmpi.analysis.measures import accuracy_at_round, cost_to, evaluations, last_accuracy, late_k
from fedmpi.analysis.method_names import MEASURING
from fedmpi.analysis.prunefl_runs import BOTH, FAB, NONE, PRUNEFL, SELECTIONS, compared, tickets
from fedmpi.analysis.runs import AnalysisError, Run
from fedmpi.numerics.quantities import form_of

COMBINED = (PRUNEFL, FAB, BOTH)
"""The two methods whose combination is compared with them, and the combination."""
METHOD_SECTIONS = ("pruning.", "sparsification.", "k_control.")


def default_target(groups: Sequence[Configuration]) -> float:
    """The test accuracy that runs without pruning have at their end, the least of their seeds: all of them reach it.

    AnalysisError where there is none, or more than one configuration of them.
    """
    found = [group for group in groups if group.name == NONE]
    if not found:
        raise AnalysisError("there is no run without pruning to take a target accuracy from; give --target")
    if len(found) > 1:
        several = "; ".join([*(group.label for group in found[:2]), *(["..."] if len(found) > 2 else [])])
        raise AnalysisError(f"{len(found)} configurations have no pruning ({several}); give --target")
    return min(last_accuracy(run) for run in found[0].runs)


def methods_table(groups: Sequence[Configuration], target: float) -> list[str]:
    """Costs to the target and accuracy at the last round that all complete runs have reached."""
    last = _last_common_round(groups)
    rows, spent = [], {group: [cost_to(run, target) for run in group.runs] for group in groups}
    forms = _forms(spent.values())
    for label, group in zip(labels(groups), groups, strict=True):
        like = _like(group, NONE, groups, METHOD_SECTIONS)
        base = like.runs if like is not None else ()
        base_s = _mean_of(base, lambda run: cost_to(run, target)["time_s"])
        base_accuracy = _mean_of(base, lambda run: accuracy_at_round(run, last))
        costs = spent[group]
        accuracies = [accuracy_at_round(run, last) for run in group.runs]
        times = [cost["time_s"] for cost in costs]
        rows.append(
            [
                label,
                reached(times, forms["time_s"]),
                spread([time_s / base_s for time_s in times], "{:.2f}"),
                reached([cost["rounds"] for cost in costs]),
                reached([cost["mbytes"] for cost in costs], forms["mbytes"]),
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


def _both_table(by_name: Mapping[str, Sequence[Run]], target: float, extra: str) -> list[str]:
    """Where one of the three never had the target, the lowest of their best accuracies is compared instead."""
    together = [run for name in COMBINED for run in by_name[name]]
    best = min(float(run.trace.rounds.test_accuracy.max()) for run in together)
    target = target if target <= best else best
    costs = {name: [cost_to(run, target) for run in by_name[name]] for name in COMBINED}
    combined, forms = costs[BOTH], _forms(costs.values())
    rows = []
    for name in COMBINED:
        row = [name]
        for column in ("time_s", "mbytes"):
            values = [cost[column] for cost in costs[name]]
            share = float(np.mean([cost[column] for cost in combined]) / np.mean(values))
            row += [reached(values, forms[column]), spread([share], "{:.2f}")]
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


def _forms(costs: Iterable[Sequence[Mapping[str, float]]]) -> dict[str, str]:
    """How seconds and megabytes of all rows of a table are written."""
    flat = [cost for each in costs for cost in each]
    return {column: form_of(cost[column] for cost in flat) for column in ("time_s", "mbytes")}


def lottery_table(groups: Sequence[Configuration]) -> list[str]:
    """Lottery tickets beside what they are compared with: the accuracy after a third, two thirds and all of the rounds
    that all complete runs have reached, at the last evaluation until then."""
    last = _last_common_round(groups)
    at = [last // 3, 2 * last // 3, last]
    rows = []
    for label, group in zip(labels(groups), groups, strict=True):
        accuracies = ([accuracy_at_round(run, number) for run in group.runs] for number in at)
        densities = [run.trace.rounds.density.iloc[-1] for run in group.runs]
        rows.append(
            [label, *(spread(values, "{:.3f}") for values in accuracies), spread(densities, "{:.3f}")]
        )
    columns = ["method", *(f"accuracy at round {number:,}" for number in at), "density at the end"]
    return table("Lottery tickets", columns, rows)


def report(runs: Sequence[Run], target: float | None = None) -> str:
    """All tables that the runs allow, as Markdown. ``target`` None: what is reached without pruning.

    AnalysisError where that is not known.
    """
    lines = []
    selections = compared(runs)
    lottery = tickets(runs)
    for selected, groups in selections.items():
        accuracy = default_target(groups) if target is None else target
        if len(selections) > 1:
            lines += [f"### {SELECTIONS[selected].capitalize()}", ""]
        sections = [methods_table(groups, accuracy), both_tables(groups, accuracy)]
        sections += [lottery_table(lottery[selected])] if selected in lottery else []
        for section in sections:
            lines += [*section, ""] if section else []
    return "\n".join(lines)


def _like(
    group: Configuration, name: str, groups: Sequence[Configuration], sections: tuple[str, ...]
) -> Configuration | None:
    """The configuration of that name that differs from ``group`` in ``sections`` alone; one that is complete first."""
    found = [other for other in groups if other.name == name and alike(group, other, (*MEASURING, *sections))]
    return min(found, key=lambda other: other.status != "completed") if found else None


def _last_common_round(groups: Sequence[Configuration]) -> int:
    """The last evaluation that all complete runs have reached, or all runs where none is complete."""
    runs = [run for group in groups for run in group.runs]
    waited_for = [run for run in runs if run.complete] or runs
    return min(int(evaluations(run)["round"].iloc[-1]) for run in waited_for)


def _mean_of(seeds: Sequence[Run], value: Callable[[Run], float]) -> float:
    return float(np.mean([value(run) for run in seeds])) if seeds else nan
