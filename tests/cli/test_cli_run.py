"""What ``fedmpi run`` hands over: to ``mpiexec``, or to the experiment."""

import sys
from types import SimpleNamespace

import pytest

from fedmpi.cli import launch
from fedmpi.cli import main as cli
from fedmpi.config import ConfigError, load

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
    given = SimpleNamespace(code=0)

    def main(prepare, *, resume, quiet):
        given.prepare, given.flags = prepare, (resume, quiet)
        return given.code

    module = SimpleNamespace(main=main)
    monkeypatch.setitem(sys.modules, "fedmpi.experiment.main", module)
    return given


@pytest.fixture
def executed(monkeypatch):
    """The command that would have replaced this process."""
    commands = []

    class Replaced(Exception):
        pass

    def execv(program, command):
        commands.append(command)
        raise Replaced

    monkeypatch.setattr(launch.os, "execv", execv)
    return commands


@pytest.mark.usefixtures("outside_mpi")
def test_one_rank_runs_here(experiment, tmp_path):
    experiment.code = 75
    assert cli.main(["run", "quickstart", "experiment.seed=4", "--quiet", "--resume"]) == 75
    assert experiment.flags == (True, True)
    config, output = experiment.prepare(1)
    assert config == load("quickstart", ["experiment.seed=4"])
    assert str(output) == "runs/quickstart-4"
    assert (tmp_path / output).is_dir()


@pytest.mark.usefixtures("outside_mpi")
def test_several_ranks_become_mpiexec_with_the_same_arguments(executed, monkeypatch, tmp_path):
    monkeypatch.setattr(launch, "find_mpiexec", lambda: tmp_path / "mpiexec")
    monkeypatch.setattr(launch, "_is_open_mpi", lambda mpiexec: False)
    arguments = ["run", "quickstart", "--ranks", "3", "experiment.seed=4", "--output", "o"]
    cli.main(arguments)
    (command,) = executed
    assert command == [str(tmp_path / "mpiexec"), "-n", "3", sys.executable, "-m", "fedmpi", *arguments]
    assert not list(tmp_path.iterdir())


@pytest.mark.usefixtures("outside_mpi")
def test_open_mpi_is_told_to_oversubscribe(tmp_path):
    for text, expected in (("mpirun (Open MPI) 4.1.4", ["--oversubscribe"]), ("HYDRA build details", [])):
        mpiexec = tmp_path / "mpiexec"
        mpiexec.write_text(f"#!/bin/sh\necho '{text}'\n")
        mpiexec.chmod(0o755)
        command = launch.mpiexec_command(mpiexec, 2, ["-c", "pass"])
        assert command == [str(mpiexec), "-n", "2", *expected, sys.executable, "-c", "pass"]


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


@pytest.mark.usefixtures("executed")
def test_inside_of_a_launch_nothing_is_launched_again(experiment, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PMI_SIZE", "3")
    monkeypatch.setenv("PMI_RANK", "1")
    assert cli.main(["run", "quickstart", "--ranks", "3"]) == 0
    assert not list(tmp_path.iterdir())  # preparing is for the rank that the experiment chooses
    assert experiment.prepare(3)[0] == load("quickstart")


@pytest.mark.usefixtures("outside_mpi")
def test_preparing_checks_the_ranks_really_started(experiment, tmp_path):
    cli.main(["run", "quickstart"])
    with pytest.raises(ConfigError, match="ranks: found 10 for 8 clients"):
        experiment.prepare(10)
    cli.main(["run", "quickstart", "--ranks", "1"])
    with pytest.raises(ConfigError, match="--ranks: found 1, but 2 were started"):
        experiment.prepare(2)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["PMI_RANK", "OMPI_COMM_WORLD_RANK", "PMIX_RANK"])
def test_the_rank_is_known_from_the_environment(name):
    assert launch.rank({}) == 0
    assert launch.rank({name: "3"}) == 3
    assert launch.rank({name: "none"}) == 0
    assert launch.rank({name: "9" * 5000}) == 0


def test_a_command_that_takes_too_long_is_ended_with_all_it_started():
    code, out, _ = launch.output_of(["bash", "-c", "echo begun; sleep 600 & sleep 600"], timeout_s=1.0)
    assert code is None
    assert out == "begun\n"


def test_output_of_a_command():
    assert launch.output_of(["bash", "-c", "echo a; echo b >&2; exit 3"], timeout_s=30.0) == (3, "a\n", "b\n")
    with pytest.raises(OSError, match="no-such-program"):
        launch.output_of(["/no-such-program"], timeout_s=30.0)
