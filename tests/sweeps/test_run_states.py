import json
import math
import os
import platform
import tomllib

import pytest

from fedmpi.config import dumps, loads
from fedmpi.experiment.folder_lock import FolderLock
from fedmpi.sweeps import (
    PlannedRun,
    Progress,
    Sweep,
    failure_text,
    is_finished,
    progress,
    read_outcome,
    record_end,
    record_start,
    state,
    write_list,
)
from fedmpi.sweeps.outcome import outcome_path
from fedmpi.trace import Phase, TraceWriter
from fedmpi.trace.schema import TABLES


def a_run(*overrides):
    return PlannedRun(0, "fab-s1", "fab", ("experiment.seed=1",), loads("", overrides))


@pytest.fixture
def record(tmp_path):
    """A run folder with a trace of three rounds, evaluated in the first two."""

    def record(run, status="completed", rounds=3):
        folder = tmp_path / run.name
        folder.mkdir()
        (folder / "config.toml").write_text(dumps(run.config))
        attributes = {
            "config_toml": dumps(run.config),
            **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 1),
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["weight"],
        }
        writer = TraceWriter.create(folder / "trace.h5", attributes)
        integers = {name: 0 for name in TABLES["rounds"].names if TABLES["rounds"][name].kind == "i"}
        for number in range(rounds):
            row = {
                **integers,
                "round": number,
                "phase": Phase.FEDERATED,
                "end_s": number + 1.0,
                "host_s": 0.5,
            }
            writer.append(rounds={**row, "test_accuracy": (0.5, 0.25)[number] if number < 2 else math.nan})
        if status is None:
            writer.commit(force=True)
        else:
            writer.close(status)
        return folder

    return record


def test_progress_is_what_the_trace_says(record):
    run = a_run()
    assert progress(record(run)) == Progress("completed", 3, 3.0, 0.25, 1.5)


def test_progress_without_rounds_without_trace_and_of_garbage(record, tmp_path):
    assert progress(record(a_run(), "failed", rounds=0)).status == "failed"
    nothing = progress(tmp_path / "none")
    assert (nothing.status, nothing.rounds, nothing.emulated_s, nothing.host_s) == ("-", 0, 0.0, 0.0)
    assert math.isnan(nothing.accuracy)
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "trace.h5").write_text("no trace")
    bad = progress(tmp_path / "bad")
    assert (bad.status, "trace.h5" in bad.reason) == ("unreadable", True)


def later(path):
    """Let ``path`` be the last that was written."""
    times = [other.stat().st_mtime_ns for other in path.parent.parent.rglob("*") if other.is_file()]
    os.utime(path, ns=(max(times) + 1, max(times) + 1))


def start(study, exit_code=None, reason="", owner=None):
    """The outcome of a start of the run fab-s1, by this process or another, written after all else."""
    record_start(study, "fab-s1")
    path = outcome_path(study, "fab-s1")
    if owner is not None:
        path.write_text(json.dumps({**json.loads(path.read_text()), "owner": owner}))
    if exit_code is not None:
        record_end(study, "fab-s1", exit_code, reason)
    later(path)


GONE = f"{platform.node()} 999999999 long-ago"


def test_a_run_without_a_trace_is_what_its_last_start_came_to(tmp_path):
    assert state(tmp_path, "fab-s1") == Progress("-")
    start(tmp_path)
    assert (state(tmp_path, "fab-s1").status, state(tmp_path, "fab-s1").reason[:7]) == ("running", "started")
    start(tmp_path, owner="elsewhere 17 since")
    assert state(tmp_path, "fab-s1").status == "running"
    start(tmp_path, owner=GONE)
    assert (state(tmp_path, "fab-s1").status, "killed" in state(tmp_path, "fab-s1").reason) == (
        "failed",
        True,
    )
    assert read_outcome(tmp_path, "fab-s1").lost()
    start(tmp_path, 2, "no data", owner=GONE)
    assert not read_outcome(tmp_path, "fab-s1").lost()
    assert state(tmp_path, "fab-s1") == Progress("failed", reason="exit code 2: no data")
    start(tmp_path, 1)
    assert state(tmp_path, "fab-s1") == Progress("failed", reason="exit code 1")
    start(tmp_path, 75)
    assert state(tmp_path, "fab-s1") == Progress("preempted")


