"""Rounds as Gantt charts, and whose updates did not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.analysis.looks import PARTS
from fedmpi.analysis.report.content import PART_STYLES, Chart, Section, Series, Table, limited
from fedmpi.analysis.report.thinning import (
    MOST_CLIENTS,
    MOST_GANTT_ROWS,
    MOST_ROUNDS,
    blocks,
    joined,
    kept_of,
    numbers,
    spaced,
)
from fedmpi.analysis.runs import Run

STATUSES = {"late": 4, "dropped": 1, "rejected": 3, "lost": 6}
"""What else than "ok" becomes of a participant -> its place in the palette."""

_MEANINGS = {
    "late": "late: its update came after the round had closed",
    "dropped": "dropped: it vanished",
    "rejected": "rejected: its update was not finite",
    "lost": "lost: nothing came of it",
}
_MOST_NAMED = 10


def one_round(chosen: Sequence[Run]) -> Section:
    """The Gantt chart of a round, which the page lets one choose, for each run."""
    charts = [_gantt(run, place, len(chosen)) for place, run in enumerate(chosen) if len(run.trace.clients)]
    text = "When each participant downloads, computes, uploads and waits, in one round of one run."
    return Section(
        "round", "One round", (text,) if charts else ("No round has participants.",), tuple(charts)
    )


def not_accepted(runs: Sequence[tuple[str, Run]], chosen: Sequence[Run]) -> Section:
    """Participants that were late, dropped, rejected or lost: over rounds, in sum, and the clients that were so most.

    ``runs`` are all runs with their labels.
    """
    rows = [row for label, run in runs if (row := _counts(label, run))]
    if not rows:
        updates = sum(len(run.trace.clients) for _, run in runs)
        return Section("late", "Late and dropped", (f"All {updates:,} updates were accepted.",))
    named = [
        status for status in STATUSES if any(row[2 + list(STATUSES).index(status)] != "0" for row in rows)
    ]
    text = "; ".join(_MEANINGS[status] for status in named)
    charts = [chart for place, run in enumerate(chosen) if (chart := _over_rounds(run, place))]
    tables = [limited(("run", "participants", *STATUSES, "share not accepted"), rows)]
    if len(runs) == 1:
        tables.append(_most_often(runs[0][1]))
    return Section(
        "late", "Late and dropped", (f"{text[:1].upper()}{text[1:]}.",), tuple(charts), tuple(tables)
    )


def _gantt(run: Run, place: int, runs: int) -> Chart:
    clients, rounds = run.trace.clients, run.trace.rounds
    order, starts = _rows_of_rounds(clients["round"].to_numpy(), rounds["round"].to_numpy())
    there = np.flatnonzero(np.diff(starts))  # rounds with participants
    budget = MOST_GANTT_ROWS // runs
    widest = int(np.diff(starts).max())
    most_clients = max(4, min(widest, MOST_CLIENTS, budget // 10))
    kept = there[spaced(len(there), min(MOST_ROUNDS, max(2, budget // most_clients)))]
    columns = {name: clients[name].to_numpy() for name in ("client", *PARTS, "bytes_up", "bytes_down")}
    statuses = clients["status"].cat.codes.to_numpy()
    devices = run.trace.devices
    names = sorted(devices["device"].unique()) if len(devices) else []
    places = devices["device"].map({name: at for at, name in enumerate(names)})
    device_of = dict(zip(devices["client"], places, strict=True))
    shown = []
    for at in kept:
        rows = order[starts[at] : starts[at + 1]]
        shown.append(
            _round(rows, columns, statuses, most_clients, device_of)
            | {
                "round": int(rounds["round"].iloc[at]),
                "start_s": numbers([rounds["start_s"].iloc[at]])[0],
                "end_s": numbers([rounds["end_s"].iloc[at]])[0],
                "participants": len(rows),
            }
        )
    note = joined(
        [
            kept_of(len(kept), len(there), "rounds", "evenly, the first and the last among them"),
            f"of a round at most {most_clients} participants are shown, evenly by when they were done"
            if most_clients < widest
            else "",
        ]
    )
    return Chart(
        title="Gantt chart of a round",
        kind="gantt",
        x_title="seconds since the round began",
        y_title="",
        unit="s",
        series=tuple(
            Series(name, style, (), ()) for name, style in zip(PARTS.values(), PART_STYLES, strict=True)
        ),
        rounds=tuple(shown),
        devices=tuple(map(str, names)),
        run=place,
        note=note,
    )


def _round(
    rows: NDArray[np.int64],
    columns: dict[str, NDArray[Any]],
    statuses: NDArray[np.int8],
    most: int,
    device_of: dict[int, int],
) -> dict[str, Any]:
    """Columns of one round's participants, in client order, or where not all are kept by when they were done."""
    done_s = sum(columns[name][rows] for name in ("download_s", "compute_s", "upload_s"))
    key = columns["client"][rows] if len(rows) <= most else done_s
    rows = rows[np.argsort(key, kind="stable")[spaced(len(rows), most)]]
    found: dict[str, Any] = {name: numbers(values[rows]) for name, values in columns.items()}
    found["status"] = statuses[rows].tolist()
    found["device"] = [device_of.get(client, -1) for client in found["client"]]
    return found


