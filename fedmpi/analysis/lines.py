"""Lines over time, rounds, bytes or energy: ``fedmpi plot``.

A line is one configuration: the mean over its seeds, with a band where there are several.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fedmpi.analysis.drawing import BANDS, SIZES, Curve, Size, Styles, band, common_legend, together
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.measures import bytes_so_far, energy_so_far
from fedmpi.analysis.runs import AnalysisError, Run
from fedmpi.trace import Trace

Quantity = tuple[str, Callable[[Trace], pd.Series]]
"""How an axis is named, and the values of all rounds of a trace, NaN (or without a row) where nothing was measured."""

AXES: dict[str, Quantity] = {
    "time": ("emulated time (s)", lambda trace: trace.rounds.end_s),
    "round": ("round", lambda trace: trace.rounds["round"]),
    "bytes": ("bytes sent and received", bytes_so_far),
    "energy": ("energy of all clients", energy_so_far),
}
QUANTITIES: dict[str, Quantity] = {
    "accuracy": ("test accuracy", lambda trace: trace.rounds.test_accuracy),
    "loss": ("test loss", lambda trace: trace.rounds.test_loss),
    "train_loss": ("training loss", lambda trace: trace.rounds.train_loss),
    "k": ("k (entries sent)", lambda trace: trace.rounds.k[trace.rounds.phase == "federated"]),
    "density": ("density", lambda trace: trace.rounds.density),
    "bytes": ("bytes sent and received", bytes_so_far),
    "energy": ("energy of all clients", energy_so_far),
}
_STEPS = ("k", "density")
_UNITS = {"bytes": "B", "energy": "J"}
_PANEL_HEIGHT = 0.36
"""Of a panel, in widths of a figure that has one column of them (at least that of a column's)."""


def draw(
    groups: Sequence[Configuration],
    xs: Sequence[str] = ("time",),
    ys: Sequence[str] = ("accuracy",),
    *,
    size: Size = SIZES["page"],
    interval: str = "ci",
    title: str = "",
    names: Sequence[str] | None = None,
) -> Figure:
    """A figure with one panel for each of ``ys`` (names of QUANTITIES).

    ``xs`` (names of AXES) is what they share as their horizontal axis, or one for each. Lines are means over seeds, at
    places that all of them have reached; ``interval`` (a name of BANDS) is what bands show. ``names`` replace labels.
    Make and write it within ``drawing.typeset``. AnalysisError: a run in which a quantity was never measured, or whose
    trace does not have it.
    """
    height = max(1.7, _PANEL_HEIGHT * size.width)
    figure = Figure(figsize=(size.width, 0.7 + height * len(ys)), layout="constrained")
    panels = figure.subplots(len(ys), 1, sharex=len(xs) == 1, squeeze=False)[:, 0]
    style = Styles()
    shown = labels(groups) if names is None else names
    for panel, x, y in zip(panels, xs if len(xs) > 1 else [xs[0]] * len(ys), ys, strict=True):
        steps = y in _STEPS
        for group, label in zip(groups, shown, strict=True):
            places, values = together([curve(run, x, y) for run in group.runs], steps)
            band(panel, places, values, label, *style(label), interval, steps)
        panel.set_ylabel(QUANTITIES[y][0])
        panel.grid()
        if y in _UNITS:
            panel.yaxis.set_major_formatter(EngFormatter(_UNITS[y]))
        if x in _UNITS:
            panel.xaxis.set_major_formatter(EngFormatter(_UNITS[x]))
        if len(xs) > 1 or panel is panels[-1]:
            panel.set_xlabel(AXES[x][0])
    common_legend(figure, panels[:1], columns=3, title=meaning(groups, interval))
    if title:
        figure.suptitle(title)
    return figure


def curve(run: Run, x: str, y: str) -> Curve:
    """What was measured of ``y`` in one run, over ``x``. AnalysisError where nothing was."""
    name, values_of = QUANTITIES[y]
    measured = values_of(run.trace).dropna()
    if measured.empty:
        raise AnalysisError(f"{run.trace.path}: {name} was never measured")
    places = AXES[x][1](run.trace)[measured.index]
    if places.isna().any():
        raise AnalysisError(f"{run.trace.path}: {AXES[x][0]} is not known in all rounds")
    return places.to_numpy(np.float64), measured.to_numpy(np.float64)


def meaning(groups: Sequence[Configuration], interval: str) -> str:
    """What lines and bands are, where there are several seeds; "" where there are not."""
    seeds = {len(group.runs) for group in groups}
    if seeds <= {1}:
        return ""
    count = f"{seeds.pop()} " if len(seeds) == 1 else ""
    bands = f"; band: {BANDS[interval]}" if BANDS[interval] else ""
    return f"line: mean of {count}seeds{bands}"
