import math
import tomllib

import pytest

from fedmpi.config import dumps, loads
from fedmpi.sweep import PlannedRun, Progress, Sweep, is_finished, progress, write_list
from fedmpi.trace import Phase, TraceWriter
from fedmpi.trace.schema import TABLES


def a_run(*overrides):
    return PlannedRun(0, "fab-s1", "fab", ("experiment.seed=1",), loads("", overrides))


@pytest.fixture
def record(tmp_path):
    """A run folder with a trace of three rounds, evaluated in the second."""

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
            writer.append(rounds={**row, "test_accuracy": 0.25 if number == 1 else math.nan})
        writer.close(status)
        return folder

    return record


def test_progress_is_what_the_trace_says(record):
    run = a_run()
    assert progress(record(run)) == Progress("completed", 3, 3.0, 0.25, 1.5)


def test_progress_without_rounds_without_trace_and_of_garbage(record, tmp_path):
    assert progress(record(a_run(), "failed", rounds=0)).status == "failed"
    assert progress(tmp_path / "none").status == "-"
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "trace.h5").write_text("no trace")
    assert progress(tmp_path / "bad").status == "unreadable"


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
