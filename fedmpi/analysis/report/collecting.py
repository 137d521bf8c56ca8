"""From runs to what a page shows."""

from __future__ import annotations

from collections.abc import Sequence

from fedmpi.analysis.groups import Configuration, labels, pooled, single
from fedmpi.analysis.report.clients import energy, fair
from fedmpi.analysis.report.content import Report
from fedmpi.analysis.report.learning import accuracy, sent
from fedmpi.analysis.report.overview import compared, happened, of_run, of_runs, target_of, what_was_run
from fedmpi.analysis.report.participants import not_accepted, one_round
from fedmpi.analysis.report.thinning import MOST_RUNS, kept_of
from fedmpi.analysis.report.time_use import host_speed, time_use
from fedmpi.analysis.runs import AnalysisError, Loaded, Run

_MOST_NAMED = 6


def collect(loaded: Loaded, target: float | None = None, title: str = "") -> Report:
    """What a page shows of runs: those that differ in their seeds alone together, each of the others by itself.

    ``target`` is the test accuracy whose costs are compared (None: the lowest of the runs' best ones). Runs without any
    round are left out with a remark; AnalysisError where none is left.
    """
    begun = [run for run in loaded.runs if len(run.trace.rounds)]
    empty = [f"{run.name}: left out, it has no rounds yet" for run in loaded.runs if run not in begun]
    if not begun:
        raise AnalysisError("; ".join((*loaded.remarks, *empty)))
    groups = pooled(begun)
    runs = [run for group in groups for run in group.runs]
    named = list(zip([group.label for group in single(runs)], runs, strict=True))
    chosen = _chosen(groups)
    names = {id(run): label for label, run in named}
    several = len(runs) > 1
    wanted = target_of(groups, target)
    sections = (
        what_was_run(groups),
        *((compared(groups, wanted),) if several else ()),
        accuracy(groups),
        sent(groups, chosen),
        time_use(groups, chosen),
        one_round(chosen),
        not_accepted(named, chosen),
        energy(groups),
        fair(groups),
        host_speed(groups),
        happened(named),
    )
    left_out = kept_of(
        len(chosen), len(runs), "runs", "first one of each configuration, where one is looked at by itself"
    )
    return Report(
        title=title or _experiments(runs),
        subtitle=_subtitle(groups, runs),
        headlines=of_runs(groups, wanted) if several else of_run(runs[0]),
        sections=sections,
        runs=tuple(names[id(run)] for run in chosen),
        remarks=tuple(filter(None, (*loaded.remarks, *empty, left_out))),
    )


def _chosen(groups: Sequence[Configuration]) -> list[Run]:
    """The runs that can be looked at by themselves: first one of each configuration, then further seeds."""
    most = max(len(group.runs) for group in groups)
    in_turn = [group.runs[turn] for turn in range(most) for group in groups if turn < len(group.runs)]
    kept = {id(run) for run in in_turn[:MOST_RUNS]}
    return [run for group in groups for run in group.runs if id(run) in kept]


def _experiments(runs: Sequence[Run]) -> str:
    """The names of the runs' experiments: the first ones, and how many there are, where they are many."""
    names = list(dict.fromkeys(str(run.trace.config["experiment"]["name"]) for run in runs))
    more = [f"... ({len(names):,} experiments)"] if len(names) > _MOST_NAMED else []
    return " / ".join([*names[:_MOST_NAMED], *more])


def _subtitle(groups: Sequence[Configuration], runs: Sequence[Run]) -> str:
    if len(runs) == 1:
        run, known = runs[0], runs[0].trace.attributes
        size = f"{known['clients']:,} clients, {known['parameters']:,} parameters"
        return f"{run.status}; seed {run.seed}, {size}"
    if len(groups) == 1:
        return f"{len(runs):,} seeds of one configuration"
    listed = "; ".join([*labels(groups)[:_MOST_NAMED], *(["..."] if len(groups) > _MOST_NAMED else [])])
    return f"{len(runs):,} runs of {len(groups):,} configurations: {listed}"
