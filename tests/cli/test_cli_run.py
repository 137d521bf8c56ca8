"""What ``fedmpi run`` hands over: to ``mpiexec``, or to the experiment."""

import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from fedmpi.cli import launch, stopped
from fedmpi.cli import main as cli
from fedmpi.config import ConfigError, load
from fedmpi.experiment.folder_lock import LOCK_NAME
from fedmpi.mpi import stop_signals

LAUNCH_VARIABLES = (
    "PMI_SIZE",
    "PMI_RANK",
    "PMIX_RANK",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_ID",
)


@pytest.fixture
def outside_mpi(monkeypatch, tmp_path):
    for name in LAUNCH_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def experiment(monkeypatch):
    """Stands for ``fedmpi.experiment.main``; remembers what it was given."""
    given = SimpleNamespace(code=0, prepares=None)

    def main(prepare, *, resume, quiet):
        given.prepare, given.flags = prepare, (resume, quiet)
        if given.prepares is not None:
            prepare(given.prepares)
        return given.code

    module = SimpleNamespace(main=main)
    monkeypatch.setitem(sys.modules, "fedmpi.experiment.main", module)
    return given


@pytest.fixture
def supervised(monkeypatch):
    """The commands that would have been run, and what their launcher is sent; they end with exit code 75."""
    calls = []

    def supervise(command, ask, flag):
        calls.append((command, ask))
        return 75

    monkeypatch.setattr(launch, "supervise", supervise)
    return calls


@pytest.mark.usefixtures("outside_mpi")
def test_one_rank_runs_here(experiment, tmp_path):
    experiment.code = 75
    assert cli.main(["run", "quickstart", "experiment.seed=4", "--quiet", "--resume"]) == 75
    assert experiment.flags == (True, True)
    config, output, lock = experiment.prepare(1)
    assert config == load("quickstart", ["experiment.seed=4"])
    assert str(output) == "runs/quickstart-4"
    assert [path.name for path in (tmp_path / output).iterdir()] == [LOCK_NAME]
    with pytest.raises(
        ConfigError, match=f"--output: runs/quickstart-4 is in use by process {os.getpid()} on "
    ):
        experiment.prepare(1)
    lock.release()
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("outside_mpi")
@pytest.mark.parametrize(("open_mpi", "ask"), [(False, signal.SIGTERM), (True, signal.SIGUSR2)])
def test_several_ranks_run_under_mpiexec_with_the_same_arguments(
    supervised, monkeypatch, tmp_path, open_mpi, ask
):
    monkeypatch.setattr(launch, "find_mpiexec", lambda: tmp_path / "mpiexec")
    monkeypatch.setattr(launch, "_is_open_mpi", lambda mpiexec: open_mpi)
    monkeypatch.setattr(launch, "_check_root", lambda mpiexec: None)
    arguments = ["run", "quickstart", "--ranks", "3", "experiment.seed=4", "--output", "o"]
    assert cli.main(arguments) == 75
    command = launch.mpiexec_command(tmp_path / "mpiexec", 3, ["-m", "fedmpi", *arguments])
    assert supervised == [(command, ask)]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("outside_mpi")
