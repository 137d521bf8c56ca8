"""How energy, influence and accuracy are spread over clients."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.analysis.fairness import FORMATS, fairness, of_client_tests
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.measures import client_means, energy_sums
from fedmpi.analysis.report.content import Chart, Section, capital, limited, series, text
from fedmpi.analysis.report.learning import over
from fedmpi.analysis.report.thinning import joined, kept_of, points_each, spaced
from fedmpi.analysis.runs import AnalysisError, Run, table_of

Values = NDArray[np.float64]


def energy(groups: Sequence[Configuration]) -> Section:
    """Joules over time and over clients; why there are none where that is so."""
    rows, missing = [], []
    for label, run in _labelled(groups):
        try:
            total_j, unknown = _energy_of_clients(run)
        except AnalysisError:
            missing.append(_no_energy(run))
            continue
        known = total_j[np.isfinite(total_j)]
        figures = [known.mean(), np.median(known), known.max()] if known.size else [np.nan] * 3
        whole = text(float(total_j.sum()), "{:,.1f}", "J")
        rows.append(
            (
                label,
                whole,
                *(text(float(one), "{:,.2f}", "J") for one in figures),
                f"{unknown:,} of {total_j.size:,}",
            )
        )
    if not rows:
        return Section("energy", "Energy", (f"{capital(joined(missing))}.",))
    charts = (
        [over(groups, "time", "energy")]
        if all(" of" in row[-1] and row[-1][0] == "0" for row in rows)
        else []
    )
    charts.append(
        _distribution(
            groups,
            lambda run: _energy_of_clients(run)[0],
            "energy of a client in the whole run",
            "energy",
            "J",
        )
    )
    header = ("run", "all clients", "mean client", "median client", "highest client", "unknown")
    said = (
        "Of the emulated devices, from their powers; clients whose powers are unknown are left out of means."
    )
    remarks = (f"Of {len(missing):,} runs: {joined(missing)}.",) if missing else ()
    drawn = tuple(chart for chart in charts if chart.series)
    return Section("energy", "Energy", (said, *remarks), drawn, (limited(header, rows),))


def fair(groups: Sequence[Configuration]) -> Section:
    """How even clients' contributions and accuracies are: distributions, Gini's coefficient, Jain's index."""
    charts = [
        _distribution(
            groups, _relative_contributions, "entries used of a client / mean over clients", "contribution"
        ),
        _distribution(groups, _accuracies, "test accuracy of a client, last test", "accuracy"),
    ]
    rows = []
    tests = []
    for label, run in _labelled(groups):
        found = fairness(run.trace)
        rows.append((label, *(text(found[name], FORMATS[name]) for name in FORMATS)))
        measured = of_client_tests(run.trace)
        if measured:
            accuracies = _accuracies(run)
            tested = (
                *measured,
                float(np.median(accuracies)),
                float(accuracies.min()),
                float(accuracies.max()),
            )
            tests.append((label, f"{accuracies.size:,}", *(text(value, "{:.4f}") for value in tested)))
    said = [
        "Entries used: values of a client's update that went into what the server sent back, mean over its rounds. "
        "Gini: 0 all the same, towards 1 one alone. Jain: 1 all the same. Zero share: rounds in which nothing was used."
    ]
    names = ("run", *(name.replace("_", " ") for name in FORMATS))
    tables = [limited(names, rows, "entries used")]
    if tests:
        header = ("run", "tested clients", "worst tenth", "Gini", "median", "lowest", "highest")
        tables.append(limited(header, tests, "test accuracy of clients"))
    else:
        said.append("Accuracy per client was not measured (experiment.evaluate_clients = true does).")
    drawn = tuple(chart for chart in charts if chart.series)
    return Section("fairness", "Fairness", tuple(said), drawn, tuple(tables))


def _labelled(groups: Sequence[Configuration]) -> list[tuple[str, Run]]:
    """All runs, with the label of their configuration, and the seed where it has several."""
    return [
        (f"{label}, seed {run.seed}" if len(group.runs) > 1 else label, run)
        for group, label in zip(groups, labels(groups), strict=True)
        for run in group.runs
    ]


def _energy_of_clients(run: Run) -> tuple[Values, int]:
    """Joules of each client that took part (n,), NaN where they are not known, and how many those are."""
    total_j = energy_sums(run.trace).by_client.energy_j
    return total_j, int(np.isnan(total_j).sum())


def _no_energy(run: Run) -> str:
    """Why a trace has no energy."""
    if run.settings.get("emulation.energy.on"):
        return "energy was asked for, but is unknown of every client: the powers of their devices are not all known"
    return "energy was not recorded (emulation.energy.on = true does)"


def _relative_contributions(run: Run) -> Values:
    means = client_means(run.trace)
    if not means.any():
        raise AnalysisError(f"{run.trace.path}: nothing of any client was used")
    relative: Values = means / means.mean()
    return relative


def _accuracies(run: Run) -> Values:
    tests = table_of(run.trace, "client_tests")
    last = tests["accuracy"][tests["round"] == tests["round"].max()].dropna()
    return last.to_numpy(np.float64)


def _distribution(
    groups: Sequence[Configuration],
    values_of: Callable[[Run], Values],
    x_title: str,
    title: str,
    unit: str = "",
) -> Chart:
    """The share of clients, of all seeds, at or below each value; a line for each configuration."""
    lines, notes = [], []
    most = points_each(len(groups))
    for place, (group, label) in enumerate(zip(groups, labels(groups), strict=True)):
        try:
            values = np.concatenate([values_of(run) for run in group.runs])
        except AnalysisError as error:
            notes.append(str(error))
            continue
        known = np.sort(values[np.isfinite(values)])
        if known.size < values.size:
            notes.append(f"{label}: unknown of {values.size - known.size:,} of {values.size:,} clients")
        if not known.size:
            continue
        kept = spaced(known.size, most)
        notes.append(kept_of(len(kept), known.size, "clients", "evenly by their rank"))
        share = (kept + 1) / known.size
        lines.append(
            series(label, place, np.append(known[0], known[kept]), np.append(0.0, share), steps=True)
        )
    return Chart(
        f"distribution of {title} over clients",
        "lines",
        x_title,
        "share of clients",
        tuple(lines),
        x_unit=unit,
        note=joined(notes),
    )
