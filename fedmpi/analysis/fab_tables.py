"""The study of FAB-top-k (Han, Wang and Leung, ICDCS 2020) in three tables: ``fedmpi tables fab``.

1. accuracy at the same emulated time, of each method
2. accuracy at that time, and time to a target accuracy, of each controller of k and each fixed k, for each beta
3. the worst-off client's contribution, of each method

Markdown; a row is one configuration: the mean over its seeds, with the lowest and the highest where there are several.
Whatever else differs makes another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan

from fedmpi.analysis.fairness import fairness
from fedmpi.analysis.groups import betas, configurations, labels, methods_compared, same
from fedmpi.analysis.markdown import mean, reached, spread, table
from fedmpi.analysis.measures import (
    accuracy_at,
    common_time,
    contributions,
    even_shares,
    late_k,
    mean_accuracy_at,
    time_to,
)
from fedmpi.analysis.method_names import (
    BY_CHOICE_OF_K,
    BY_METHOD,
    CONTROLLERS,
    METHODS,
    choice_of_k,
    sparsification,
)
from fedmpi.analysis.runs import Run
from fedmpi.numerics.quantities import form_of, plain_seconds

TARGET_SHARE = 0.8
"""The default target accuracy, as a share of what the best fixed k has at the end."""


def methods_table(runs: Sequence[Run], time_s: float | None) -> list[str]:
    """Accuracy of each method at one emulated moment; no lines where no method was run."""
    k, beta, compared = methods_compared(runs)
    if not compared:
        return []
    moment_s = common_time(compared) if time_s is None else time_s
    groups = configurations(compared, sparsification, BY_METHOD, METHODS.values())
    rows, mbytes = [], [_mbytes(group.runs, moment_s) for group in groups]
    form = form_of((value for sent in mbytes for value in sent), 1)
    for label, group, sent in zip(labels(groups), groups, mbytes, strict=True):
        rounds = [run.trace.rounds[run.trace.rounds.end_s <= moment_s] for run in group.runs]
        federated = [(seen["round"] >= 0).sum() for seen in rounds]
        accuracies = [accuracy_at(run, moment_s) for run in group.runs]
        rows.append([label, spread(accuracies, "{:.3f}"), mean(federated, "{:,.0f}"), mean(sent, form)])
    title = f"Accuracy at {plain_seconds(moment_s)} s of emulated time{_k_text(k)}{_beta_text(beta)}"
    return table(title, ["method", "accuracy", "rounds", "MB up and down"], rows)


def k_table(runs: Sequence[Run], beta: float, time_s: float | None, target: float | None) -> list[str]:
    """FAB-top-k with each controller and each fixed k at one beta; no lines unless there are both."""
    here = sorted(
        (run for run in runs if same(run.beta, beta) and run.method == "fab"), key=lambda run: run.k
    )
    if len({run.adaptive for run in here}) < 2:
        return []
    moment_s = common_time(here) if time_s is None else time_s
    groups = configurations(here, choice_of_k, BY_CHOICE_OF_K, CONTROLLERS.values())
    groups.sort(key=lambda group: not group.runs[0].adaptive)
    accuracy_of = {
        group: mean_accuracy_at(group.runs, moment_s) for group in groups if not group.runs[0].adaptive
    }
    best = max(accuracy_of, key=lambda group: -1.0 if isnan(accuracy_of[group]) else accuracy_of[group])
    if target is None:
        target = TARGET_SHARE * accuracy_of[best]
    rows, times = [], {group: [time_to(run, target) for run in group.runs] for group in groups}
    form = form_of(time_s for found in times.values() for time_s in found)
    for label, group in zip(labels(groups), groups, strict=True):
        rows.append(
            [
                f"{label} (best)" if group is best else label,
                spread([accuracy_at(run, moment_s) for run in group.runs], "{:.3f}"),
                reached(times[group], form),
                spread(list(map(late_k, group.runs)), "{:,.0f}"),
            ]
        )
    title = f"FAB-top-k with adaptive and fixed k{_beta_text(beta)}"
    columns = [
        "k",
        f"accuracy at {plain_seconds(moment_s)} s",
        f"seconds to accuracy {target:.3f}",
        "median k of the last quarter",
    ]
    return table(title, columns, rows)


def contributions_table(runs: Sequence[Run]) -> list[str]:
    """Contribution of the worst-off client of each method; no lines where no method was run.

    ``k / N`` is what each of the N participants of a round would contribute if all did the same. "-" stands for what is
    not known, as of runs in which no update counted.
    """
    k, beta, compared = methods_compared(runs)
    sparse = [run for run in compared if run.method in ("fab", "fub_flat", "fub_tree", "unidirectional")]
    if not sparse:
        return []
    groups = configurations(sparse, sparsification, BY_METHOD, METHODS.values())
    rows = []
    for label, group in zip(labels(groups), groups, strict=True):
        figures = [fairness(run.trace) for run in group.runs]
        shares = sorted({share for run in group.runs for share in even_shares(run)})
        least = [float(contributions(run.trace).entries_used.min()) for run in group.runs]
        rows.append(
            [
                label,
                " to ".join(f"{share:,}" for share in dict.fromkeys((*shares[:1], *shares[-1:]))) or "-",
                spread([run["least"] for run in figures], "{:,.1f}"),
                "-" if any(map(isnan, least)) else f"{min(least):,.0f}",
                mean([100 * run["zero_share"] for run in figures], "{:.2f} %"),
                mean([run["gini"] for run in figures], "{:.3f}"),
                mean([run["jain"] for run in figures], "{:.3f}"),
            ]
        )
    columns = [
        "method",
        "k / N",
        "worst-off client, mean of its rounds",
        "least in a round",
        "rounds with nothing used",
    ]
    title = (
        f"Entries used of a client in a round{_k_text(k)}{_beta_text(beta)}; "
        "k / N: an even share of N participants"
    )
    return table(title, [*columns, "Gini", "Jain"], rows)


def report(runs: Sequence[Run], time_s: float | None = None, target: float | None = None) -> str:
    """All tables that the runs allow, as Markdown. ``target`` None: 80 % of the best fixed k's accuracy."""
    sections = [methods_table(runs, time_s)]
    sections += [k_table(runs, beta, time_s, target) for beta in betas(runs)]
    sections.append(contributions_table(runs))
    return "\n".join(line for section in sections if section for line in [*section, ""])


def _mbytes(runs: Sequence[Run], moment_s: float) -> list[float]:
    """What all clients of each run had sent and received up to an emulated moment, in 10**6 bytes."""
    seen = (run.trace.rounds[run.trace.rounds.end_s <= moment_s] for run in runs)
    return [float((rounds.bytes_up + rounds.bytes_down).sum()) / 1e6 for rounds in seen]


def _beta_text(beta: float) -> str:
    return f", beta = {beta:g}" if not isnan(beta) else ""


def _k_text(k: int) -> str:
    return f", k = {k:,}" if k else ""
