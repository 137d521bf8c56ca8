"""What was measured over time, rounds, bytes or energy, of one run and of several seeds together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmpi.analysis.groups import Configuration
from fedmpi.analysis.looks import BANDS
from fedmpi.analysis.measures import bytes_so_far, energy_so_far
from fedmpi.analysis.runs import AnalysisError, Run
from fedmpi.trace import Trace

_GRID_POINTS = 300

Curve = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Places (n,), ascending, and what was measured there (n,), both float64."""

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
    "host_s": ("host seconds of a round", lambda trace: trace.rounds.host_s),
}
STEPS = ("k", "density")
UNITS = {"bytes": "B", "energy": "J"}


def together(curves: Sequence[Curve], steps: bool = False) -> Curve:
    """Curves of several seeds at the places that all of them have reached: (places,) and (seeds, places).

    Between its places a curve is linear, or keeps its last value (``steps``). Places that all have in common stay.
    """
    first = curves[0][0]
    if all(np.array_equal(first, places) for places, _ in curves):
        return first, np.array([values for _, values in curves])
    start = max(float(places[0]) for places, _ in curves)
    end = min(float(places[-1]) for places, _ in curves)
    grid = np.linspace(start, max(start, end), _GRID_POINTS)

    def at(places: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
        if not steps:
            return np.interp(grid, places, values)
        return values[np.maximum(np.searchsorted(places, grid, side="right") - 1, 0)]

    return grid, np.array([at(places, values) for places, values in curves])


def curve(run: Run, x: str, y: str) -> Curve:
    """What was measured of ``y`` in one run, over ``x``. AnalysisError where nothing was."""
    name, values_of = QUANTITIES[y]
    measured = values_of(run.trace).dropna()
    if measured.empty:
        evaluated = y == "loss" and run.trace.rounds.test_accuracy.notna().any()
        problem = "is not a number in any round, the model diverged" if evaluated else "was never measured"
        raise AnalysisError(f"{run.trace.path}: {name} {problem}")
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
