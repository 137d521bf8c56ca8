"""``fedmpi sweep``: what it lists and refuses, and small sweeps that really run."""

import io
import os
import signal
import subprocess
import sys
import time

import pytest

from fedmpi.cli import main as cli
from fedmpi.cli import sweep as command
from fedmpi.cli.sweep_runs import default_jobs
from fedmpi.sweeps import STUDIES
from fedmpi.trace import read

LAUNCH_VARIABLES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_STEP_ID")

SWEEP = """# Two ways of sending.
base = "quickstart"
[axes.method]
fab = {}
dense = { sparsification.method = "dense", k_control.method = "fixed" }
"""


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A folder with the sweep ``small.toml``, which is the working directory, outside of any MPI launch."""
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(SWEEP)
    return tmp_path


def listed(capsys, *arguments):
    """The status, changes and reason of each run by its name."""
    capsys.readouterr()
    assert cli.main(["sweep", *arguments, "--list"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    return {name: " ".join([status, *rest]) for _, status, name, *rest in lines}


def test_own_sweeps_are_listed_and_printed(capsys):
    assert cli.main(["sweep"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == STUDIES.names()
    assert "three seeds" in next(line for line in lines if line.startswith("fab-study-small "))
    assert cli.main(["sweep", "fab-study", "--print"]) == 0
    assert 'base = "fab-femnist"' in capsys.readouterr().out


def test_the_list_has_a_line_for_each_run(study, capsys):
    assert cli.main(["sweep", "small.toml", "--list", "experiment.rounds=3"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
        ["0", "-", "fab"],
        ["1", "-", "dense", 'sparsification.method="dense"', 'k_control.method="fixed"'],
    ]
    assert [path.name for path in study.iterdir()] == ["small.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["smal.toml"], "sweep smal.toml: no such file"),
        (["fab-stduy", "--print"], "sweep fab-stduy: unknown; did you mean fab-study?"),
        (["small.toml", "--index", "2"], "--index: found 2; allowed: 0 to 1"),
        (["small.toml", "--index", "0", "--jobs", "2"], "--jobs: found beside --index"),
        (["small.toml", "--jobs", "0"], "argument --jobs: found 0; allowed: an integer from 1 to"),
        (["small.toml", "--list", "--index", "0"], "not allowed with argument --list"),
        (["small.toml", "experiment.rounds=0"], "run fab: [experiment] rounds: found 0"),
        (["small.toml", "--ended", "1"], "--ended: found without --index"),
        (["small.toml", "--ended", "1", "--index", "2"], "--index: found 2; allowed: 0 to 1"),
        (["small.toml", "--ranks", "10"], "run fab: ranks: found 10 for 8 clients"),
        (["small.toml", "--indx", "1"], "fedmpi sweep: unknown argument --indx; did you mean --index?"),
        (["small.toml", "--output", "small.toml/x"], "small.toml is a file; allowed: a folder"),
    ],
)
def test_bad_arguments_are_one_line_and_start_nothing(study, arguments, message, capsys):
    assert cli.main(["sweep", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert [path.name for path in study.iterdir()] == ["small.toml"]


def test_as_many_runs_at_a_time_as_the_cores_have_room_for(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: range(6), raising=False)
    assert [default_jobs(ranks) for ranks in (1, 2, 3, 4, 7)] == [6, 3, 2, 1, 1]
    monkeypatch.delattr(os, "sched_getaffinity")  # macOS has none
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    assert [default_jobs(ranks) for ranks in (1, 3)] == [8, 2]


def test_a_whole_sweep_is_refused_under_a_launcher(study, monkeypatch, capsys):
    monkeypatch.setenv("PMI_SIZE", "2")
    monkeypatch.setenv("PMI_RANK", "0")
    assert cli.main(["sweep", "small.toml"]) == 2
    assert "--ranks P without a launcher, or --index I with one" in capsys.readouterr().err


def test_runs_are_run_once_continued_when_longer_and_never_mixed(study, capsys):
    short = ["sweep", "small.toml", "experiment.rounds=2", "training.batch_size=8"]
    assert cli.main(short) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("small: 2 runs, 0 of them complete")
    assert lines[-1] == "2 of 2 runs are complete, in runs/small"
    folder = study / "runs" / "small"
    assert sorted(path.name for path in folder.iterdir()) == ["configs", "dense", "fab", "logs", "sweep.toml"]
    first = read(folder / "fab")
    assert len(first.rounds) == 2
    assert first.config["experiment"]["name"] == "fab"
    assert read(folder / "dense").config["sparsification"]["method"] == "dense"

    assert cli.main([*short, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert read(folder / "fab").attributes["created"] == first.attributes["created"]

    assert cli.main([*short, "--index", "0"]) == 0
    assert capsys.readouterr().out == "fab: complete already\n"

    longer = [argument.replace("rounds=2", "rounds=3") for argument in short]
    assert cli.main([*longer, "--ranks", "2", "--jobs", "1"]) == 0
    longer_trace = read(folder / "fab")
    assert len(longer_trace.rounds) == 3
    assert longer_trace.rounds.train_loss[:2].tolist() == first.rounds.train_loss.tolist()
    assert longer_trace.attributes["ranks"] == 2

    other = [argument.replace("batch_size=8", "batch_size=9") for argument in short]
    capsys.readouterr()
    assert cli.main(other) == 2
    assert "run fab: [training] batch_size: found 9, but the run to resume has 8" in capsys.readouterr().err


def test_a_failing_run_is_told_and_stops_no_other(study, capsys):
    (study / "broken.py").write_text(
        "def factory(input_shape, classes):\n    raise RuntimeError('no such luck')\n"
    )
    (study / "small.toml").write_text(
        SWEEP.replace("fab = {}", 'broken = { model.name = "broken:factory" }') + "fab = {}\n"
    )
    assert cli.main(["sweep", "small.toml", "experiment.rounds=2"]) == 1
    out, error = capsys.readouterr()
    assert "broken: failed with exit code 2: [model] name: 'broken:factory' cannot be called" in out
    assert "2 of 3 runs are complete" in out
    reason = (
        "exit code 2: [model] name: 'broken:factory' cannot be called as factory(input_shape, classes): "
        "RuntimeError: no such luck (broken.py, line 2); allowed: a factory of torch.nn.Module"
    )
    assert error == f"fedmpi: run broken failed with {reason}; see runs/small/logs/broken.log\n"
    assert "no such luck" in (study / "runs" / "small" / "logs" / "broken.log").read_text()
    assert listed(capsys, "small.toml", "experiment.rounds=2") == {
        "broken": f'failed model.name="broken:factory" [{reason}]',
        "fab": "completed",
        "dense": 'completed sparsification.method="dense" k_control.method="fixed"',
    }


def test_a_run_that_is_refused_is_listed_with_the_first_line_of_its_error(study, capsys):
    """By the sweep, which starts nothing then, and by the task of a job array, whose run was never started."""
    refused = ["small.toml", "experiment.rounds=0"]
    assert cli.main(["sweep", *refused]) == 2
    capsys.readouterr()
    assert listed(capsys, "small.toml")["fab"] == "-"
    assert cli.main(["sweep", *refused, "--index", "0"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("fedmpi: run fab: [experiment] rounds: found 0; allowed")
    reason = error.removeprefix("fedmpi: ").strip()
    assert listed(capsys, "small.toml")["fab"] == f"failed [exit code 2: {reason}]"
    assert not (study / "runs" / "small" / "fab").exists()


def test_a_run_whose_data_are_refused_is_listed_as_failed(study, capsys):
    """Only the run itself looks at its data: there is no trace then."""
    axis = 'image = { data.dataset = "idx", data.path = "empty", model.name = "logistic" }\n'
    (study / "empty").mkdir()
    (study / "small.toml").write_text(SWEEP + axis)
    assert cli.main(["sweep", "small.toml", "experiment.rounds=1", "--quiet"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "fedmpi: run image failed with exit code 2: " in error
    assert "failed" in (now := listed(capsys, "small.toml")["image"])
    assert "[exit code 2: empty: " in now
    for number in (2, 2):
        assert cli.main(["sweep", "small.toml", "experiment.rounds=1", "--index", str(number)]) == 2
    assert listed(capsys, "small.toml")["image"] == now


def test_job_scripts_record_the_end_of_ranks_that_are_gone(study, monkeypatch, capsys):
    def end(code, said=""):
        monkeypatch.setattr(sys, "stdin", io.StringIO(said))
        assert cli.main(["sweep", "small.toml", "--index", "1", "--ended", str(code)]) == 0
        assert capsys.readouterr() == ("", "")
        return listed(capsys, "small.toml")["dense"].replace(CHANGES, "")

    CHANGES = ' sparsification.method="dense" k_control.method="fixed"'
    lines = "job 7\nTraceback (most recent call last):\n  File x\nValueError: no\n"
    assert end(1, lines) == "failed [exit code 1: ValueError: no]"
    assert end(1, "nothing new") == "failed [exit code 1: ValueError: no]"
    assert end(75, lines) == "preempted"
    assert end(137) == "failed [exit code 137]"
    assert end(-9) == "failed [exit code -9 (SIGKILL)]"


def test_the_reason_of_a_failure_is_that_of_this_start(study, capsys):
    """The log of an earlier start stays, and MPI's last words are a ruler or advice."""
    log = study / "o" / "logs" / "fab.log"
    log.parent.mkdir(parents=True)
    log.write_text("Traceback (most recent call last):\nValueError: of an earlier start\n")
    (study / "broken.py").write_text("import os\ndef make(shape, classes):\n    os.kill(os.getpid(), 9)\n")
    (study / "small.toml").write_text(SWEEP.replace("fab = {}", 'fab = { model.name = "broken:make" }'))
    arguments = ["small.toml", "--output", "o", "--ranks", "2", "experiment.rounds=2", "--jobs", "1"]
    assert cli.main(["sweep", *arguments]) == 1
    (line,) = [line for line in capsys.readouterr().out.splitlines() if " fab: failed" in line]
    assert "earlier" not in line
    assert "Killed" in line