def test_a_stop_before_the_launch_launches_nothing(supervised, capsys, tmp_path):
    with stop_signals.installed() as flag:
        flag.receive(signal.SIGTERM, 0.0)
        assert cli.main(["run", "quickstart", "--ranks", "3", "--output", "o"]) == 75
    assert not supervised
    assert capsys.readouterr().err == (
        "fedmpi: stopped before the run began: nothing was written, the same command starts it\n"
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("outside_mpi")
def test_a_stopped_run_says_how_to_go_on(experiment, capsys):
    experiment.code = 75
    experiment.prepares = 3
    assert cli.main(["run", "quickstart", "experiment.name=a b", "--overwrite", "--output", "x"]) == 75
    told = "to go on: mpiexec -n 3 fedmpi run quickstart 'experiment.name=a b' --output x --resume\n"
    assert capsys.readouterr().err == f"fedmpi: stopped with a checkpoint; {told}"
    experiment.prepares = None
    assert cli.main(["run", "quickstart", "--output", "x", "--resume"]) == 75
    assert "stopped before the run began" in capsys.readouterr().err


@pytest.mark.parametrize("given", [["--output", "old"], ["--output=old"], []])
@pytest.mark.parametrize("existing", ["--resume", "--overwrite"])
def test_the_command_that_goes_on(given, existing):
    arguments = ["run", *given, "mine.toml", existing, "--quiet", "--ranks", "3"]
    command = stopped.command_to_go_on(arguments, 3, Path("runs/a b"))
    assert command == "fedmpi run mine.toml --quiet --ranks 3 --output 'runs/a b' --resume"
    assert stopped.command_to_go_on(["run", "x", "--ranks=2"], 2, Path("o")).startswith(
        "fedmpi run x --ranks=2 "
    )
    assert stopped.command_to_go_on(["run", "x"], 1, Path("o")) == "fedmpi run x --output o --resume"


@pytest.mark.usefixtures("outside_mpi")
def test_open_mpi_is_told_to_oversubscribe(tmp_path):
    for text, expected in (
        ("mpirun (Open MPI) 4.1.4", ["--oversubscribe", "--bind-to", "none"]),
        ("HYDRA build details", []),
    ):
        mpiexec = tmp_path / "mpiexec"
        mpiexec.write_text(f"#!/bin/sh\necho '{text}'\n")
        mpiexec.chmod(0o755)
        command = launch.mpiexec_command(mpiexec, 2, ["-c", "pass"])
        assert command == [str(mpiexec), "-n", "2", *expected, sys.executable, "-P", "-c", "pass"]


@pytest.mark.usefixtures("outside_mpi")
def test_a_missing_mpiexec_is_told(monkeypatch, capsys):
    monkeypatch.setattr(launch, "find_mpiexec", lambda: None)
    assert cli.main(["run", "quickstart", "--ranks", "3"]) == 2
    assert "--ranks: no mpiexec to start 3 ranks with" in capsys.readouterr().err


def test_mpiexec_beside_python_comes_before_the_path(monkeypatch, tmp_path):
    for folder in ("environment", "path"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mpiexec").touch(mode=0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "environment" / "python"))
    assert launch.find_mpiexec() == tmp_path / "environment" / "mpiexec"
    (tmp_path / "environment" / "mpiexec").unlink()
    assert launch.find_mpiexec() == tmp_path / "path" / "mpiexec"
    (tmp_path / "path" / "mpiexec").unlink()
    assert launch.find_mpiexec() is None


def test_inside_of_a_launch_nothing_is_launched_again(experiment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PMI_SIZE", "3")
    monkeypatch.setenv("PMI_RANK", "1")
    assert cli.main(["run", "quickstart", "--ranks", "3"]) == 0
    assert not list(tmp_path.iterdir())  # preparing is for the rank that the experiment chooses
    config, _, lock = experiment.prepare(3)
    lock.release()
    assert config == load("quickstart")


@pytest.mark.usefixtures("outside_mpi")
def test_preparing_checks_the_ranks_really_started(experiment, tmp_path):
    cli.main(["run", "quickstart"])
    with pytest.raises(ConfigError, match="ranks: found 10 for 8 clients"):
        experiment.prepare(10)
    cli.main(["run", "quickstart", "--ranks", "1"])
    with pytest.raises(ConfigError, match="--ranks: found 1, but 2 were started"):
        experiment.prepare(2)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def open_mpi(monkeypatch, tmp_path):
    """Stands for Open MPI's mpiexec: ``open_mpi(script)`` says what it does but for --version."""
    for name in launch._ROOT_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(launch.os, "geteuid", lambda: 0)
    mpiexec = tmp_path / "mpiexec"
    monkeypatch.setattr(launch, "find_mpiexec", lambda: mpiexec)

    def make(script, name="mpiexec (Open MPI) 5.0.11"):
        mpiexec.write_text(f"#!/bin/bash\nif [ $1 = --version ]; then echo '{name}'; exit; fi\n{script}\n")
        mpiexec.chmod(0o755)

    return make


REFUSAL = 'echo "no root. Use --allow-run-as-root." >&2; exit 1'


@pytest.mark.usefixtures("outside_mpi")
def test_root_is_refused_in_the_launchers_words(open_mpi, monkeypatch, capsys, supervised):
    open_mpi(REFUSAL)
    assert cli.main(["run", "quickstart", "--ranks", "3"]) == 2
    error = capsys.readouterr().err
    assert "mpiexec: no root. Use --allow-run-as-root; allowed: an ordinary user, or root with " in error
    assert "OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" in error
    assert not supervised


@pytest.mark.usefixtures("outside_mpi")
@pytest.mark.parametrize("case", ["user", "allowed", "other failure", "works", "another library"])
def test_otherwise_the_launcher_decides(open_mpi, monkeypatch, supervised, case):
    open_mpi({"other failure": "exit 1", "works": "echo root"}.get(case, REFUSAL))
    if case == "user":
        monkeypatch.setattr(launch.os, "geteuid", lambda: 1000)
    if case == "allowed":
        for name in launch._ROOT_VARIABLES:
            monkeypatch.setenv(name, "1")
    if case == "another library":
        open_mpi(REFUSAL, "HYDRA build details")
    cli.main(["run", "quickstart", "--ranks", "3"])
    assert len(supervised) == 1


@pytest.mark.usefixtures("outside_mpi")
def test_half_of_the_leave_to_run_as_root_is_none(open_mpi, monkeypatch, supervised):
    open_mpi(REFUSAL)
    monkeypatch.setenv("OMPI_ALLOW_RUN_AS_ROOT", "1")
    assert cli.main(["run", "quickstart", "--ranks", "3"]) == 2
    assert not supervised


@pytest.mark.parametrize("name", ["PMI", "OMPI_COMM_WORLD", "MV2_COMM_WORLD"])
def test_the_rank_is_known_from_the_environment(name):
    assert launch.rank({f"{name}_RANK": "3", f"{name}_SIZE": "4"}) == 3
    assert launch.rank({f"{name}_RANK": "none", f"{name}_SIZE": "4"}) == 0


def test_the_rank_without_a_size():
    assert launch.rank({}) == 0
    assert launch.rank({"PMIX_RANK": "2"}) == 2
    assert launch.rank({"PMIX_RANK": "none"}) == 0


def test_the_rank_is_that_of_the_innermost_launch():
    inner = {"OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"}
    assert launch.rank({"PMI_RANK": "0", "PMI_SIZE": "1", **inner}) == 2
    step = {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "3"}
    assert launch.rank(step) == 3
    assert launch.rank({"PMIX_RANK": "9" * 5000}) == 0


def test_a_command_that_takes_too_long_is_ended_with_all_it_started():
    code, out, _ = launch.output_of(["bash", "-c", "echo begun; sleep 600 & sleep 600"], timeout_s=3.0)
    assert code is None
    assert out == "begun\n"


def test_output_of_a_command():
    assert launch.output_of(["bash", "-c", "echo a; echo b >&2; exit 3"], timeout_s=30.0) == (3, "a\n", "b\n")
    with pytest.raises(OSError, match="no-such-program"):
        launch.output_of(["/no-such-program"], timeout_s=30.0)
