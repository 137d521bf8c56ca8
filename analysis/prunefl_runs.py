"""The runs of a study of PruneFL by what they compare: the method, with or without sparsification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from study import StudyRun, evaluations, grouped, in_order

METHODS = {
    "none": "no pruning",
    "prunefl": "PruneFL",
    "snip": "SNIP",
    "iterative": "iterative pruning",
    "online": "online learning",
    "prunefl_fab": "PruneFL + adaptive FAB-top-k",
    "fab": "adaptive FAB-top-k, no pruning",
}
TICKETS = {
    "none": "no pruning",
    "lottery_reinit": "PruneFL's last mask, first weights",
    "lottery_random": "PruneFL's last mask, new weights",
    "snip": "SNIP",
}
SELECTIONS = {False: "the same clients in all rounds", True: "clients drawn anew in each round"}


def method(run: StudyRun) -> str:
    """The method of pruning and that of sparsification as one name, such as ``prunefl_fab``."""
    sparse = "" if run.method == "dense" else run.method
    pruned = "" if run.pruning == "none" else run.pruning
    return "_".join(filter(None, (pruned, sparse))) or "none"


def compared(runs: Iterable[StudyRun]) -> dict[bool, dict[str, list[StudyRun]]]:
    """Runs by whether clients are drawn anew (False first), and by method; lottery tickets left out."""
    usual = sorted(
        (run for run in runs if not run.pruning.startswith("lottery_")), key=lambda run: run.selected
    )
    selections = grouped(usual, lambda run: run.selected)
    return {selected: in_order(grouped(group, method), METHODS) for selected, group in selections.items()}


def tickets(runs: Sequence[StudyRun]) -> dict[str, list[StudyRun]]:
    """The runs of lottery tickets, and what they are compared with, by method; none where there is no ticket."""
    groups = grouped((run for run in runs if not run.selected), method)
    if not any(name.startswith("lottery_") for name in groups):
        return {}
    return in_order({name: group for name, group in groups.items() if name in TICKETS}, TICKETS)


def last_accuracy(run: StudyRun) -> float:
    """The test accuracy of the last evaluation."""
    return float(evaluations(run).test_accuracy.iloc[-1])
