"""The names of methods as readers know them, for figures and tables."""

from __future__ import annotations

from fedmpi.analysis.runs import Run

METHODS = {
    "fab": "FAB-top-k",
    "fub_flat": "FUB-top-k",
    "fub_tree": "FUB-top-k, tree (gTop-k)",
    "unidirectional": "unidirectional top-k",
    "periodic": "periodic k",
    "stc": "sparse ternary compression",
    "qsgd": "QSGD",
    "ef21": "EF21",
    "fedavg": "FedAvg, same traffic",
    "dense": "always send all",
}
CONTROLLERS = {
    "ogd_sign": "sign-based descent",
    "ogd_value": "value-based descent",
    "exp3": "Exp3",
    "continuous_bandit": "continuous bandit",
    "accordion": "Accordion",
    "norm_rate": "norm per second",
}
PRUNING = {
    "none": "no pruning",
    "prunefl": "PruneFL",
    "snip": "SNIP",
    "iterative": "iterative pruning",
    "online": "online learning",
    "fedtiny": "FedTiny",
    "feddst": "FedDST",
    "lottery_reinit": "PruneFL's last mask, first weights",
    "lottery_random": "PruneFL's last mask, new weights",
}

MEASURING = ("experiment.rounds", "experiment.evaluate_every", "experiment.stop_at_")
"""Keys that say when a run is looked at and ends: axes of time and rounds speak of them."""


BY_METHOD = (*MEASURING, "sparsification.method", "sparsification.k", "pruning.method")
BY_CHOICE_OF_K = (*BY_METHOD, "k_control.method")
BY_BETA = (*MEASURING, "k_control.method", "emulation.compute.beta")
"""Keys that names of methods, names of choices of k, and panels of controllers with their betas speak of."""


def with_pruning(run: Run, name: str) -> str:
    """``name``, after the method of pruning where there is one."""
    return name if run.pruning == "none" else f"{PRUNING.get(run.pruning, run.pruning)} + {name}"


def sparsification(run: Run) -> str:
    """The method of sparsification."""
    return with_pruning(run, METHODS.get(run.method, run.method))


def choice_of_k(run: Run) -> str:
    """Who chooses k, or the fixed one."""
    if run.adaptive:
        return with_pruning(run, CONTROLLERS.get(run.controller, run.controller))
    return with_pruning(run, f"fixed k = {run.k:,}" if run.k else METHODS.get(run.method, run.method))


def pruning(run: Run) -> str:
    """The method of pruning, with that of sparsification unless all is sent: ``PruneFL + adaptive FAB-top-k``."""
    if run.method == "dense":
        return PRUNING.get(run.pruning, run.pruning)
    sparse = METHODS.get(run.method, run.method)
    if run.controller == "ogd_sign":
        sparse = f"adaptive {sparse}"
    elif run.adaptive:
        sparse = f"{sparse} with k by {CONTROLLERS.get(run.controller, run.controller)}"
    elif run.k:
        sparse = f"{sparse} with k = {run.k:,}"
    return f"{sparse}, no pruning" if run.pruning == "none" else with_pruning(run, sparse)
