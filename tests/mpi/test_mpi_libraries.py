"""MPICH and Open MPI: the same traces, each started by its own launcher alone, and fedmpi's own --ranks."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from experiments import assert_same_trace
from libraries import ROOT_VARIABLES, Mpi, both_mpis, launcher, open_mpi, this_mpi

from fedmpi import trace
from fedmpi.cli.launch import mpiexec_command

QUICKSTART = ["quickstart", "experiment.rounds=4", "experiment.evaluate_every=2", "--quiet", "--output"]


@both_mpis
def test_quickstart(mpi: Mpi, tmp_path: Path) -> None:
    """As a user starts it: fedmpi becomes the mpiexec that it finds, with more ranks than most machines have cores."""
    alone = [this_mpi().python, "-m", "fedmpi", "run", *QUICKSTART, tmp_path / "alone"]
    ranks = [mpi.python, "-m", "fedmpi", "run", *QUICKSTART, tmp_path / "ranks", "--ranks", "5"]
    for command in (alone, ranks):
        done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=mpi.environment())
        assert (done.returncode, done.stderr) == (0, "")
    assert_same_trace(tmp_path / "alone", tmp_path / "ranks")
    attributes = trace.read(tmp_path / "ranks").attributes
    assert attributes["ranks"] == 5
    assert "\0" not in attributes["mpi_library"]
    assert attributes["mpi_library"].startswith(("MPICH Version: ", "Open MPI v"))


@pytest.mark.parametrize("others", ["mpich", "openmpi"])
def test_the_launcher_of_another_library_is_refused(others: str, tmp_path: Path) -> None:
    """One line, from one rank, whether the ranks would come up as singletons or MPI would abort."""
    own, foreign = (this_mpi(), open_mpi()) if others == "openmpi" else (open_mpi(), this_mpi())
    mixed = Mpi(own.python, foreign.mpiexec, foreign.options)
    done = launcher(mixed)(3, "-m", "fedmpi", "run", *QUICKSTART, tmp_path / "run", check=False)
    assert done.returncode == 1
    assert done.stderr.count("fedmpi:") == 1
    assert "start it with the mpiexec of the MPI library that `fedmpi doctor` names" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Sorry" not in done.stderr
    assert "Abort" not in done.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="Open MPI refuses only root")
def test_root_is_refused_in_open_mpis_own_words(tmp_path: Path) -> None:
    mpi = open_mpi()
    environment = {name: value for name, value in mpi.environment().items() if name not in ROOT_VARIABLES}
    command = [mpi.python, "-m", "fedmpi", "run", *QUICKSTART, tmp_path / "run", "--ranks", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "--allow-run-as-root" in line
    assert line.endswith("root with OMPI_ALLOW_RUN_AS_ROOT=1 and OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 set")
    doctor = [mpi.python, "-m", "fedmpi", "doctor"]
    done = subprocess.run(doctor, capture_output=True, text=True, timeout=240, env=environment)
    assert done.returncode == 1
    assert "prterun has detected an attempt to run as root" in done.stdout
    assert "--allow-run-as-root" in done.stdout
    assert "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1" in done.stdout
    done = subprocess.run(doctor, capture_output=True, text=True, timeout=240, env=mpi.environment())
    assert "mpiexec -n 2 gives 2 ranks" in done.stdout


def test_no_rank_is_bound_to_one_core() -> None:
    """By default Open MPI binds a rank, and with it all of its threads, to one core; and ranks <= cores."""
    mpi = open_mpi()
    cores = len(os.sched_getaffinity(0))
    command = mpiexec_command(
        mpi.mpiexec, cores + 1, ["-c", "import os; print(len(os.sched_getaffinity(0)))"]
    )
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, env=mpi.environment())
    assert done.stdout.split() == [str(cores)] * (cores + 1), done.stderr
