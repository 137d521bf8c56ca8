"""What a finished round becomes in the trace: rows of rounds, clients and layers, and events."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from fedmpi import trace
from fedmpi.config import loads
from fedmpi.emulation.timeline import Timeline
from fedmpi.experiment.recording import Recorder
from fedmpi.experiment.resuming import Identity
from fedmpi.federation.messages import RECORD, VERDICT, Action, RoundPlan
from fedmpi.federation.round_cost import Work
from fedmpi.federation.round_halves import RoundReport
from fedmpi.federation.verdict import Closed, Judged
from fedmpi.pruning import Change, Mask
from fedmpi.trace import Status

PARTICIPANTS = np.array([1, 2, 5])
LAYERS = [
    SimpleNamespace(name="weight", start=0, stop=6, prunable=True),
    SimpleNamespace(name="bias", start=6, stop=8, prunable=False),
]
SMALL = Mask.of(np.array([1, 0, 1, 0, 0, 1, 1, 1], bool))


class Reader:
    """Keeps what the reader of the progress line would see."""

    def __init__(self) -> None:
        self.rows: list[Any] = []
        self.warnings: list[str] = []

    def update(self, row: Any) -> None:
        self.rows.append(row)

    def warn(self, text: str) -> None:
        self.warnings.append(text)


def run_of(mask: Mask) -> Any:
    config = loads("[clients]\ncount = 6\n", ["emulation.clock=realtime", "emulation.time_scale=0.5"])
    return SimpleNamespace(
        config=config,
        ranks=SimpleNamespace(size=3, carried_bytes=0),
        model=SimpleNamespace(parameter_count=8, layers=LAYERS),
        masked=SimpleNamespace(mask=mask),
        exchange=SimpleNamespace(period=1),
        devices={"client": PARTICIPANTS[:0]},
        server=None,
        initial=None,
    )


def report_of(index: int = 0, **changes: Any) -> RoundReport:
    records, verdict = np.zeros(3, RECORD), np.zeros(3, VERDICT)
    records["client"], records["samples"], records["entries"] = PARTICIPANTS, [10, 20, 30], [3, 4, 5]
    records["train_loss"], records["max_abs"] = [1.0, 2.0, 3.0], [1.0, np.inf, 1.0]
    verdict["status"] = [Status.OK, Status.REJECTED, Status.OK]
    seconds = np.array([0.25, 0.5, 0.75])
    timeline = Timeline(
        start_s=2.0,
        download_s=seconds,
        compute_s=2 * seconds,
        upload_s=3 * seconds,
        wait_s=4 * seconds,
        bytes_down=np.array([100, 200, 300]),
        bytes_up=np.array([10, 20, 30]),
        duration_s=8.0,
        downloaded=np.ones(3, bool),
        trained=np.ones(3, bool),
        arrived=np.ones(3, bool),
    )
    work = Work(timeline.bytes_down, seconds, records["entries"], timeline.bytes_up)
    plan = RoundPlan(index, Action.NONE, 5, 4, 0.125, 2.0, PARTICIPANTS)
    judged = Judged(records, verdict, 1.0, work, timeline)
    closed = Closed(plan, judged, timeline, 1.5, 6, np.array([2, 0, 3]), None)
    report = RoundReport(
        closed=closed,
        test_loss=0.75,
        test_accuracy=0.5,
        client_tests=None,
        rank_of=np.array([0, 2, 1]),
        released_s=np.array([2.5, 3.5, 4.5]),
        overrun_s=np.array([0.0, 0.001, 0.002]),
        unready_s=np.zeros(3),
        start_overrun_s=0.0,
        host_s=0.0625,
        carried_bytes=77,
        mask=Mask(8),
        mask_since=0,
        change=None,
        importance_left_out=0,
    )
    return replace(report, **changes)


def recorded(folder: Path, *reports: RoundReport, mask: Mask | None = None) -> tuple[trace.Trace, Reader]:
    reader: Any = Reader()
    run = run_of(Mask(8) if mask is None else mask)
    recorder = Recorder(run, folder, reader, None, Identity("id", "digest"))
    for report in reports:
        recorder.round(report)
    recorder.close("completed")
    return trace.read(folder), reader


def test_a_round_is_a_row(tmp_path: Path) -> None:
    found, reader = recorded(tmp_path, report_of())
    row = found.rounds.iloc[0]
    expected = {
        "round": 0,
        "start_s": 2.0,
        "end_s": 10.0,
        "host_s": 0.0625,
        "participants": 3,
        "dropped": 1,
        "learning_rate": 0.125,
        "train_loss": 1.5,
        "test_loss": 0.75,
        "test_accuracy": 0.5,
        "k": 5,
        "k_probe": 4,
        "k_down": 6,
        "active_parameters": 8,
        "density": 1.0,
        "bytes_up": 60,
        "bytes_down": 600,
        "mpi_bytes": 77,
    }
    assert {name: row[name] for name in expected} == expected
    assert row["phase"] == "federated"
    assert reader.rows[0]["test_accuracy"] == 0.5


def test_a_participant_is_a_row(tmp_path: Path) -> None:
    clients = recorded(tmp_path, report_of())[0].clients
    expected = {
        "round": [0, 0, 0],
        "client": [1, 2, 5],
        "rank": [0, 2, 1],
        "samples": [10, 20, 30],
        "download_s": [0.25, 0.5, 0.75],
        "compute_s": [0.5, 1.0, 1.5],
        "upload_s": [0.75, 1.5, 2.25],
        "wait_s": [1.0, 2.0, 3.0],
        "bytes_down": [100, 200, 300],
        "bytes_up": [10, 20, 30],
        "entries_sent": [3, 4, 5],
        "entries_used": [2, 0, 3],
        "train_loss": [1.0, 2.0, 3.0],
        "overrun_s": [0.0, 0.001, 0.002],
    }
    assert {name: clients[name].tolist() for name in expected} == expected
    assert clients["status"].tolist() == ["ok", "rejected", "ok"]


def test_layers_are_recorded_when_a_mask_comes_into_force(tmp_path: Path) -> None:
    masks = [(Mask(8), 0), (Mask(8), 0), (SMALL, 2), (SMALL, 2)]
    reports = [report_of(index, mask=mask, mask_since=since) for index, (mask, since) in enumerate(masks)]
    found, _ = recorded(tmp_path, *reports)
    layers = found.layers
    assert layers["round"].tolist() == [0, 0, 2, 2]
    assert layers["active"].tolist() == [6, 2, 3, 2]
    assert layers["total"].tolist() == [6, 2, 6, 2]
    assert found.rounds["active_parameters"].tolist() == [8, 8, 5, 5]
    assert found.rounds["density"].tolist() == [1.0, 1.0, 0.5, 0.5]


def test_what_happened_once_is_an_event(tmp_path: Path) -> None:
    report = report_of(3, change=Change(SMALL, {"active": 5}), importance_left_out=2)
    found, reader = recorded(tmp_path, report)
    events = found.events
    assert events["round"].tolist() == [3, 3, 3]
    assert events["time_s"].tolist() == [10.0] * 3
    assert events["kind"].tolist() == ["rejected", "rejected", "pruning"]
    assert "client 2" in events["detail"].iloc[0]
    assert "2 clients" in events["detail"].iloc[1]
    assert "5" in events["detail"].iloc[2]
    assert len(reader.warnings) == 1


@pytest.mark.parametrize(("start_overrun_s", "said"), [(0.0, False), (0.25, True)])
def test_a_moment_that_was_missed_is_an_event(tmp_path: Path, start_overrun_s: float, said: bool) -> None:
    """A round of 8 s lasts 4 s of the host, a percent of which is tolerated."""
    late = report_of(overrun_s=np.array([0.0, 0.039, 0.041]), start_overrun_s=start_overrun_s)
    found, _ = recorded(tmp_path, late)
    (event,) = [row for _, row in found.events.iterrows() if row["kind"] == "overrun"]
    assert "1 of 3" in event["detail"]
    assert ("started" in event["detail"]) == said
