"""What the figures of studies have in common: lines, shades, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from study import Configuration, StudyRun, evaluations

# Okabe and Ito's palette: distinct for colour-blind readers too.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)), (0, (8, 3)))
"""Lines differ by dashes too: colours alone do not carry everywhere."""

_GRID_POINTS = 300
_CHARACTERS_PER_INCH = 13
"""Of small text, with some room."""
_HANDLE_CHARACTERS = 8
_ROW_INCHES = 0.19
_ROWS_WITH_ROOM = 3

Draw = Callable[[Sequence[StudyRun], float | None], Figure | None]
"""From runs, and the moment in emulated seconds to compare them at (None: the latest), to a figure if they allow it."""


class Styles:
    """Colour and dashes for each label: those of ``names`` in every figure the same, others what is left."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._places = {name: place for place, name in enumerate(names)}

    def __call__(self, label: str) -> tuple[str, object]:
        place = self._places.setdefault(label, len(self._places))
        turn = place // len(COLOURS)
        return COLOURS[place % len(COLOURS)], LINES[(place + turn) % len(LINES)]


def common_legend(figure: Figure, panels: Iterable[Axes], columns: int) -> Legend:
    """Below all panels, every label once, in at most ``columns`` as far as the figure is wide enough.

    The figure grows by the height of a long legend, so that panels keep theirs.
    """
    handles: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    width = int(figure.get_figwidth() * _CHARACTERS_PER_INCH)
    longest = max(map(len, handles), default=0) + _HANDLE_CHARACTERS
    columns = max(1, min(columns, len(handles), width // longest))
    rows = -(-len(handles) // columns) * -(-longest // width)
    figure.set_figheight(figure.get_figheight() + _ROW_INCHES * max(0, rows - _ROWS_WITH_ROOM))
    return figure.legend(
        list(handles.values()),
        [textwrap.fill(label, width - _HANDLE_CHARACTERS) for label in handles],
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
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


def seeds_text(groups: Sequence[Configuration]) -> str:
    """What lines and shades are, for a title, where there are several seeds."""
    seeds = {len(group.runs) for group in groups}
    if seeds == {1}:
        return ""
    return f" (mean and range of {f'{seeds.pop()} ' if len(seeds) == 1 else ''}seeds)"
