"""The picture of a map: who is first at each point of link rates and device speeds, and by what factor.

Over two grids a heat map, over one of them lines of the time to the target above a strip of who is first.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from fedmpi.analysis.drawing import COLOURS, LINES, SIZES, Size, common_legend
from fedmpi.analysis.map_cells import (
    HATCH_COLOUR,
    MARKERS,
    OTHER_LOOKS,
    STRONG_FACTOR,
    Cell,
    draw_borders,
    draw_cells,
    shade,
)
from fedmpi.analysis.statistics import bootstrap_interval
from fedmpi.analysis.winners import ALONE, APPROXIMATE, POINT, common_seeds

_UPLINK, _, _SPEED = POINT
_NAMES = {_UPLINK: "uplink (Mbit/s)", _SPEED: "relative speed of devices"}
_TICK_CHARACTERS, _MOST_MARKERS = 5.0, 16
_AROUND = 1.2
"""Room above and below lines, as a factor."""
_MARGIN_INCHES, _BELOW_INCHES = 0.6, 0.9
"""What axis labels and ticks take of the width, and these and the legend of the height, about."""


def draw(
    times: pd.DataFrame,
    decided: pd.DataFrame,
    target: float,
    size: Size = SIZES["page"],
    title: str = "",
) -> Figure:
    """The map of ``decided = winners.winners(times)``.

    Methods have the colours and markers of their order in ``times``.
    """
    looks = {method: place for place, method in enumerate(dict.fromkeys(times.method))}
    uplinks, speeds = np.unique(decided[_UPLINK]), np.unique(decided[_SPEED])
    heat = min(len(uplinks), len(speeds)) > 1
    if heat:
        figure = _heat_map(decided, looks, uplinks, speeds, size)
    else:
        axis = _SPEED if len(speeds) > 1 else _UPLINK
        figure = _lines(times, decided, looks, axis, target, size)
    _legend(figure, times, decided, looks, heat, explanation(decided, target, heat))
    if title:
        figure.suptitle(title)
    return figure


def explanation(decided: pd.DataFrame, target: float, heat: bool = True) -> str:
    """What colours, numbers and lines say."""
    seeds = int(decided.seeds.max())
    interval = "bootstrap 95\N{NO-BREAK SPACE}% interval"
    words = "" if heat or seeds == 1 else f"Lines: geometric means over seeds, with the {interval}. "
    words += f"First to reach test accuracy {target:g}, and how many times longer the second takes"
    if (decided.verdict == ALONE).any():
        words += ' ("only": no other one gets there)'
    if seeds == 1:
        return f"{words}. One seed: no intervals."
    return f"{words}. Undecided: the {interval} over {seeds} seeds includes 1."


def _heat_map(
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    uplinks: NDArray[np.float64],
    speeds: NDArray[np.float64],
    size: Size,
) -> Figure:
    share = min(0.72, max(0.34, 0.7 * len(speeds) / len(uplinks)))
    height = size.width * share
    figure = Figure(figsize=(size.width, height + _BELOW_INCHES), layout="constrained")
    panel = figure.add_subplot()
    cells = []
    for row in decided.to_dict("records"):
        column, line = np.searchsorted(uplinks, row[_UPLINK]), np.searchsorted(speeds, row[_SPEED])
        cells.append(Cell.of((column - 0.5, column + 0.5, line - 0.5, line + 0.5), row))
    width = size.width - _MARGIN_INCHES
    room = (72 * width / len(uplinks), 72 * (height - 0.2) / len(speeds))
    draw_cells(panel, cells, looks, room, size.text)
    draw_borders(panel, cells)
    panel.set_xlim(-0.5, len(uplinks) - 0.5)
    panel.set_ylim(-0.5, len(speeds) - 0.5)
    _ticks(panel.xaxis, uplinks, most=int(72 * width / (_TICK_CHARACTERS * size.text)))
    _ticks(panel.yaxis, speeds, most=int(72 * height / (2 * size.text)))
    panel.set_xlabel(_NAMES[_UPLINK])
    panel.set_ylabel(_NAMES[_SPEED])
    return figure


def _ticks(axis: Axis, values: NDArray[np.float64], most: int) -> None:
    """At the first cell and evenly spaced ones, if possible up to the last, at most so many."""
    last = len(values) - 1
    least = max(1, -(-last // max(most - 1, 1)))
    to_the_last = [step for step in range(least, 2 * least + 1) if last % step == 0]
    shown = range(0, len(values), to_the_last[0] if to_the_last else least)
    axis.set_ticks(list(shown), [f"{values[place]:.3g}" for place in shown])


def _lines(
    times: pd.DataFrame,
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    axis: str,
    target: float,
    size: Size,
) -> Figure:
    """Time to the target over one grid, of each method, above a strip of who is first."""
    figure = Figure(figsize=(size.width, 0.62 * size.width + _BELOW_INCHES), layout="constrained")
    panel, strip = figure.subplots(2, 1, height_ratios=[10, 1], sharex=True)
    times, _ = common_seeds(times)
    panel.set_xscale("log")
    panel.set_yscale("log")
    if times.seconds.notna().any():
        panel.set_ylim(times.seconds.min() / _AROUND, times.seconds.max() * _AROUND)
    values = np.unique(decided[axis])
    for method, place in looks.items():
        rows = times[times.method == method].pivot(index="seed", columns=axis, values="seconds")
        _line(panel, rows.loc[:, rows.notna().all()], place, len(values))
    edges = _edges(values)
    panel.set_ylabel(f"emulated seconds to accuracy {target:g}")
    panel.grid()
    cells = [
        Cell.of((left, right, 0.0, 1.0), row)
        for left, right, row in zip(
            edges, edges[1:], decided.sort_values(axis).to_dict("records"), strict=False
        )
    ]
    room = (72 * (size.width - _MARGIN_INCHES) / len(values), 72 * 0.05 * size.width)
    draw_cells(strip, cells, looks, room, size.text, log_x=True)
    draw_borders(strip, cells)
    strip.set_xlim(edges[0], edges[-1])
    strip.set_ylim(0.0, 1.0)
    strip.set_ylabel("first", rotation=0, ha="right", va="center")
    strip.set_xlabel(_NAMES[axis])
    strip.yaxis.set_major_locator(NullLocator())
    return figure


def _line(panel: Axes, seconds: pd.DataFrame, place: int, points: int) -> None:
    """One method's times: ``seconds`` has a row for each seed, a column for each point that all of them have."""
    if seconds.empty:
        return
    logs, x = np.log(seconds.to_numpy()), seconds.columns.to_numpy()
    colour = COLOURS[place % len(COLOURS)]
    panel.plot(
        x,
        np.exp(logs.mean(axis=0)),
        color=colour,
        linestyle=LINES[place % len(LINES)],
        linewidth=1.4,
        marker=MARKERS[place % len(MARKERS)],
        markersize=3.2,
        markevery=-(-points // _MOST_MARKERS),
    )
    if len(logs) > 1:
        low, high = np.exp(bootstrap_interval(logs))
        panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0)


