"""Files of the working directory: users' modules are found, and none is taken for one of the standard library."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.trace import read

SHADOWS = ("queue", "random", "numbers", "numpy", "signal", "traceback", "json")
MODEL = """from torch import nn

def make(shape, classes):
    size = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(size, classes))
"""
RUN = ["quickstart", "experiment.rounds=2", "model.name=my_model:make"]
SWEEP = """base = "quickstart"
[axes.method]
fab = {}
"""
LAUNCH_VARIABLES = ("PMI_SIZE", "PMI_RANK", "OMPI_COMM_WORLD_SIZE", "SLURM_STEP_ID")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A working directory with a user's model, and with files of the names of modules that fedmpi imports."""
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name}.py of the working directory')\n")
    (tmp_path / "my_model.py").write_text(MODEL)
    (tmp_path / "small.toml").write_text(SWEEP)
    return tmp_path


def started(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name not in LAUNCH_VARIABLES}
    environment["OMP_NUM_THREADS"] = "1"
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=240, env=environment, check=False
    )


FEDMPI = Path(sys.executable).with_name("fedmpi")
MODULE = (sys.executable, "-m", "fedmpi")


@pytest.mark.parametrize("ranks", [1, 2])
@pytest.mark.parametrize("command", [(FEDMPI,), MODULE], ids=["fedmpi", "python -m fedmpi"])
def test_run(folder: Path, command: tuple[str | Path, ...], ranks: int) -> None:
    more = ["--ranks", "2"] if ranks == 2 else []
    done = started(folder, *command, "run", *RUN, "--output", "run", "--quiet", *more)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    attributes = read(folder / "run").attributes
    assert attributes["ranks"] == ranks
    assert attributes["parameters"] == 64 * 10 + 10


@pytest.mark.parametrize("ranks", [1, 2])
def test_sweep(folder: Path, ranks: int) -> None:
    more = ["--ranks", str(ranks), "--output", "o"]
    done = started(folder, *MODULE, "sweep", "small.toml", *RUN[1:], *more)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "1 of 1 runs are complete" in done.stdout
    assert read(folder / "o" / "fab").attributes["ranks"] == ranks


def test_doctor(folder: Path) -> None:
    done = started(folder, *MODULE, "doctor")
    assert "of the working directory" not in done.stdout + done.stderr
    assert "mpiexec -n 2 gives 2 ranks" in done.stdout


def test_the_working_directory_stays_where_the_user_put_it(folder: Path) -> None:
    """``python -P`` has not put it first: the first place is another's and stays."""
    show = "import runpy, sys; sys.argv[1:] = ['--version']; before = list(sys.path)\n"
    show += "try: runpy.run_module('fedmpi', run_name='__main__')\n"
    show += "except SystemExit: print([place for place in before if place not in sys.path])"
    assert started(folder, sys.executable, "-P", "-c", show).stdout.splitlines()[-1] == "[]"
