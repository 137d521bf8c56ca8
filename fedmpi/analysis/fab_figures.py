"""The figures of the study of FAB-top-k (Han, Wang and Leung, ICDCS 2020); ``figures.py`` is the command.

Every function takes the runs that there are, and gives None where a figure cannot be made of them. Runs of one
configuration, which differ in seeds alone, are drawn together: lines are means over seeds, shades and bars reach from
the lowest to the highest. Whatever else differs makes another line, whose label says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fedmpi.analysis.drawing import Draw, band, common_legend, over, seeds_text
from fedmpi.analysis.groups import (
    Configuration,
    betas,
    configurations,
    grouped,
    labels,
    methods_compared,
    same,
)
from fedmpi.analysis.looks import Styles
from fedmpi.analysis.measures import (
    accuracy_at,
    client_means,
    common_time,
    contributions,
    even_shares,
    mean_accuracy_at,
)
from fedmpi.analysis.method_names import (
    BY_BETA,
    BY_CHOICE_OF_K,
    BY_METHOD,
    CONTROLLERS,
    METHODS,
    choice_of_k,
    sparsification,
)
from fedmpi.analysis.runs import Run
from fedmpi.numerics.quantities import plain_seconds

_MEDIAN_ROUNDS = 21


def methods(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """Test loss and accuracy over emulated time, for each method at the k and beta that most of them were run at."""
    k, beta, compared = methods_compared(runs)
    if not compared:
        return None
    figure = Figure(figsize=(9.0, 4.4), layout="constrained")
    panels = figure.subplots(1, 2)
    columns = (("test_loss", "test loss (cross-entropy)"), ("test_accuracy", "test accuracy"))
    groups = configurations(compared, sparsification, BY_METHOD, METHODS.values())
    style = Styles(METHODS.values())
    end_s = max(run.end_s for run in compared)
    for panel, (column, name) in zip(panels, columns, strict=True):
        for group, label in zip(groups, labels(groups), strict=True):
            moments_s, values = over(group.runs, "end_s", column)
            band(panel, moments_s, values, label, *style(group.label))
        panel.set(xlabel="emulated time (s)", ylabel=name, xlim=(0.0, end_s))
        panel.grid(alpha=0.3)
    panels[1].set_ylim(bottom=0.0)
    common_legend(figure, panels, columns=4)
    title = f"Sparsification methods{_k_text(k)}{_beta_text(beta)}{seeds_text(groups)}"
    figure.suptitle(title, fontsize="medium")
    return figure


def k_over_rounds(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """One panel for each controller: k of every round, a colour for each beta.

    Thin lines are seeds; the bold one is the median of all seeds over ``_MEDIAN_ROUNDS`` rounds around.
    """
    by_controller = grouped((run for run in runs if run.adaptive), lambda run: run.controller)
    if not by_controller:
        return None
    columns = min(2, len(by_controller))
    rows = -(-len(by_controller) // columns)
    figure = Figure(figsize=(max(6.4, 4.6 * columns), 1.0 + 2.6 * rows), layout="constrained")
    panels = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel()
    style = Styles(
        map(_curve, sorted((run for group in by_controller.values() for run in group), key=_by_beta))
    )
    for panel, controller in zip(panels, _in_order(by_controller), strict=False):
        for curve in configurations(sorted(by_controller[controller], key=_by_beta), _curve, BY_BETA):
            _k_of_seeds(panel, curve, style(curve.label)[0])
        panel.set_title(CONTROLLERS.get(controller, controller), fontsize="medium")
        panel.set_yscale("log")
        panel.set_xlim(left=0)
        panel.grid(alpha=0.3)
        panel.set_xlabel("round")
    for panel in panels[len(by_controller) :]:
        panel.remove()
    for row in range(rows):
        panels[row * columns].set_ylabel("k (entries sent)")
    common_legend(figure, panels[: len(by_controller)], columns=4)
    figure.suptitle("k chosen by controllers (thin: each seed, bold: running median)", fontsize="medium")
    return figure


def fixed_and_adaptive_k(runs: Sequence[Run], time_s: float | None) -> Figure | None:
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
    style = Styles(["fixed k", METHODS["dense"], *CONTROLLERS.values()])
    drawn: list[Configuration] = []
    for panel, beta in zip(panels, shown, strict=False):
        here = [run for run in (*fixed, *adaptive) if same(run.beta, beta)]
        moment_s = common_time(here) if time_s is None else time_s
        groups = configurations(sorted(here, key=lambda run: (not run.k, run.k)), choice_of_k, BY_CHOICE_OF_K)
        drawn += groups
        for label, points in _series(groups).items():
            _fixed_k(panel, label, points, moment_s, style(label)[0])
        for group in groups:
            if group.runs[0].adaptive:
                _level(panel, group, moment_s, style(group.label))
        panel.set_xscale("log")
        panel.set_title(
            f"{_beta_text(beta).lstrip(', ') or 'accuracy'} at {plain_seconds(moment_s)} s", fontsize="medium"
        )
        panel.set(xlabel="k (entries sent)", ylabel="test accuracy")
        panel.grid(alpha=0.3)
    for panel in panels[len(shown) :]:
        panel.remove()
    common_legend(figure, panels[: len(shown)], columns=3)
    title = f"Accuracy at a fixed emulated time, fixed and adaptive k{seeds_text(drawn)}"
    figure.suptitle(title, fontsize="medium")
    return figure


def contributions_cdf(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """Entries used of each client: distribution over clients (means of a run), and over clients and rounds."""
    k, beta, compared = methods_compared(runs)
    chosen = [run for run in compared if run.method in ("fab", "fub_flat", "fub_tree")]
    if not {"fab", "fub_flat"} <= {run.method for run in chosen}:
        return None
    groups = configurations(chosen, sparsification, BY_METHOD, METHODS.values())
    style = Styles(METHODS.values())
    figure = Figure(figsize=(9.0, 4.2), layout="constrained")
    over_clients, over_rounds = figure.subplots(1, 2, sharey=True)
    for group, label in zip(groups, labels(groups), strict=True):
        colour, line = style(group.label)
        means = np.concatenate([client_means(run.trace) for run in group.runs])
        single = np.concatenate([contributions(run.trace).entries_used.to_numpy() for run in group.runs])
        for panel, values in ((over_clients, means), (over_rounds, single)):
            if len(values):
                panel.ecdf(values, label=label, color=colour, linestyle=line, linewidth=1.8)
            else:
                panel.plot([], [], label=f"{label} (no update counted)", color=colour, linestyle=line)
    shares = sorted({share for run in chosen for share in even_shares(run)})
    for panel, name in (
        (over_clients, "entries used of a client, mean of its rounds"),
        (over_rounds, "entries used of a client in a single round"),
    ):
        for share in shares:
            label = f"k / participants = {share:,}"
            panel.axvline(share, color="#777777", linewidth=1.0, linestyle=":", label=label)
        panel.set(xlabel=name, ylim=(0.0, 1.02))
        panel.set_xlim(left=0.0)
        panel.grid(alpha=0.3)
    over_clients.set_ylabel("share of clients")
    over_rounds.set_ylabel("share of clients and rounds")
    common_legend(figure, [over_clients], columns=4)
    seeds = {len(group.runs) for group in groups} - {1}
    figure.suptitle(
        f"Contributions of clients{_k_text(k)}{_beta_text(beta)}{' (all seeds)' if seeds else ''}",
        fontsize="medium",
    )
    return figure


def _k_of_seeds(panel: Axes, curve: Configuration, colour: str) -> None:
    traces = [run.trace.rounds for run in curve.runs]
    seeds = [rounds.k[rounds["round"] >= 0].to_numpy() for rounds in traces]
    for ks in seeds:
        panel.step(np.arange(ks.size), ks, where="post", color=colour, linewidth=0.6, alpha=0.35)
    together = np.array([ks[: min(map(len, seeds))] for ks in seeds])
    half = _MEDIAN_ROUNDS // 2
    medians = [np.median(together[:, max(0, at - half) : at + half + 1]) for at in range(together.shape[1])]
    panel.plot(medians, color=colour, linewidth=2.0, label=curve.label)


def _series(groups: Sequence[Configuration]) -> dict[str, dict[int, Configuration]]:
    """Configurations without a controller by label: those that differ in their k alone make one line over k."""
    series: dict[str, dict[int, Configuration]] = {}
    for group in groups:
        run = group.runs[0]
        if run.adaptive:
            continue
        k = run.k or int(run.trace.attributes["parameters"])
        series.setdefault(group.label.replace(f"fixed k = {run.k:,}", "fixed k"), {})[k] = group
    return series


def _fixed_k(panel: Axes, label: str, points: dict[int, Configuration], time_s: float, colour: str) -> None:
    known = {
        k: [accuracy_at(run, time_s) for run in group.runs]
        for k, group in points.items()
        if not np.isnan(mean_accuracy_at(group.runs, time_s))
    }
    hollow = next(iter(points.values())).runs[0].method == "dense"
    means = np.array([np.mean(values) for values in known.values()])
    lowest = np.array([min(values) for values in known.values()])
    highest = np.array([max(values) for values in known.values()])
    panel.errorbar(
        list(known),
        means,
        yerr=[means - lowest, highest - means],
        color=colour,
        marker="s" if hollow else "o",
        markerfacecolor="white" if hollow else None,
        markersize=5,
        capsize=3,
        linestyle="none" if hollow else "-",
        label=label if len(known) == len(points) else f"{label}: not all known at {plain_seconds(time_s)} s",
    )


def _level(panel: Axes, group: Configuration, time_s: float, style: tuple[str, object]) -> None:
    colour, line = style
    level = mean_accuracy_at(group.runs, time_s)
    if np.isnan(level):
        panel.plot(
            [],
            [],
            color=colour,
            linestyle=line,
            label=f"{group.label}: not known at {plain_seconds(time_s)} s",
        )
    else:
        panel.axhline(level, color=colour, linestyle=line, label=group.label)


def _in_order(controllers: Iterable[str]) -> list[str]:
    places = {name: place for place, name in enumerate(CONTROLLERS)}
    return sorted(controllers, key=lambda name: places.get(name, len(places)))


def _by_beta(run: Run) -> tuple[bool, float]:
    """Ascending; last what has no beta."""
    return (run.beta != run.beta, run.beta if run.beta == run.beta else 0.0)


def _curve(run: Run) -> str:
    return _beta_text(run.beta).lstrip(", ") or "k"


def _beta_text(beta: float) -> str:
    return f", beta = {beta:g}" if beta == beta else ""


def _k_text(k: int) -> str:
    return f", k = {k:,}" if k else ""


FIGURES: dict[str, tuple[Draw, str]] = {
    "methods": (methods, "runs with a fixed k"),
    "k_over_rounds": (k_over_rounds, "runs with a controller of k"),
    "fixed_and_adaptive_k": (fixed_and_adaptive_k, "FAB runs with several k, or with a controller"),
    "contributions": (contributions_cdf, "runs of fab and fub_flat at the same k and beta"),
}
"""Name of the figure -> what draws it, and what it needs."""
