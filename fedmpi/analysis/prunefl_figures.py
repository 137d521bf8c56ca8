"""The figures of the study of PruneFL (Jiang et al., IEEE TNNLS 2022); ``figures.py`` is the command.

Every function takes the runs that there are, and gives None where a figure cannot be made of them. Runs of one
configuration, which differ in seeds alone, are drawn together: accuracies as means, with shades from the lowest to the
highest, sizes of models as a line of each seed. Whatever else differs makes another line, whose label says so. The
second argument is the emulated moment in seconds at which time axes end (None: the latest).
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, NullFormatter, StrMethodFormatter

from fedmpi.analysis.drawing import Draw, band, common_legend, over, seeds_text
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.looks import Styles
from fedmpi.analysis.prunefl_runs import METHODS, PRUNEFL, SELECTIONS, TICKETS, compared, tickets
from fedmpi.analysis.runs import Run
from fedmpi.trace import Trace

_TICKET_COLOURS = (TICKETS[0], TICKETS[1], TICKETS[3], TICKETS[2])
"""Full model and SNIP keep the lines that they have among the methods, tickets take those of pruned models."""

_TITLE_CHARACTERS = 56
"""Of a line of a title over a panel of 5.4 inches."""
_LINE_INCHES = 0.18

_AXES = {"end_s": "emulated time (s)", "round": "round"}


def accuracy(runs: Sequence[Run], time_s: float | None, x: str) -> Figure | None:
    """Test accuracy of every method over ``x`` (``end_s`` or ``round``), a panel for each selection of clients."""
    selections = compared(runs)
    if not selections:
        return None
    figure = Figure(figsize=(1.6 + 5.4 * len(selections), 5.0), layout="constrained")
    panels = figure.subplots(1, len(selections), sharey=True, squeeze=False)[0]
    style = Styles(METHODS)
    for panel, (selected, groups) in zip(panels, selections.items(), strict=True):
        _accuracies(panel, groups, x, style)
        _finish(panel, x, time_s)
        if len(selections) > 1:
            panel.set_title(SELECTIONS[selected], fontsize="medium")
    panels[0].set_ylabel("test accuracy")
    common_legend(figure, panels, columns=3)
    drawn = [group for groups in selections.values() for group in groups]
    title = f"Accuracy over {_AXES[x].partition(' (')[0]}{_model_text(drawn)}{seeds_text(drawn)}"
    figure.suptitle(title, fontsize="medium")
    return figure


def model_size(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """Active parameters of every method over rounds and over time; initial pruning is the rounds below 0.

    A row of panels for each selection of clients.
    """
    selections = compared(runs)
    drawn = [group for groups in selections.values() for group in groups]
    if all(run.trace.rounds.density.eq(1.0).all() for group in drawn for run in group.runs):
        return None
    figure = Figure(figsize=(11.0, 1.0 + 3.8 * len(selections)), layout="constrained")
    rows = figure.subplots(len(selections), 2, sharey=True, squeeze=False)
    style = Styles(METHODS)
    for panels, (selected, groups) in zip(rows, selections.items(), strict=True):
        for panel, x in zip(panels, ("round", "end_s"), strict=True):
            for group in groups:
                _sizes(panel, group, x, style(group.label))
            _finish(panel, x, time_s)
            _logarithmic(panel, EngFormatter(sep=" "))
            if len(selections) > 1:
                panel.set_title(SELECTIONS[selected], fontsize="medium")
        _mark_start(panels[0], [run.trace for group in groups for run in group.runs])
        panels[0].set_ylabel("active parameters")
    common_legend(figure, rows.ravel(), columns=3)
    figure.suptitle(f"Size of the model{_model_text(drawn)}{_each_seed(drawn)}", fontsize="medium")
    return figure


def lottery(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """Accuracy over rounds of PruneFL's last mask with its first and with new weights, of SNIP and the full model."""
    selections = tickets(runs)
    if not selections:
        return None
    figure = Figure(figsize=(1.6 + 5.4 * len(selections), 4.8), layout="constrained")
    panels = figure.subplots(1, len(selections), sharey=True, squeeze=False)[0]
    style = Styles(_TICKET_COLOURS)
    for panel, (selected, groups) in zip(panels, selections.items(), strict=True):
        _accuracies(panel, groups, "round", style)
        _finish(panel, "round", None)
        if len(selections) > 1:
            panel.set_title(SELECTIONS[selected], fontsize="medium")
    panels[0].set_ylabel("test accuracy")
    common_legend(figure, panels, columns=2)
    drawn = [group for groups in selections.values() for group in groups]
    figure.suptitle(f"Lottery tickets{_model_text(drawn)}{seeds_text(drawn)}", fontsize="medium")
    return figure