@pytest.mark.parametrize("status", ["completed", "preempted", "failed"])
def test_of_trace_and_last_start_the_later_counts(record, tmp_path, status):
    folder = record(a_run(), status)
    assert state(tmp_path, "fab-s1").status == status
    start(tmp_path, 2, "no data")
    assert (state(tmp_path, "fab-s1").status, state(tmp_path, "fab-s1").rounds) == ("failed", 3)
    later(folder / "trace.h5")
    assert state(tmp_path, "fab-s1").status == status
    start(tmp_path, 0)
    assert state(tmp_path, "fab-s1").status == status


def test_a_trace_that_nobody_writes_any_more_is_of_a_run_that_failed(record, tmp_path):
    folder = record(a_run(), None)
    now = state(tmp_path, "fab-s1")
    assert (now.status, now.rounds, "killed" in now.reason) == ("failed", 3, True)
    start(tmp_path, 0)
    assert state(tmp_path, "fab-s1").status == "failed"
    start(tmp_path, owner=GONE)
    later(folder / "trace.h5")
    assert state(tmp_path, "fab-s1").status == "failed"
    start(tmp_path)
    later(folder / "trace.h5")
    assert (state(tmp_path, "fab-s1").status, state(tmp_path, "fab-s1").rounds) == ("running", 3)


@pytest.mark.parametrize("status", ["completed", None])
def test_a_run_whose_folder_is_locked_is_running(record, tmp_path, status):
    folder = record(a_run(), status)
    start(tmp_path, 1)
    lock = FolderLock.acquire(folder)
    now = state(tmp_path, "fab-s1")
    lock.release()
    assert (now.status, now.reason) == ("running", f"process {os.getpid()} on {platform.node()}")
    assert state(tmp_path, "fab-s1").status == "failed"


def test_an_outcome_that_is_none_is_named(tmp_path):
    start(tmp_path)
    for text in ("", "[]", "{}", '{"started": 1}', "[" * 100_000):
        outcome_path(tmp_path, "fab-s1").write_text(text)
        now = state(tmp_path, "fab-s1")
        assert (now.status, str(outcome_path(tmp_path, "fab-s1")) in now.reason) == ("unreadable", True)
    start(tmp_path, 2)
    assert state(tmp_path, "fab-s1").status == "failed"


def test_what_is_recorded_of_an_end_stays_until_another_end(tmp_path):
    record_end(tmp_path, "fab-s1", 1, "first")
    first = read_outcome(tmp_path, "fab-s1")
    assert (first.exit_code, first.reason, first.ended is not None) == (1, "first", True)
    record_end(tmp_path, "fab-s1", 1, "second")
    assert read_outcome(tmp_path, "fab-s1") == first
    record_end(tmp_path, "fab-s1", 2, "third")
    assert read_outcome(tmp_path, "fab-s1").reason == "third"
    record_start(tmp_path, "fab-s1")
    again = read_outcome(tmp_path, "fab-s1")
    assert (again.exit_code, again.ended, again.reason) == (None, None, "")
    record_end(tmp_path, "fab-s1", 2, "fourth")
    assert read_outcome(tmp_path, "fab-s1").reason == "fourth"
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["fab-s1.json"]


@pytest.mark.parametrize(
    ("code", "text"),
    [(2, "exit code 2"), (-9, "exit code -9 (SIGKILL)"), (-99, "exit code -99"), (0, "exit code 0")],
)
def test_exit_codes_of_signals_have_their_names(code, text):
    assert failure_text(code, "") == text
    assert failure_text(code, "why") == f"{text}: why"


@pytest.mark.parametrize("status", ["preempted", "failed"])
def test_only_completed_runs_are_finished(record, status):
    run = a_run()
    assert not is_finished(run, record(run, status))


def test_a_completed_run_is_not_finished_when_it_is_to_go_on(record):
    folder = record(a_run("experiment.rounds=3"))
    assert is_finished(a_run("experiment.rounds=3"), folder)
    assert is_finished(a_run("experiment.rounds=3", "data.path=elsewhere"), folder)
    assert not is_finished(a_run("experiment.rounds=4"), folder)
    assert not is_finished(a_run("experiment.rounds=3", "experiment.stop_at_accuracy=0.5"), folder)


def test_the_list_names_all_runs(tmp_path):
    write_list(Sweep("study", (a_run(),), ("data.path=x",)), tmp_path / "deep" / "study")
    (path,) = (tmp_path / "deep" / "study").iterdir()
    content = tomllib.loads(path.read_text())
    assert path.name == "sweep.toml"
    assert content["common"] == ["data.path=x"]
    assert content["runs"] == [{"name": "fab-s1", "label": "fab", "overrides": ["experiment.seed=1"]}]
