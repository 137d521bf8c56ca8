"""What was learned, and what was sent and pruned meanwhile: lines over time, rounds and bytes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from fedmpi.analysis.curves import AXES, QUANTITIES, STEPS, UNITS, curve, meaning, together
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.report.content import Chart, Section, Series, capital, series
from fedmpi.analysis.report.thinning import (
    MOST_BAND_POINTS,
    extremes,
    joined,
    kept_of,
    numbers,
    points_each,
)
from fedmpi.analysis.runs import AnalysisError, Run
from fedmpi.analysis.statistics import bootstrap_interval

_OVER = {"time": "emulated time", "round": "rounds", "bytes": "bytes", "energy": "energy"}
"""Names of axes in titles."""
_HIGHS_AND_LOWS = "the highest and lowest of every stretch"


def accuracy(groups: Sequence[Configuration]) -> Section:
    """Test accuracy over time, rounds, bytes, and energy where that is known; losses over rounds."""
    axes = [axis for axis in AXES if axis != "energy" or _known(groups, "energy")]
    charts = [over(groups, axis, "accuracy") for axis in axes]
    charts += [over(groups, "round", loss) for loss in ("loss", "train_loss")]
    return _section("accuracy", "Accuracy and loss", groups, charts)


def sent(groups: Sequence[Configuration], chosen: Sequence[Run]) -> Section:
    """k and density over rounds, and the density of each layer where there are masks."""
    charts = [over(groups, "round", quantity) for quantity in ("k", "density")]
    text = [_constant(chart) for chart in charts]
    varying = [chart for chart, constant in zip(charts, text, strict=True) if not constant]
    layers = [chart for place, run in enumerate(chosen) if (chart := _layers(run, place))]
    return _section("sent", "k and density", groups, [*varying, *layers], tuple(filter(None, text)))


def over(groups: Sequence[Configuration], x: str, y: str) -> Chart:
    """A line for each configuration, the mean over its seeds, with a bootstrap band where there are several."""
    lines: list[Series] = []
    notes: list[str] = []
    most = points_each(len(groups))
    for place, (group, label) in enumerate(zip(groups, labels(groups), strict=True)):
        curves = []
        for run in group.runs:
            try:
                curves.append(curve(run, x, y))
            except AnalysisError as error:
                notes.append(str(error))
        if not curves:
            continue
        places, values = together(curves, y in STEPS)
        mean = values.mean(axis=0)
        kept = extremes(mean, most if len(curves) == 1 else min(most, MOST_BAND_POINTS))
        notes.append(kept_of(len(kept), len(mean), "points of a line", _HIGHS_AND_LOWS))
        band = bootstrap_interval(values[:, kept]) if len(curves) > 1 else ((), ())
        lines.append(series(label, place, places[kept], mean[kept], *band, steps=y in STEPS))
    (x_title, _), (y_title, _) = AXES[x], QUANTITIES[y]
    return Chart(
        title=f"{y_title.partition(' (')[0]} over {_OVER[x]}",
        kind="lines",
        x_title=x_title,
        y_title=y_title,
        series=tuple(lines),
        x_unit=UNITS.get(x, ""),
        unit=UNITS.get(y, ""),
        note=joined(notes),
    )


def _section(
    name: str,
    title: str,
    groups: Sequence[Configuration],
    charts: Sequence[Chart],
    text: tuple[str, ...] = (),
) -> Section:
    drawn = tuple(chart for chart in charts if chart.series)
    missing = tuple(chart.note for chart in charts if not chart.series and chart.note)
    seeds = meaning(groups, "ci") if drawn else ""
    seeds = f"{seeds[:1].upper()}{seeds[1:]}." if seeds else ""
    return Section(name, title, tuple(filter(None, (*text, *missing, seeds))), drawn)


def _constant(chart: Chart) -> str:
    """What is to be said instead of a chart of lines that never change; "" where one of them does."""
    values = {line.name: set(line.y) for line in chart.series}
    if not values or any(len(found) > 1 for found in values.values()):
        return ""
    firsts = {name: f"{found.pop():,.6g}" for name, found in values.items()}
    if len(set(firsts.values())) == 1:
        return f"{capital(chart.y_title)}: {next(iter(firsts.values()))} in every round."
    each = "; ".join(f"{name}: {value}" for name, value in firsts.items())
    return f"{capital(chart.y_title)} in every round: {each}."


def _layers(run: Run, place: int) -> Chart | None:
    """The density of each layer after every change of the mask; None where the mask never changed."""
    layers = run.trace.layers
    if layers["round"].nunique() < 2:
        return None
    last = int(run.trace.rounds["round"].iloc[-1])
    lines = []
    for number, (name, rows) in enumerate(layers.groupby("layer", observed=True)):
        rounds = [*rows["round"], last]
        density = (rows["active"] / rows["total"]).to_numpy(np.float64)
        kept = extremes(np.append(density, density[-1]), points_each(layers["layer"].nunique()))
        lines.append(
            Series(
                str(name),
                number,
                numbers(np.array(rounds)[kept]),
                numbers(np.append(density, density[-1])[kept]),
                steps=True,
            )
        )
    title = "active parameters of each layer"
    return Chart(title, "lines", "round", "active / all", tuple(lines), run=place)


def _known(groups: Sequence[Configuration], axis: str) -> bool:
    """Whether an axis is known in all rounds of all runs that were evaluated."""
    try:
        return all(np.isfinite(AXES[axis][1](run.trace)).all() for group in groups for run in group.runs)
    except AnalysisError:
        return False
