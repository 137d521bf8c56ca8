"""Where emulated time goes, by configuration, round, device and client; and how fast all this went here."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmpi.analysis.client_sums import sums_of
from fedmpi.analysis.groups import Configuration, labels
from fedmpi.analysis.looks import PARTS
from fedmpi.analysis.measures import mean_parts
from fedmpi.analysis.report.content import PART_STYLES, Chart, Section, Series, limited, text
from fedmpi.analysis.report.learning import over
from fedmpi.analysis.report.thinning import MOST_CLIENTS, blocks, joined, kept_of, numbers, spaced
from fedmpi.analysis.runs import Run
from fedmpi.numerics.quantities import duration

_Y = "seconds of a participant"


def time_use(groups: Sequence[Configuration], chosen: Sequence[Run]) -> Section:
    """What a participant does in a round, in emulated seconds: means over the participants of ..."""
    federated = [group for group in groups if all(sums_of(run.trace).federated for run in group.runs)]
    names = [name for group, name in zip(groups, labels(groups), strict=True) if group in federated]
    charts = []
    if len(federated) > 1:
        means = np.array([np.mean([mean_parts(run) for run in group.runs], axis=0) for group in federated])
        charts.append(_lying("by configuration, mean over rounds", names, means))
    for place, run in enumerate(chosen):
        if len(sums_of(run.trace).client):
            charts += [_by_round(run, place), _by_device(run, place), _by_client(run, place)]
    said = "What a participant does in a round: means over participants, in emulated seconds."
    return Section("time", "Where the time goes", (said,), tuple(charts))


def host_speed(groups: Sequence[Configuration]) -> Section:
    """Host seconds of a round, and what that makes of a run."""
    rows = []
    for group, name in zip(groups, labels(groups), strict=True):
        for run in group.runs:
            rounds = run.trace.rounds
            host_s = float(rounds.host_s.sum())
            speed = run.end_s / host_s if host_s > 0 else float("nan")
            per_s = len(rounds) / host_s if host_s > 0 else float("nan")
            known = run.trace.attributes
            where = f"{known['host']} ({known['ranks']} rank{'s' if known['ranks'] > 1 else ''})"
            rows.append(
                (
                    name,
                    str(run.seed),
                    duration(host_s),
                    text(per_s),
                    text(speed),
                    where,
                    str(known["mpi_library"]),
                )
            )
    header = ("configuration", "seed", "in all rounds", "rounds per host s", "emulated s per host s")
    table = limited((*header, "host of rank 0", "MPI"), rows, numbers_from=2)
    chart = over(groups, "round", "host_s")
    said = "Seconds on the machine that emulated, not those of the devices; the rest of the page is emulated time."
    return Section("host", "Host speed", (said,), (chart,) if chart.series else (), (table,))


def _by_round(run: Run, place: int) -> Chart:
    rounds, sums = run.trace.rounds["round"].to_numpy(), sums_of(run.trace).by_round
    grouped, counts = blocks(len(rounds)), sums.rows
    rows = [
        grouped.mean(np.divide(part_s, counts, out=np.full(len(rounds), np.nan), where=counts > 0))
        for part_s in sums.part_s
    ]
    x = numbers(rounds[grouped.starts])
    note = f"bars are means of {grouped.length:,} rounds" if grouped.length > 1 else ""
    return Chart("by round", "bars", "round", _Y, _parts(x, rows), unit="s", run=place, note=note)


def _by_device(run: Run, place: int) -> Chart:
    """Means over all rounds of all clients that are the same device."""
    means = _client_means(run)
    devices = (
        run.trace.devices.set_index("client")["device"].reindex(means.index).fillna("device not recorded")
    )
    weighted = means[list(PARTS)].mul(means["rounds"], axis=0).assign(rounds=means["rounds"])
    sums = weighted.groupby(devices.to_numpy(), sort=True).sum()
    clients = devices.value_counts()
    values = sums[list(PARTS)].div(sums["rounds"], axis=0)
    values = values.loc[values.sum(axis=1).sort_values(kind="stable", ascending=False).index]
    names = [f"{name} ({_count(int(clients[name]), 'client')})" for name in values.index]
    kept = spaced(len(names), MOST_CLIENTS)
    chart_values = values.to_numpy()[kept]
    note = kept_of(len(kept), len(names), "devices", "evenly by the sum of their times")
    return _lying("by device", [names[at] for at in kept], chart_values, place, note)


def _by_client(run: Run, place: int) -> Chart:
    means = _client_means(run)
    busy = means[["download_s", "compute_s", "upload_s"]].sum(axis=1)
    kept = spaced(len(means), MOST_CLIENTS)
    if len(kept) < len(means):
        means = means.iloc[np.argsort(busy.to_numpy(), kind="stable")[kept]]
    note = kept_of(len(kept), len(busy), "clients", "evenly by what they take until their update is there")
    return _lying(
        "by client",
        [f"client {client}" for client in means.index],
        means[list(PARTS)].to_numpy(),
        place,
        note,
    )


def _client_means(run: Run) -> pd.DataFrame:
    """For each client that took part the mean seconds of each part and its number of rounds, in client order."""
    sums = sums_of(run.trace)
    rows = sums.by_client.rows
    parts = dict(zip(PARTS, sums.by_client.part_s, strict=True))
    return pd.DataFrame(parts, index=sums.client).div(rows, axis=0).assign(rounds=rows)


def _lying(
    title: str, names: Sequence[str], values: NDArray[np.float64], run: int | None = None, note: str = ""
) -> Chart:
    """Bars for names, of ``values`` (names, 4), in seconds."""
    parts = _parts(list(names), list(values.T))
    return Chart(title, "bars", "", _Y, parts, unit="s", lying=True, run=run, note=joined([note]))


def _parts(x: Sequence[object], rows: Sequence[NDArray[np.float64]]) -> tuple[Series, ...]:
    return tuple(
        Series(name, style, list(x), numbers(values))
        for name, style, values in zip(PARTS.values(), PART_STYLES, rows, strict=True)
    )


def _count(number: int, what: str) -> str:
    """With a space at which a line is not broken."""
    return f"{number:,}\N{NO-BREAK SPACE}{what}{'' if number == 1 else 's'}"