def test_one_run_of_a_job_array_under_a_launcher(study):
    arguments = ["sweep", "small.toml", "--index", "1", "experiment.rounds=2", "--output", "o", "--quiet"]
    mpiexec = command.launch.find_mpiexec()
    assert mpiexec is not None
    started = command.launch.mpiexec_command(mpiexec, 2, ["-m", "fedmpi", *arguments])
    for _ in range(2):
        done = subprocess.run(started, capture_output=True, text=True, timeout=120)
        assert (done.returncode, done.stderr) == (0, "")
    assert sorted(path.name for path in (study / "o").iterdir()) == ["dense", "logs", "sweep.toml"]
    assert [path.name for path in (study / "o" / "logs").iterdir()] == ["dense.json"]
    assert read(study / "o" / "dense").attributes["ranks"] == 2


def test_an_interrupted_sweep_makes_checkpoints_and_goes_on(study, capsys):
    arguments = ["sweep", "small.toml", "--jobs", "1", "--output", "o"]
    started = [sys.executable, "-m", "fedmpi", *arguments, "experiment.rounds=100000"]
    with subprocess.Popen(started, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as sweep:
        deadline = time.monotonic() + 100
        while not (study / "o" / "fab" / "trace.h5").is_file() and time.monotonic() < deadline:
            time.sleep(0.1)
        meanwhile = listed(capsys, *arguments[1:])
        sweep.send_signal(signal.SIGTERM)
        out, error = sweep.communicate(timeout=100)
    assert meanwhile["fab"].startswith("running [process ")
    assert (sweep.returncode, error) == (75, "")
    assert "0 of 2 runs are complete" in out
    trace = read(study / "o" / "fab")
    assert trace.attributes["status"] == "preempted"
    assert not (study / "o" / "dense").exists()
    assert {name: now.split()[0] for name, now in listed(capsys, *arguments[1:]).items()} == {
        "fab": "preempted",
        "dense": "-",
    }
    capsys.readouterr()
    rounds = len(trace.rounds) + 2
    assert cli.main([*arguments, f"experiment.rounds={rounds}", "--quiet"]) == 0
    assert read(study / "o" / "fab").rounds["round"].tolist() == list(range(rounds))
    assert os.listdir(study / "o" / "fab" / "checkpoint")
