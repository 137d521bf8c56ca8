"""The picture of a map: who is first at each point of link rates and device speeds, and by what factor.

Over two grids a heat map, over one of them lines of the time to the target above a strip of who is first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite, log

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from fedmpi.analysis.drawing import COLOURS, LINES, SIZES, Size, common_legend
from fedmpi.analysis.statistics import bootstrap_interval
from fedmpi.analysis.winners import ALONE, APPROXIMATE, FIRST, NONE, POINT, UNDECIDED, common_seeds

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Of methods, for readers without colours."""

_UPLINK, _, _SPEED = POINT
_NAMES = {_UPLINK: "uplink (Mbit/s)", _SPEED: "speed of devices (of the sweep: 1)"}
_NONE_COLOUR, _UNKNOWN_COLOUR, _EDGE, _INK = "#BDBDBD", "#FFFFFF", "#333333", "#1A1A1A"
_PALEST, _STRONGEST, _STRONG_FACTOR = 0.28, 0.95, 10.0
"""Shares of a method's colour in a cell: at a factor of 1, and from this factor on."""
_MOST_TICKS = 9
_WIDTH_OF_NUMBER, _HEIGHT_OF_NUMBER = 2.0, 1.15
_WIDTH_OF_MARKER = 1.9
"""What a number in a cell, and a marker above it, take of a cell: in sizes of its text."""


def draw(
    times: pd.DataFrame,
    decided: pd.DataFrame,
    target: float,
    size: Size = SIZES["page"],
    title: str = "",
) -> Figure:
    """The map of ``winners.winners(times)``; methods have the colours and markers of their order in ``times``."""
    looks = {method: place for place, method in enumerate(dict.fromkeys(times.method))}
    uplinks, speeds = np.unique(decided[_UPLINK]), np.unique(decided[_SPEED])
    if min(len(uplinks), len(speeds)) > 1:
        figure = _heat_map(times, decided, looks, uplinks, speeds, size)
    else:
        axis = _UPLINK if len(uplinks) > 1 or len(speeds) == 1 else _SPEED
        figure = _lines(times, decided, looks, axis, target, size)
    _legend(figure, times, decided, looks, target)
    if title:
        figure.suptitle(title)
    return figure


def _heat_map(
    times: pd.DataFrame,
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    uplinks: NDArray[np.float64],
    speeds: NDArray[np.float64],
    size: Size,
) -> Figure:
    height = size.width * min(0.72, max(0.34, 0.7 * len(speeds) / len(uplinks))) + 0.9
    figure = Figure(figsize=(size.width, height), layout="constrained")
    panel = figure.add_subplot()
    cells = decided.pivot(index=_SPEED, columns=_UPLINK)
    for row, speed in enumerate(speeds):
        for column, uplink in enumerate(uplinks):
            cell = {name: cells[name].loc[speed, uplink] for name in ("verdict", "first", "factor")}
            _fill(panel, column, row, cell, looks)
    room = 72 * np.array([0.86 * size.width / len(uplinks), (height - 1.5) / len(speeds)])
    _numbers(panel, decided, looks, uplinks, speeds, room, size)
    _borders(panel, cells["first"].where(cells["verdict"].isin([FIRST, ALONE, UNDECIDED]), cells["verdict"]))
    panel.set_xlim(-0.5, len(uplinks) - 0.5)
    panel.set_ylim(-0.5, len(speeds) - 0.5)
    _ticks(panel.xaxis, uplinks, most=_MOST_TICKS if size.width > 5 else 7)
    _ticks(panel.yaxis, speeds, most=_MOST_TICKS)
    panel.set_xlabel(_NAMES[_UPLINK])
    panel.set_ylabel(_NAMES[_SPEED])
    return figure


def _fill(panel: Axes, column: int, row: int, cell: Mapping[str, object], looks: Mapping[str, int]) -> None:
    verdict = cell["verdict"]
    colour, hatch = (_NONE_COLOUR, "") if verdict == NONE else (_UNKNOWN_COLOUR, "xx")
    if verdict in (FIRST, ALONE, UNDECIDED):
        factor = float(str(cell["factor"])) if verdict == FIRST else 1.0 if verdict == UNDECIDED else np.inf
        colour = shade(COLOURS[looks[str(cell["first"])] % len(COLOURS)], factor)
        hatch = "////" if verdict == UNDECIDED else ""
    panel.add_patch(
        Rectangle(
            (column - 0.5, row - 0.5), 1, 1, facecolor=colour, hatch=hatch, edgecolor="#6E6E6E", linewidth=0
        )
    )
    panel.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, edgecolor="white", linewidth=0.5))


