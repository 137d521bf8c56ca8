"""``fedmpi status``: how far a run is, while it is going on and afterwards."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import numpy as np
import pytest

from fedmpi.analysis.status import NO_END, status_of
from fedmpi.cli.main import main
from fedmpi.config import dumps, loads
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.trace import STOP, Phase, TraceWriter, read
from fedmpi.trace.schema import TABLES


@pytest.fixture
def going_on(tmp_path):
    """A run folder in the middle of a run: three of ten rounds after two of initial pruning, and a warning."""
    attributes = {
        "config_toml": dumps(loads("", ["experiment.rounds=10"])),
        **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 3),
        **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
        "layer_names": ["weight"],
    }
    integers = {column: 0 for column in TABLES["rounds"].names if TABLES["rounds"][column].kind == "i"}
    writer = TraceWriter.create(tmp_path / "trace.h5", attributes)
    for number in range(-2, 3):
        phase = Phase.FEDERATED if number >= 0 else Phase.INITIAL_PRUNING
        row = {"round": number, "phase": phase, "end_s": 100.0 + number, "host_s": 2.0 + number}
        row["test_accuracy"] = 0.25 if number == 1 else np.nan
        writer.append(rounds={**integers, **row})
    for kind, detail in (("rejected", "client 1: update is not finite"), ("pruning", "density 0.5")):
        writer.append(events={"round": 1, "time_s": 101.0, "kind": kind, "detail": detail})
    writer.commit(force=True)
    yield tmp_path, writer
    writer.close("preempted")


def test_a_run_that_is_going_on(going_on, capsys):
    folder, _ = going_on
    lock = FolderLock.acquire(folder)
    try:
        assert main(["status", str(folder)]) == 0
    finally:
        lock.release()
    first, second, third, fourth = capsys.readouterr().out.splitlines()
    assert first == f"{folder / 'trace.h5'}: running, process {os.getpid()} on {platform.node()}"
    assert second == "  2 rounds of initial pruning, round 3 of 10, accuracy 0.2500, emulated 1 min 42 s"
    assert third.startswith("  10.0 s here, 3 s a round, ETA 21.0 s, trace written ")
    assert fourth == "  1 warning, in round 1: rejected: client 1: update is not finite"


def test_a_run_whose_process_is_gone_is_not_running(going_on, capsys):
    folder, _ = going_on
    assert main(["status", str(folder), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)
    assert found["status"] == NO_END
    assert (found["owner"], found["eta_s"], found["round_host_s"], found["test_accuracy"]) == (
        "",
        None,
        3.0,
        0.25,
    )


def test_the_reason_of_an_ended_run(going_on):
    folder, writer = going_on
    writer.append(events={"round": 2, "time_s": 102.0, "kind": STOP, "detail": "a signal"})
    writer.commit(force=True)
    found = status_of(read(folder))
    assert (found.reason, found.warnings) == ("a signal", 1)


def test_the_runs_of_a_sweep(small_sweep, capsys):
    assert main(["status", str(small_sweep)]) == 0
    paragraphs = capsys.readouterr().out.split("\n\n")
    assert len(paragraphs) == 4
    assert paragraphs[1].startswith(f"{small_sweep}/fab-s1/trace.h5: completed (")
    assert "  round 12 of 12, accuracy 0." in paragraphs[1]
    assert "ETA" not in paragraphs[1]


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"fedmpi: {Path(tmp_path)}: no run is there; allowed: ")