def _rows_of_rounds(
    of_clients: NDArray[np.int64], rounds: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in the order of rounds, and where in this order each round begins; one more for the end."""
    ordered = bool((np.diff(of_clients) >= 0).all())
    order = np.arange(len(of_clients)) if ordered else np.argsort(of_clients, kind="stable")
    starts = np.searchsorted(of_clients if ordered else of_clients[order], rounds)
    return order, np.append(starts, len(of_clients))


def _counts(label: str, run: Run) -> tuple[str, ...] | None:
    counts = run.trace.clients["status"].value_counts()
    found = [int(counts.get(status, 0)) for status in STATUSES]
    total = len(run.trace.clients)
    if not sum(found):
        return None
    return (label, f"{total:,}", *(f"{count:,}" for count in found), f"{sum(found) / total:.1%}")


def _over_rounds(run: Run, place: int) -> Chart | None:
    rounds = run.trace.rounds["round"].to_numpy()
    clients = run.trace.clients
    grouped = blocks(len(rounds))
    statuses = clients["status"].to_numpy()
    lines = []
    for status, style in STATUSES.items():
        these = clients["round"].to_numpy()[statuses == status]
        if len(these):
            counts = np.bincount(np.searchsorted(rounds, these), minlength=len(rounds))
            lines.append(Series(status, style, numbers(rounds[grouped.starts]), numbers(grouped.sum(counts))))
    if not lines:
        return None
    note = f"bars are sums of {grouped.length:,} rounds" if grouped.length > 1 else ""
    title = "updates that were not accepted"
    return Chart(title, "bars", "round", "participants", tuple(lines), run=place, note=note)


def _most_often(run: Run) -> Table:
    """The clients whose updates were not accepted most often."""
    clients = run.trace.clients
    lost = clients[clients["status"] != "ok"]
    took_part = clients["client"].value_counts()
    often = lost["client"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    devices = run.trace.devices.set_index("client")["device"] if len(run.trace.devices) else {}
    rows = []
    for client, count in often.head(_MOST_NAMED).items():
        of_status = lost["status"][lost["client"] == client].value_counts()
        by_status = (f"{int(of_status.get(status, 0)):,}" for status in STATUSES)
        device = str(devices.get(client, "not recorded"))
        rows.append(
            (
                f"client {client}",
                device,
                f"{took_part[client]:,}",
                *by_status,
                f"{count / took_part[client]:.1%}",
            )
        )
    header = ("client", "device", "rounds", *STATUSES, "share not accepted")
    caption = (
        f"the {_MOST_NAMED} that were so most often, of {len(often):,}" if len(often) > _MOST_NAMED else ""
    )
    return Table(header, tuple(rows), caption, numbers_from=2)