def shade(colour: str, factor: float) -> tuple[float, float, float]:
    """A colour on white, the stronger the larger the factor (1 or more); RGB from 0 to 1."""
    share = min(log(factor) / log(_STRONG_FACTOR), 1.0) if isfinite(factor) else 1.0
    weight = _PALEST + (_STRONGEST - _PALEST) * share
    red, green, blue = (1 - weight + weight * part for part in to_rgb(colour))
    return red, green, blue


def ink(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever is easier to read on a colour (relative luminance, WCAG 2)."""
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _INK if (luminance + 0.05) / 0.06 > 1.05 / (luminance + 0.05) else "white"


def factor_text(factor: float) -> str:
    """A factor in two or three characters that count."""
    if factor < 1.095:
        return f"{factor:.2f}"
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"


def _numbers(
    panel: Axes,
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    uplinks: NDArray[np.float64],
    speeds: NDArray[np.float64],
    room: NDArray[np.float64],
    size: Size,
) -> None:
    """The factor in each cell that is decided, and its method's marker where there is room for it too."""
    text = 0.82 * size.text
    if room[0] < _WIDTH_OF_NUMBER * text or room[1] < _HEIGHT_OF_NUMBER * text:
        return
    marked = room[1] > 2 * _HEIGHT_OF_NUMBER * text
    beside = not marked and room[0] > (_WIDTH_OF_NUMBER + _WIDTH_OF_MARKER) * text
    for cell in decided[decided.verdict.isin([FIRST, ALONE])].itertuples():
        column, row = (
            int(np.searchsorted(grid, getattr(cell, name)))
            for grid, name in ((uplinks, _UPLINK), (speeds, _SPEED))
        )
        place = looks[str(cell.first)]
        factor = float(str(cell.factor)) if cell.verdict == FIRST else np.inf
        colour = ink(shade(COLOURS[place % len(COLOURS)], factor))
        words = factor_text(factor) if isfinite(factor) else "only"
        shift = (0.2 if beside else 0.0, -0.17 if marked else 0.0)
        panel.text(
            column + shift[0],
            row + shift[1],
            words,
            ha="center",
            va="center_baseline",
            fontsize=text,
            color=colour,
        )
        if marked or beside:
            at = (column, row + 0.25) if marked else (column - 0.3, row)
            panel.plot(
                *at, MARKERS[place % len(MARKERS)], markersize=0.48 * text, color=colour, markeredgewidth=0
            )


def _borders(panel: Axes, who: pd.DataFrame) -> None:
    """Lines between cells of different methods."""
    grid = who.to_numpy()
    rows, columns = grid.shape
    for row in range(rows):
        for column in range(columns):
            if column + 1 < columns and grid[row, column] != grid[row, column + 1]:
                panel.plot([column + 0.5] * 2, [row - 0.5, row + 0.5], color=_EDGE, linewidth=1.4)
            if row + 1 < rows and grid[row, column] != grid[row + 1, column]:
                panel.plot([column - 0.5, column + 0.5], [row + 0.5] * 2, color=_EDGE, linewidth=1.4)


def _ticks(axis: object, values: NDArray[np.float64], most: int) -> None:
    """At cells, with the first and the last one and as many between as there is room for, evenly spaced."""
    step = next(step for step in range(1, len(values) + 1) if (len(values) - 1) // step + 1 <= most)
    fitting = [step for step in range(step, len(values)) if (len(values) - 1) % step == 0]
    step = fitting[0] if fitting and fitting[0] <= 2 * step else step
    shown = range(0, len(values), step)
    axis.set_ticks(list(shown), [f"{values[place]:.3g}" for place in shown])  # type: ignore[attr-defined]


def _lines(
    times: pd.DataFrame,
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    axis: str,
    target: float,
    size: Size,
) -> Figure:
    """Time to the target over one grid, of each method, above a strip of who is first."""
    figure = Figure(figsize=(size.width, 0.62 * size.width + 0.9), layout="constrained")
    panel, strip = figure.subplots(2, 1, height_ratios=[9, 1])
    times, _ = common_seeds(times)
    for method, place in looks.items():
        rows = times[times.method == method].pivot(index="seed", columns=axis, values="seconds")
        rows = rows.loc[:, rows.notna().all()]
        if rows.empty:
            continue
        logs = np.log(rows.to_numpy())
        x, colour = rows.columns.to_numpy(), COLOURS[place % len(COLOURS)]
        panel.plot(
            x,
            np.exp(logs.mean(axis=0)),
            color=colour,
            linestyle=LINES[place % len(LINES)],
            linewidth=1.4,
            marker=MARKERS[place % len(MARKERS)],
            markersize=3.2,
        )
        if len(logs) > 1:
            low, high = np.exp(bootstrap_interval(logs))
            panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)
    values = np.unique(decided[axis])
    edge = (values[1] / values[0]) ** 0.5 if len(values) > 1 else 2.0
    panel.set_xscale("log")
    panel.set_yscale("log")
    panel.set_xlim(values[0] / edge, values[-1] * edge)
    panel.set_ylabel(f"emulated seconds to accuracy {target:g}")
    panel.grid()
    panel.set_xlabel(_NAMES[axis])
    for column, cell in enumerate(decided.sort_values(axis).to_dict("records")):
        _fill(strip, column, 0, cell, looks)
    room = 72 * np.array([0.86 * size.width / len(values), 0.05 * size.width])
    other = np.unique(decided[_SPEED if axis == _UPLINK else _UPLINK])
    along = (values, other) if axis == _UPLINK else (other, values)
    if axis == _UPLINK:
        _numbers(strip, decided, looks, *along, room, size)
    else:
        turned = decided.rename(columns={_UPLINK: _SPEED, _SPEED: _UPLINK})
        _numbers(strip, turned, looks, values, other, room, size)
    strip.set_xlim(-0.5, len(values) - 0.5)
    strip.set_ylim(-0.5, 0.5)
    strip.set_ylabel("first", rotation=0, ha="right", va="center")
    for side in (strip.xaxis, strip.yaxis):
        side.set_major_locator(NullLocator())
    return figure


def _legend(
    figure: Figure, times: pd.DataFrame, decided: pd.DataFrame, looks: Mapping[str, int], target: float
) -> None:
    panel = figure.axes[0]
    heat = len(figure.axes) == 1
    approximate = set(times.method[times.how == APPROXIMATE])
    for method, place in looks.items():
        label = f"{method} (times approximate)" if method in approximate else method
        colour = COLOURS[place % len(COLOURS)]
        line = "none" if heat else LINES[place % len(LINES)]
        panel.plot(
            [],
            [],
            color=shade(colour, _STRONG_FACTOR) if heat else colour,
            label=label,
            linestyle=line,
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
        )
    for verdict, look in _OTHER_LOOKS.items():
        if (decided.verdict == verdict).any():
            panel.add_patch(
                Patch(label=look[0], facecolor=look[1], hatch=look[2], edgecolor="#6E6E6E", linewidth=0)
            )
    common_legend(figure, [panel], columns=4, title=explanation(decided, target))


_OTHER_LOOKS = {
    UNDECIDED: ("undecided", "#EDEDED", "////"),
    NONE: ("no method gets there", _NONE_COLOUR, ""),
    "unknown": ("not run yet", _UNKNOWN_COLOUR, "xx"),
}


def explanation(decided: pd.DataFrame, target: float) -> str:
    """What colours and numbers say, in one sentence or two."""
    seeds = int(decided.seeds.max())
    words = f"First to reach test accuracy {target:g}, and how many times longer the second takes"
    if (decided.verdict == ALONE).any():
        words += ' ("only": no other one gets there)'
    if seeds == 1:
        return f"{words}. One seed: no intervals."
    return f"{words}. Undecided: the bootstrap 95 % interval over {seeds} seeds includes 1."
