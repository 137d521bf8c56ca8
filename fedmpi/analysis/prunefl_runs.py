"""The runs of a study of PruneFL by what they compare: the method, with or without sparsification."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from fedmpi.analysis.groups import Configuration, configurations, grouped
from fedmpi.analysis.method_names import MEASURING, PRUNING, pruning
from fedmpi.analysis.runs import Run

NONE = PRUNING["none"]
PRUNEFL = PRUNING["prunefl"]
FAB = "adaptive FAB-top-k, no pruning"
BOTH = "PruneFL + adaptive FAB-top-k"

METHODS = (*(PRUNING[name] for name in ("none", "prunefl", "snip", "iterative", "online")), BOTH, FAB)
TICKETS = tuple(PRUNING[name] for name in ("none", "lottery_reinit", "lottery_random", "snip"))
SELECTIONS = {False: "the same clients in all rounds", True: "clients drawn anew in each round"}

EXPLAINED = (*MEASURING, "pruning.method", "sparsification.method", "sparsification.k", "k_control.method")
"""Keys that the names of methods speak of."""


def compared(runs: Iterable[Run]) -> dict[bool, list[Configuration]]:
    """Configurations by whether clients are drawn anew (False first); lottery tickets left out."""
    usual = sorted(
        (run for run in runs if not run.pruning.startswith("lottery_")), key=lambda run: run.selected
    )
    selections = grouped(usual, lambda run: run.selected)
    return {
        selected: configurations(group, pruning, EXPLAINED, METHODS) for selected, group in selections.items()
    }


def tickets(runs: Sequence[Run]) -> dict[bool, list[Configuration]]:
    """Lottery tickets and what they are compared with, by whether clients are drawn anew; where there are tickets."""
    found = {}
    for selected in (False, True):
        groups = configurations(
            (run for run in runs if run.selected == selected and pruning(run) in TICKETS),
            pruning,
            EXPLAINED,
            TICKETS,
        )
        if any(group.runs[0].pruning.startswith("lottery_") for group in groups):
            found[selected] = groups
    return found