def layer_density(runs: Sequence[Run], time_s: float | None) -> Figure | None:
    """What PruneFL leaves of each layer that it ever changed, over rounds; a panel for each of its configurations."""
    selections = compared(runs)
    pruned = [
        (selected, group)
        for selected, groups in selections.items()
        for group in groups
        if group.name == PRUNEFL and any(layer_densities(run.trace) for run in group.runs)
    ]
    if not pruned:
        return None
    figure = Figure(figsize=(1.6 + 5.4 * len(pruned), 4.8), layout="constrained")
    panels = figure.subplots(1, len(pruned), sharey=True, squeeze=False)[0]
    style = Styles()
    lines = 1
    for panel, (selected, group) in zip(panels, pruned, strict=True):
        for run in group.runs:
            for layer, (rounds, density) in layer_densities(run.trace).items():
                colour, line = style(layer)
                panel.step(
                    rounds, density, where="post", color=colour, linestyle=line, linewidth=1.8, label=layer
                )
        _finish(panel, "round", None)
        _logarithmic(panel, StrMethodFormatter("{x:g}"))
        _mark_start(panel, [run.trace for run in group.runs])
        if len(pruned) > 1:
            place = f" ({SELECTIONS[selected]})" if len(selections) > 1 else ""
            title = textwrap.fill(f"{group.label}{place}", _TITLE_CHARACTERS)
            panel.set_title(title, fontsize="medium", parse_math=False)
            lines = max(lines, len(title.splitlines()))
    figure.set_figheight(figure.get_figheight() + _LINE_INCHES * (lines - 1))
    panels[0].set_ylabel("density of the layer (active / all)")
    common_legend(figure, panels, columns=3)
    drawn = [group for _, group in pruned]
    figure.suptitle(f"PruneFL, layer by layer{_model_text(drawn)}{_each_seed(drawn)}", fontsize="medium")
    return figure


def layer_densities(trace: Trace) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """The rounds at which the mask changed and the density from then on, of each layer that was ever pruned.

    The last density stands once more at the last round.
    """
    end = trace.rounds["round"].iloc[-1]
    densities = {}
    for layer in trace.layers.layer.unique():
        rows = trace.layers[trace.layers.layer == layer]
        density = (rows.active / rows.total).to_numpy()
        if (density < 1).any():
            densities[str(layer)] = (np.append(rows["round"], end), np.append(density, density[-1]))
    return densities


def _accuracies(panel: Axes, groups: Sequence[Configuration], x: str, style: Styles) -> None:
    for group, label in zip(groups, labels(groups), strict=True):
        places, values = over(group.runs, x, "test_accuracy")
        band(panel, places, values, label, *style(group.label))


def _sizes(panel: Axes, group: Configuration, x: str, style: tuple[str, object]) -> None:
    colour, line = style
    for run in group.runs:
        rounds = run.trace.rounds
        panel.step(
            rounds[x],
            rounds.active_parameters,
            where="post",
            color=colour,
            linestyle=line,
            linewidth=1.8,
            label=group.label,
        )


def _finish(panel: Axes, x: str, time_s: float | None) -> None:
    panel.set_xlabel(_AXES[x])
    panel.grid(alpha=0.3)
    panel.margins(x=0.01)
    if x == "end_s":
        panel.xaxis.set_major_formatter(EngFormatter(sep=" "))
        panel.set_xlim(left=0.0, right=time_s)


def _logarithmic(panel: Axes, formatter: Formatter) -> None:
    """The vertical axis, with labels at 1, 2, 3, 5 and 7 of each decade."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0, 7.0)))
    panel.yaxis.set_major_formatter(formatter)
    panel.yaxis.set_minor_formatter(NullFormatter())


def _mark_start(panel: Axes, traces: Iterable[Trace]) -> None:
    """Where initial pruning ends, if there was any."""
    if min(int(trace.rounds["round"].min()) for trace in traces) < 0:
        panel.axvline(-0.5, color="grey", linewidth=0.8, linestyle=":", label="end of initial pruning")


def _model_text(groups: Sequence[Configuration]) -> str:
    """The model, where all have the same."""
    runs = [run for group in groups for run in group.runs]
    models = {(run.settings["model.name"], run.trace.attributes["parameters"]) for run in runs}
    if len(models) > 1:
        return ""
    name, parameters = models.pop()
    return f": {name}, {parameters:,} parameters"


def _each_seed(groups: Sequence[Configuration]) -> str:
    return " (a line for each seed)" if max(len(group.runs) for group in groups) > 1 else ""


FIGURES: dict[str, tuple[Draw, str]] = {
    "accuracy_over_time": (partial(accuracy, x="end_s"), "runs that are no lottery tickets"),
    "accuracy_over_rounds": (partial(accuracy, x="round"), "runs that are no lottery tickets"),
    "model_size": (model_size, "a run in which parameters were pruned"),
    "lottery": (lottery, "runs of lottery tickets (a path more)"),
    "layer_density": (layer_density, "a run of prunefl in which parameters were pruned"),
}
"""Name of the figure -> what draws it, and what it needs."""