def _edges(values: NDArray[np.float64]) -> list[float]:
    """Where the cells of values of a logarithmic axis begin and end: half way between neighbours."""
    if len(values) == 1:
        return [float(values[0]) / 2, float(values[0]) * 2]
    between = np.sqrt(values[1:] * values[:-1]).tolist()
    first, last = sqrt(values[1] / values[0]), sqrt(values[-1] / values[-2])
    return [float(values[0]) / first, *between, float(values[-1]) * last]


def _legend(
    figure: Figure,
    times: pd.DataFrame,
    decided: pd.DataFrame,
    looks: Mapping[str, int],
    heat: bool,
    words: str,
) -> None:
    panel = figure.axes[0]
    approximate = set(times.method[times.how == APPROXIMATE])
    for method, place in looks.items():
        colour = COLOURS[place % len(COLOURS)]
        panel.plot(
            [],
            [],
            color=shade(colour, STRONG_FACTOR) if heat else colour,
            label=f"{method} (times approximate)" if method in approximate else method,
            linestyle="none" if heat else LINES[place % len(LINES)],
            marker=MARKERS[place % len(MARKERS)],
            markersize=5,
        )
    for verdict, (label, colour, hatch) in OTHER_LOOKS.items():
        if (decided.verdict == verdict).any():
            panel.fill_between(
                [], [], label=label, facecolor=colour, hatch=hatch, edgecolor=HATCH_COLOUR, linewidth=0
            )
    common_legend(figure, [panel], columns=4, title=words)
