"""The figures of the study of PruneFL (Jiang et al., IEEE TNNLS 2022); ``figures.py`` is the command.

Every function takes the runs that there are, and gives None where a figure cannot be made of them. Accuracies are
means over seeds, with shades from the lowest to the highest; sizes of models are lines of each seed. The second
argument is the emulated moment in seconds at which time axes end (None: the latest).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from drawing import Draw, band, common_legend, over, seeds_text, style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, Formatter, LogLocator, NullFormatter, StrMethodFormatter
from prunefl_runs import METHODS, SELECTIONS, TICKETS, compared, tickets
from study import StudyRun

from fedmpi.trace import Trace

_TICKET_STYLES = {"lottery_reinit": "prunefl", "lottery_random": "iterative"}
"""Whose lines tickets are drawn in: SNIP and the full model keep their own."""

_AXES = {"end_s": "emulated time (s)", "round": "round"}


def accuracy(runs: Sequence[StudyRun], time_s: float | None, x: str) -> Figure | None:
    """Test accuracy of every method over ``x`` (``end_s`` or ``round``), a panel for each selection of clients."""
    selections = compared(runs)
    if not selections:
        return None
    figure = Figure(figsize=(1.6 + 5.4 * len(selections), 5.0), layout="constrained")
    panels = figure.subplots(1, len(selections), sharey=True, squeeze=False)[0]
    for panel, (selected, by_method) in zip(panels, selections.items(), strict=True):
        for name, seeds in by_method.items():
            places, values = over(seeds, x, "test_accuracy")
            band(panel, places, values, METHODS.get(name, name), *style(name, METHODS))
        _finish(panel, x, time_s)
        if len(selections) > 1:
            panel.set_title(SELECTIONS[selected], fontsize="medium")
    panels[0].set_ylabel("test accuracy")
    common_legend(figure, panels, columns=3)
    figure.suptitle(f"Accuracy over {_AXES[x].partition(' (')[0]}{_model_text(runs)}", fontsize="medium")
    return figure


def model_size(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """Active parameters of every method over rounds and over time; initial pruning is the rounds below 0."""
    by_method = next(iter(compared(runs).values()), {})
    if all(run.trace.rounds.density.eq(1.0).all() for seeds in by_method.values() for run in seeds):
        return None
    figure = Figure(figsize=(11.0, 4.8), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for panel, x in zip(panels, ("round", "end_s"), strict=True):
        for name, seeds in by_method.items():
            colour, line = style(name, METHODS)
            for run in seeds:
                rounds = run.trace.rounds
                panel.step(
                    rounds[x],
                    rounds.active_parameters,
                    where="post",
                    color=colour,
                    linestyle=line,
                    linewidth=1.8,
                    label=METHODS.get(name, name),
                )
        _finish(panel, x, time_s)
        _logarithmic(panel, EngFormatter(sep=" "))
    _mark_start(panels[0], min(int(run.trace.rounds["round"].min()) for run in runs))
    panels[0].set_ylabel("active parameters")
    common_legend(figure, panels, columns=3)
    figure.suptitle(f"Size of the model{_model_text(runs)}", fontsize="medium")
    return figure


def lottery(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """Accuracy over rounds of PruneFL's last mask with its first and with new weights, of SNIP and the full model."""
    by_method = tickets(runs)
    if not by_method:
        return None
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    panel = figure.subplots()
    for name, seeds in by_method.items():
        places, values = over(seeds, "round", "test_accuracy")
        band(panel, places, values, TICKETS[name], *style(_TICKET_STYLES.get(name, name), METHODS))
    _finish(panel, "round", None)
    panel.set_ylabel("test accuracy")
    common_legend(figure, [panel], columns=2)
    figure.suptitle(f"Lottery tickets{_model_text(runs)}", fontsize="medium")
    return figure


def layer_density(runs: Sequence[StudyRun], time_s: float | None) -> Figure | None:
    """What PruneFL leaves of each layer that it ever changed, over rounds; of several seeds the first."""
    pruned = next(iter(compared(runs).values()), {}).get("prunefl", [])
    if not pruned:
        return None
    trace = pruned[0].trace
    changed = layer_densities(trace)
    if not changed:
        return None
    figure = Figure(figsize=(7.0, 4.8), layout="constrained")
    panel = figure.subplots()
    for layer, (rounds, density) in changed.items():
        colour, line = style(layer, dict.fromkeys(changed, ""))
        panel.step(rounds, density, where="post", color=colour, linestyle=line, linewidth=1.8, label=layer)
    _finish(panel, "round", None)
    _logarithmic(panel, StrMethodFormatter("{x:g}"))
    _mark_start(panel, int(trace.rounds["round"].min()))
    panel.set_ylabel("density of the layer (active / all)")
    common_legend(figure, [panel], columns=3)
    figure.suptitle(f"PruneFL, layer by layer{_model_text(pruned[:1])}", fontsize="medium")
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


def _finish(panel: Axes, x: str, time_s: float | None) -> None:
    panel.set_xlabel(_AXES[x])
    panel.grid(alpha=0.3)
    panel.margins(x=0.01)
    if x == "end_s":
        panel.xaxis.set_major_formatter(EngFormatter(sep=" "))
        panel.set_xlim(left=0.0, right=time_s)


def _logarithmic(panel: Axes, formatter: Formatter) -> None:
    """The vertical axis, with labels at 1, 2, 3 and 5 of each decade."""
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 3.0, 5.0)))
    panel.yaxis.set_major_formatter(formatter)
    panel.yaxis.set_minor_formatter(NullFormatter())


def _mark_start(panel: Axes, first_round: int) -> None:
    """Where initial pruning ends, if there was any."""
    if first_round < 0:
        panel.axvline(-0.5, color="grey", linewidth=0.8, linestyle=":", label="end of initial pruning")


def _model_text(runs: Sequence[StudyRun]) -> str:
    attributes = runs[0].trace.attributes
    return f": {runs[0].trace.config['model']['name']}, {attributes['parameters']:,} parameters{seeds_text(runs)}"


FIGURES: dict[str, tuple[Draw, str]] = {
    "accuracy_over_time": (partial(accuracy, x="end_s"), "runs that are no lottery tickets"),
    "accuracy_over_rounds": (partial(accuracy, x="round"), "runs that are no lottery tickets"),
    "model_size": (model_size, "a run in which parameters were pruned"),
    "lottery": (lottery, "runs of lottery tickets (--lottery DIR)"),
    "layer_density": (layer_density, "a run of prunefl in which parameters were pruned"),
}
"""Name of the figure -> what draws it, and what it needs."""
