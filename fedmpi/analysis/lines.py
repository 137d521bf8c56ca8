"""Lines over time, rounds, bytes or energy: ``fedmpi plot``.

A line is one configuration: the mean over its seeds, with a band where there are several.
"""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fedmpi.analysis.curves import AXES, QUANTITIES, STEPS, UNITS, curve, meaning, together
from fedmpi.analysis.drawing import SIZES, Size, band, common_legend
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.looks import Styles

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
    places that all of them have reached; ``interval`` (a name of BANDS) is what bands show. ``names`` replace labels,
    with formulas between dollar signs.
    Make and write it within ``drawing.typeset``. AnalysisError: a run in which a quantity was never measured, or whose
    trace does not have it.
    """
    height = max(1.7, _PANEL_HEIGHT * size.width)
    figure = Figure(figsize=(size.width, 0.7 + height * len(ys)), layout="constrained")
    panels = figure.subplots(len(ys), 1, sharex=len(xs) == 1, squeeze=False)[:, 0]
    style = Styles()
    shown = labels(groups) if names is None else names
    for panel, x, y in zip(panels, xs if len(xs) > 1 else [xs[0]] * len(ys), ys, strict=True):
        steps = y in STEPS
        for group, label in zip(groups, shown, strict=True):
            places, values = together([curve(run, x, y) for run in group.runs], steps)
            band(panel, places, values, label, *style(label), interval, steps)
        panel.set_ylabel(QUANTITIES[y][0])
        panel.grid()
        if y in UNITS:
            panel.yaxis.set_major_formatter(EngFormatter(UNITS[y]))
        if x in UNITS:
            panel.xaxis.set_major_formatter(EngFormatter(UNITS[x]))
        if len(xs) > 1 or panel is panels[-1]:
            panel.set_xlabel(AXES[x][0])
    common_legend(figure, panels[:1], columns=3, title=meaning(groups, interval), formulas=names is not None)
    if title:
        figure.suptitle(title)
    return figure
