"""The figures of the study of FAB-top-k (Han, Wang and Leung, ICDCS 2020); ``figures.py`` is the command.

Every function takes the runs that there are, and gives None where a figure cannot be made of them. Lines are means
over seeds, shades and bars reach from the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from drawing import Draw, band, common_legend, over, seeds_text, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from plot import COLOURS
from study import (
    StudyRun,
    accuracy_at,
    betas,
    client_means,
    common_time,
    contributions,
    grouped,
    in_order,
    mean_accuracy_at,
    methods_compared,
    same,
)

METHODS = {
    "fab": "FAB-top-k",
    "fub_flat": "FUB-top-k",
    "fub_tree": "FUB-top-k, tree (gTop-k)",
    "unidirectional": "unidirectional top-k",
    "periodic": "periodic k",
    "fedavg": "FedAvg, same traffic",
    "dense": "always send all",
}
CONTROLLERS = {
    "ogd_sign": "sign-based descent",
    "ogd_value": "value-based descent",
    "exp3": "Exp3",
    "continuous_bandit": "continuous bandit",
}

_MEDIAN_ROUNDS = 21


def methods(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """Test loss and accuracy over emulated time, for each method at the k and beta that most of them were run at."""
    k, beta, compared = methods_compared(runs)
    if not compared:
        return None
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    columns = (("test_loss", "test loss (cross-entropy)"), ("test_accuracy", "test accuracy"))
    by_method = in_order(grouped(compared, lambda run: run.method), METHODS)
    end_s = max(run.end_s for run in compared)
    for panel, (column, name) in zip(panels, columns, strict=True):
        for method, seeds in by_method.items():
            moments_s, values = over(seeds, "end_s", column)
            band(panel, moments_s, values, METHODS.get(method, method), *style(method, METHODS))
        panel.set(xlabel="emulated time (s)", ylabel=name, xlim=(0.0, end_s))
        panel.grid(alpha=0.3)
    panels[1].set_ylim(bottom=0.0)
    common_legend(figure, panels, columns=4)
    figure.suptitle(
        f"Sparsification methods, k = {k:,}{_beta_text(beta)}{seeds_text(compared)}", fontsize="medium"
    )
    return figure


def k_over_rounds(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """One panel for each controller: k of every round, a colour for each beta.

    Thin lines are seeds; the bold one is the median of all seeds over ``_MEDIAN_ROUNDS`` rounds around.
    """
    by_controller = in_order(
        grouped((run for run in runs if run.adaptive), lambda run: run.controller), CONTROLLERS
    )
    if not by_controller:
        return None
    columns = min(2, len(by_controller))
    rows = -(-len(by_controller) // columns)
    figure = Figure(figsize=(max(6.4, 4.6 * columns), 1.0 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    all_betas = betas(run for group in by_controller.values() for run in group)
    for panel, (controller, group) in zip(panels, by_controller.items(), strict=False):
        for place, beta in enumerate(all_betas):
            seeds = [run.trace.rounds.k.to_numpy() for run in group if same(run.beta, beta)]
            if seeds:
                _k_of_seeds(panel, seeds, f"beta = {beta:g}", COLOURS[place % len(COLOURS)])
        panel.set_title(CONTROLLERS.get(controller, controller), fontsize="medium")
        panel.set_yscale("log")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.set_xlabel("round")
    for panel in panels[len(by_controller) :]:
        panel.remove()
    for row in range(rows):
        panels[row * columns].set_ylabel("k (entries sent)")
    if len(all_betas) > 1:
        common_legend(figure, panels[: len(by_controller)], columns=4)
    only = _beta_text(all_betas[0]) if len(all_betas) == 1 else ""
    figure.suptitle(
        f"k chosen by controllers{only} (thin: each seed, bold: running median)", fontsize="medium"
    )
    return figure


def fixed_and_adaptive_k(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """A panel for each beta: accuracy at ``time_s`` (None: what all runs of a panel have reached) against fixed k.

    Levels are the accuracies with adaptive k; "always send all" stands at k = D.
    """
    fixed = [run for run in runs if not run.adaptive and run.method in ("fab", "dense")]
    adaptive = [run for run in runs if run.adaptive and run.method == "fab"]
    shown = [
        beta
        for beta in betas(fixed)
        if len({run.k for run in fixed if run.k and same(run.beta, beta)}) > 1
        or any(same(run.beta, beta) for run in adaptive)
    ]
    if not shown:
        return None
    columns = min(2, len(shown))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(max(6.4, 4.6 * columns), 1.4 + 2.9 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, squeeze=False).ravel()
    for panel, beta in zip(panels, shown, strict=False):
        here = [run for run in (*fixed, *adaptive) if same(run.beta, beta)]
        moment_s = common_time(here) if time_s is None else time_s
        by_k = sorted(grouped((run for run in here if run.k and not run.adaptive), lambda run: run.k).items())
        if by_k:
            _fixed_k(panel, [k for k, _ in by_k], [group for _, group in by_k], moment_s)
        dense = [run for run in here if run.method == "dense"]
        if dense:
            _fixed_k(panel, [dense[0].trace.attributes["parameters"]], [dense], moment_s, hollow=True)
        controllers = in_order(
            grouped((run for run in here if run.adaptive), lambda run: run.controller), CONTROLLERS
        )
        for controller, group in controllers.items():
            level = mean_accuracy_at(group, moment_s)
            if np.isnan(level):
                continue
            colour, line = style(controller, CONTROLLERS, first=1)
            panel.axhline(level, color=colour, linestyle=line, label=CONTROLLERS.get(controller, controller))
        panel.set_xscale("log")
        panel.set_title(
            f"{_beta_text(beta).lstrip(', ') or 'accuracy'} at {moment_s:,.0f} s", fontsize="medium"
        )
        panel.set(xlabel="k (entries sent)", ylabel="test accuracy")
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.remove()
    common_legend(figure, panels[: len(shown)], columns=3)
    figure.suptitle(
        f"Accuracy at a fixed emulated time, fixed and adaptive k{seeds_text(fixed)}", fontsize="medium"
    )
    return figure


def contributions_cdf(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """Entries used of each client: distribution over clients (means of a run), and over clients and rounds."""
    k, beta, compared = methods_compared(runs)
    by_method = in_order(grouped(compared, lambda run: run.method), METHODS)
    by_method = {
        method: by_method[method] for method in ("fab", "fub_flat", "fub_tree") if method in by_method
    }
    if not {"fab", "fub_flat"} <= by_method.keys():
        return None
    clients = int(by_method["fab"][0].trace.rounds.participants.max())
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    over_clients, over_rounds = figure.subplots(1, 2, sharey=True)
    for method, seeds in by_method.items():
        colour, line = style(method, METHODS)
        means = np.concatenate([client_means(run.trace) for run in seeds])
        single = np.concatenate([contributions(run.trace).entries_used.to_numpy() for run in seeds])
        for panel, values in ((over_clients, means), (over_rounds, single)):
            panel.ecdf(values, label=METHODS[method], color=colour, linestyle=line, linewidth=1.8)
    for panel, name in (
        (over_clients, "entries used of a client, mean of its rounds"),
        (over_rounds, "entries used of a client in a single round"),
    ):
        panel.axvline(
            k // clients, color="#777777", linewidth=1.0, linestyle=":", label=f"k / N = {k // clients:,}"
        )
        panel.set(xlabel=name, ylim=(0.0, 1.02))
        panel.set_xlim(left=0.0)
        panel.grid(alpha=0.3)
    over_clients.set_ylabel("share of clients")
    over_rounds.set_ylabel("share of clients and rounds")
    common_legend(figure, [over_clients], columns=4)
    title = f"Contributions of {clients} clients, k = {k:,}{_beta_text(beta)}{seeds_text(by_method['fab'])}"
    figure.suptitle(title, fontsize="medium")
    return figure


def _k_of_seeds(panel: Axes, seeds: Sequence[np.ndarray], label: str, colour: str) -> None:
    for ks in seeds:
        panel.step(np.arange(ks.size), ks, where="post", color=colour, linewidth=0.6, alpha=0.35)
    together = np.array([ks[: min(map(len, seeds))] for ks in seeds])
    half = _MEDIAN_ROUNDS // 2
    medians = [np.median(together[:, max(0, at - half) : at + half + 1]) for at in range(together.shape[1])]
    panel.plot(medians, color=colour, linewidth=2.0, label=label)


def _fixed_k(
    panel: Axes, ks: Sequence[int], groups: Sequence[Sequence[StudyRun]], time_s: float, hollow: bool = False
) -> None:
    known = {
        k: values
        for k, group in zip(ks, groups, strict=True)
        if (values := [value for run in group if not np.isnan(value := accuracy_at(run, time_s))])
    }
    means = np.array([np.mean(values) for values in known.values()])
    lowest = np.array([min(values) for values in known.values()])
    highest = np.array([max(values) for values in known.values()])
    panel.errorbar(
        list(known),
        means,
        yerr=[means - lowest, highest - means],
        color=COLOURS[0] if not hollow else COLOURS[-1],
        marker="s" if hollow else "o",
        markerfacecolor="white" if hollow else None,
        markersize=5,
        capsize=3,
        linestyle="none" if hollow else "-",
        label="always send all" if hollow else "fixed k",
    )


def _beta_text(beta: float) -> str:
    return f", beta = {beta:g}" if beta == beta else ""


FIGURES: dict[str, tuple[Draw, str]] = {
    "methods": (methods, "runs with a fixed k"),
    "k_over_rounds": (k_over_rounds, "runs with a controller of k"),
    "fixed_and_adaptive_k": (fixed_and_adaptive_k, "FAB runs with several k, or with a controller"),
    "contributions": (contributions_cdf, "runs of fab and fub_flat at the same k and beta"),
}
"""Name of the figure -> what draws it, and what it needs."""
