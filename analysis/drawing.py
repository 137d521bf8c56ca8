"""What the figures of studies have in common: lines, shades, legends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from plot import COLOURS
from study import StudyRun, evaluations

LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
"""Lines differ by dashes too: colours alone do not carry everywhere."""

_GRID_POINTS = 300

Draw = Callable[[Sequence[StudyRun], float | None], Figure | None]
"""From runs, and the moment in emulated seconds to compare them at (None: the latest), to a figure if they allow it."""


def common_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> Legend:
    """Below all panels, every label once."""
    handles: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    columns = min(columns, len(handles))
    return figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=columns, fontsize="small"
    )


def over(seeds: Sequence[StudyRun], x: str, column: str) -> tuple[np.ndarray, np.ndarray]:
    """Places on ``x`` (``end_s`` or ``round``) that all seeds have reached, and what was measured there.

    float64 (places,) and (seeds, places), linear between evaluations.
    """
    measured = [evaluations(run) for run in seeds]
    start = max(float(rounds[x].iloc[0]) for rounds in measured)
    end = min(float(rounds[x].iloc[-1]) for rounds in measured)
    places = np.linspace(start, max(start, end), _GRID_POINTS)
    return places, np.array([np.interp(places, rounds[x], rounds[column]) for rounds in measured])


def band(panel: Axes, x: np.ndarray, values: np.ndarray, label: str, colour: str, line: object) -> None:
    """The mean of ``values`` (seeds, places) over ``x``, and a shade from the lowest to the highest."""
    marker = "o" if x[0] == x[-1] else None  # a single evaluation makes no line
    panel.plot(
        x,
        values.mean(axis=0),
        color=colour,
        linestyle=line,
        linewidth=1.8,
        marker=marker,
        markersize=4,
        label=label,
    )
    if len(values) > 1:
        panel.fill_between(x, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, linewidth=0.0)


def style(name: str, names: dict[str, str], first: int = 0) -> tuple[str, object]:
    """Colour and dashes: the same for a name in every figure, whatever else is there."""
    place = first + (list(names).index(name) if name in names else len(names))
    return COLOURS[place % len(COLOURS)], LINES[place % len(LINES)]


def seeds_text(runs: Sequence[StudyRun]) -> str:
    """How many seeds there are, for a title; nothing where it is one."""
    seeds = len({run.seed for run in runs})
    return f" ({seeds} seeds)" if seeds > 1 else ""
