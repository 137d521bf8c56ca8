"""Rounds as Gantt charts, and whose updates did not count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from fedmpi.analysis.client_sums import rows_of, sums_of
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
from fedmpi.trace import Status
from fedmpi.trace.schema import names as names_of

STATUSES = {"late": 4, "dropped": 1, "rejected": 3, "lost": 6}
"""What else than "ok" becomes of a participant -> its place in the palette."""

_CODES = {status: code for code, status in enumerate(names_of(Status))}
"""What becomes of a participant -> its place among sums."""

_MEANINGS = {
    "late": "late: its update came after the round had closed",
    "dropped": "dropped: it vanished",
    "rejected": "rejected: its update was not finite",
    "lost": "lost: nothing came of it",
}
_MOST_NAMED = 10


def one_round(chosen: Sequence[Run]) -> Section:
    """The Gantt chart of a round, which the page lets one choose, for each run."""
    charts = [
        _gantt(run, place, len(chosen)) for place, run in enumerate(chosen) if len(sums_of(run.trace).client)
    ]
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
        updates = sum(int(sums_of(run.trace).by_round.rows.sum()) for _, run in runs)
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
    rounds, counts = run.trace.rounds, sums_of(run.trace).by_round.rows
    there = np.flatnonzero(counts)  # rounds with participants
    budget = MOST_GANTT_ROWS // runs
    widest = int(counts.max())
    most_clients = max(4, min(widest, MOST_CLIENTS, budget // 10))
    kept = there[spaced(len(there), min(MOST_ROUNDS, max(2, budget // most_clients)))]
    devices = run.trace.devices
    names = sorted(devices["device"].unique()) if len(devices) else []
    places = devices["device"].map({name: at for at, name in enumerate(names)})
    device_of = dict(zip(devices["client"], places, strict=True))
    shown = []
    with rows_of(run.trace) as rows:
        for at in kept:
            number = int(rounds["round"].iloc[at])
            facts = {
                "round": number,
                "start_s": numbers([rounds["start_s"].iloc[at]])[0],
                "end_s": numbers([rounds["end_s"].iloc[at]])[0],
                "participants": int(counts[at]),
            }
            shown.append(_round(rows(number, number), most_clients, device_of) | facts)
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


def _round(rows: pd.DataFrame, most: int, device_of: dict[int, int]) -> dict[str, Any]:
    """Columns of one round's participants, in client order, or where not all are kept by when they were done."""
    done_s = sum(rows[name].to_numpy() for name in ("download_s", "compute_s", "upload_s"))
    key = rows["client"].to_numpy() if len(rows) <= most else done_s
    rows = rows.iloc[np.argsort(key, kind="stable")[spaced(len(rows), most)]]
    columns = ("client", *PARTS, "bytes_up", "bytes_down")
    found: dict[str, Any] = {name: numbers(rows[name].to_numpy()) for name in columns}
    found["status"] = rows["status"].cat.codes.tolist()
    found["device"] = [device_of.get(client, -1) for client in found["client"]]
    return found


def _counts(label: str, run: Run) -> tuple[str, ...] | None:
    sums = sums_of(run.trace).by_round
    found = [int(sums.statuses[_CODES[status]].sum()) for status in STATUSES]
    total = int(sums.rows.sum())
    if not sum(found):
        return None
    return (label, f"{total:,}", *(f"{count:,}" for count in found), f"{sum(found) / total:.1%}")


def _over_rounds(run: Run, place: int) -> Chart | None:
    rounds, statuses = run.trace.rounds["round"].to_numpy(), sums_of(run.trace).by_round.statuses
    grouped = blocks(len(rounds))
    lines = []
    for status, style in STATUSES.items():
        counts = statuses[_CODES[status]]
        if counts.any():
            lines.append(Series(status, style, numbers(rounds[grouped.starts]), numbers(grouped.sum(counts))))
    if not lines:
        return None
    note = f"bars are sums of {grouped.length:,} rounds" if grouped.length > 1 else ""
    title = "updates that were not accepted"
    return Chart(title, "bars", "round", "participants", tuple(lines), run=place, note=note)


def _most_often(run: Run) -> Table:
    """The clients whose updates were not accepted most often."""
    sums = sums_of(run.trace)
    took_part, statuses = sums.by_client.rows, sums.by_client.statuses
    counts = took_part - statuses[_CODES["ok"]]
    often = np.argsort(-counts, kind="stable")[: np.count_nonzero(counts)]
    devices = run.trace.devices.set_index("client")["device"] if len(run.trace.devices) else {}
    rows = []
    for place in often[:_MOST_NAMED].tolist():
        client = int(sums.client[place])
        by_status = (f"{int(statuses[_CODES[status], place]):,}" for status in STATUSES)
        device = str(devices.get(client, "not recorded"))
        share = f"{counts[place] / took_part[place]:.1%}"
        rows.append((f"client {client}", device, f"{took_part[place]:,}", *by_status, share))
    header = ("client", "device", "rounds", *STATUSES, "share not accepted")
    caption = (
        f"the {_MOST_NAMED} that were so most often, of {len(often):,}" if len(often) > _MOST_NAMED else ""
    )
    return Table(header, tuple(rows), caption, numbers_from=2)
