"""Figures of other kinds than lines: where time goes, one round as a Gantt chart, distributions over clients.

Each takes configurations (runs that differ in their seeds alone) and gives a figure; AnalysisError where their traces
do not have what it shows. ``fedmpi plot --kind`` is the command.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from fedmpi.analysis.drawing import SIZES, Size, common_legend
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.looks import COLOURS, HATCHES, PARTS, WAIT, Styles
from fedmpi.analysis.measures import client_energies, client_means, mean_parts
from fedmpi.analysis.runs import AnalysisError, Run, table_of

_PARTS_LOOK = dict(zip(PARTS, zip((*COLOURS[:3], WAIT), HATCHES, strict=False), strict=True))
_BAR_INCHES, _LEAST_BARS, _MOST_BARS = 0.24, 4, 36
_MEAN_LINE = "#777777"


def breakdown(groups: Sequence[Configuration], size: Size = SIZES["page"]) -> Figure:
    """A bar for each configuration: what a participant does in a federated round, in seconds.

    Means over rounds and participants, then over seeds; the four parts are the whole round.
    """
    figure, panel = _bars(size, len(groups))
    shares = np.array([np.mean([mean_parts(run) for run in group.runs], axis=0) for group in groups])
    starts = np.zeros(len(groups))
    for (column, name), seconds in zip(PARTS.items(), shares.T, strict=True):
        colour, hatch = _PARTS_LOOK[column]
        panel.barh(
            range(len(groups)),
            seconds,
            left=starts,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.4,
            height=0.7,
            label=name,
        )
        starts += seconds
    for label in panel.set_yticks(range(len(groups)), labels(groups)):
        label.label1.set_parse_math(False)
    panel.set_xlabel("emulated seconds of a participant in a round")
    panel.grid(axis="x")
    common_legend(figure, [panel], columns=4)
    return figure


def gantt(
    groups: Sequence[Configuration], size: Size = SIZES["page"], round_index: int | None = None
) -> Figure:
    """One round of one run (None: its last): when each participant downloads, computes, uploads and waits.

    Participants whose update was not accepted have their status beside their number.
    """
    runs = [run for group in groups for run in group.runs]
    if len(runs) != 1:
        raise AnalysisError(f"a Gantt chart is of one run, found {len(runs)}; name one run folder or trace")
    trace = runs[0].trace
    clients = table_of(trace, "clients")
    round_index = int(clients["round"].iloc[-1]) if round_index is None else round_index
    rows = clients[clients["round"] == round_index].sort_values("client")
    if rows.empty:
        known = clients["round"]
        raise AnalysisError(
            f"{trace.path}: round {round_index} has no participants; recorded: {known.min()} to {known.max()}"
        )
    start_s = float(trace.rounds.start_s[trace.rounds["round"] == round_index].iloc[0])
    figure, panel = _bars(size, len(rows))
    places = np.arange(len(rows))
    starts = np.full(len(rows), start_s)
    for column, name in PARTS.items():
        colour, hatch = _PARTS_LOOK[column]
        seconds = rows[column].to_numpy()
        panel.barh(
            places,
            seconds,
            left=starts,
            color=colour,
            hatch=hatch,
            edgecolor="white",
            linewidth=0.3,
            height=0.8,
            label=name,
        )
        starts = starts + seconds
    names = [
        str(client) if status == "ok" else f"{client} ({status})"
        for client, status in zip(rows.client, rows.status, strict=True)
    ]
    if len(names) <= _MOST_BARS:
        panel.set_yticks(places, names)
    else:
        shown = [int(place) for place in MaxNLocator(integer=True).tick_values(0, len(names) - 1)]
        shown = [place for place in shown if 0 <= place < len(names)]
        panel.set_yticks(shown, [names[place] for place in shown])
    panel.set(xlabel=f"emulated time (s), round {round_index}", ylabel="client")
    panel.set_xlim(start_s, float(starts.max()))
    panel.grid(axis="x")
    common_legend(figure, [panel], columns=4)
    return figure


def energy(groups: Sequence[Configuration], size: Size = SIZES["page"]) -> Figure:
    """How the energy of the whole run is spread over clients, those of all seeds together.

    Of clients with devices whose powers are not all known the legend says how many are left out.
    """
    name = "energy of a client in the whole run (J)"
    return _distribution(groups, lambda run: client_energies(run.trace), name, size)


def client_accuracy(
    groups: Sequence[Configuration], size: Size = SIZES["page"], round_index: int | None = None
) -> Figure:
    """How test accuracy is spread over clients after a round (None: the last tested one), of all seeds together."""

    def of_clients(run: Run) -> NDArray[np.float64]:
        tests = table_of(run.trace, "client_tests")
        last = int(tests["round"].max()) if round_index is None else round_index
        found = tests.accuracy[tests["round"] == last].dropna().to_numpy(np.float64)
        if not found.size:
            raise AnalysisError(f"{run.trace.path}: no client was tested after round {last}")
        return found

    return _distribution(groups, of_clients, "test accuracy of a client", size)


def contributions(groups: Sequence[Configuration], size: Size = SIZES["page"]) -> Figure:
    """How evenly clients contribute: entries used of each, relative to the run's mean client, of all seeds together."""

    def of_clients(run: Run) -> NDArray[np.float64]:
        means = client_means(run.trace)
        if not means.any():
            raise AnalysisError(f"{run.trace.path}: nothing of any client was used, there is nothing to draw")
        return means / means.mean()

    figure = _distribution(groups, of_clients, "entries used of a client / mean over clients", size)
    figure.axes[0].axvline(1.0, color=_MEAN_LINE, linewidth=0.8, linestyle=":")
    return figure


Kind = Callable[..., Figure]
KINDS: dict[str, Kind] = {
    "breakdown": breakdown,
    "gantt": gantt,
    "energy": energy,
    "client-accuracy": client_accuracy,
    "contributions": contributions,
}
OF_A_ROUND = ("gantt", "client-accuracy")
"""Kinds that take a round."""


def _distribution(
    groups: Sequence[Configuration], values_of: Callable[[Run], NDArray[np.float64]], name: str, size: Size
) -> Figure:
    """The cumulative distribution of ``values_of`` all runs of each configuration, where they are not NaN.

    The label says of how many clients they are. AnalysisError where they are of all.
    """
    figure = Figure(figsize=(size.width, 0.7 + max(1.9, 0.4 * size.width)), layout="constrained")
    panel = figure.subplots()
    style = Styles()
    for group, label in zip(groups, labels(groups), strict=True):
        colour, line = style(label)
        values = np.concatenate([values_of(run) for run in group.runs])
        unknown = np.isnan(values)
        if unknown.all():
            raise AnalysisError(f"{label}: {name} is not known of any of {values.size} clients")
        if unknown.any():
            label += f" (unknown of {unknown.sum()} of {values.size} clients)"
        panel.ecdf(values[~unknown], label=label, color=colour, linestyle=line, linewidth=1.5)
    panel.set(xlabel=name, ylabel="share of clients", ylim=(0.0, 1.02))
    panel.grid()
    common_legend(figure, [panel], columns=3)
    return figure


def _bars(size: Size, count: int) -> tuple[Figure, Axes]:
    """A figure for so many horizontal bars, the first one on top."""
    height = 0.8 + _BAR_INCHES * min(max(count, _LEAST_BARS), _MOST_BARS)
    figure = Figure(figsize=(size.width, height), layout="constrained")
    panel = figure.subplots()
    panel.set_ylim(count - 0.5, -0.5)
    panel.set_axisbelow(True)
    return figure, panel
