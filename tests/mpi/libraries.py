"""The MPI libraries that tests run under: this interpreter's, and Open MPI in a virtual environment of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedmpi.mpi.forkserver import stub

Launch = Callable[..., subprocess.CompletedProcess[str]]

PROJECT = Path(__file__).resolve().parents[2]
OPEN_MPI_VARIABLE = "FEDMPI_OPENMPI_PYTHON"
OPEN_MPI_OPTIONS = ("--oversubscribe", "--bind-to", "none")
ROOT_VARIABLES = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


@dataclass(frozen=True)
class Mpi:
    """A Python with an MPI library, and the mpiexec of that library."""

    python: Path
    mpiexec: Path
    options: tuple[str, ...] = ()
    variables: Mapping[str, str] = field(default_factory=dict)

    def command(self, ranks: int, *arguments: str | Path) -> list[str]:
        """The command line of ``python ARGUMENTS`` on so many ranks."""
        return [
            str(self.mpiexec),
            "-n",
            str(ranks),
            *self.options,
            str(self.python),
            *([] if str(arguments[0]).startswith("-") else ["-m", "fedmpi.mpi.forkserver"]),
            *map(str, arguments),
        ]

    def environment(self, *python_path: Path) -> dict[str, str]:
        """One thread per rank, this project's fedmpi, and leave to run as root."""
        paths = [*map(str, python_path), str(PROJECT), os.environ.get("PYTHONPATH", "")]
        found = {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, paths))}
        return {**os.environ, **found, **ROOT_VARIABLES, **self.variables}


def this_mpi() -> Mpi:
    python = Path(sys.executable)
    beside = python.with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if found is None:
        pytest.fail("mpiexec is not there: install the extra 'mpi' or an MPI of your own")
    return Mpi(python, Path(found))


def open_mpi(fork_server: str = "off") -> Mpi:
    """Open MPI, its ranks forked by ``fork_server``."""
    python = Path(os.environ.get(OPEN_MPI_VARIABLE) or PROJECT / ".venv-openmpi" / "bin" / "python")
    mpiexec = python.with_name("mpiexec")
    if not (python.exists() and mpiexec.exists()):
        pytest.skip(
            f"no Open MPI: {python} or {mpiexec} is missing; jobs/test.sh makes a virtual environment with it, "
            f"{OPEN_MPI_VARIABLE} names the Python of another one"
        )
    return Mpi(python, mpiexec, OPEN_MPI_OPTIONS, {stub.VARIABLE: fork_server})


both_mpis = pytest.mark.parametrize("mpi", ["mpich", "openmpi"], indirect=True)


def launcher(mpi: Mpi) -> Launch:
    """What ``launch`` is, for a given MPI library."""

    def run(
        ranks: int,
        *arguments: str | Path,
        timeout_s: float = 240,
        check: bool = True,
        python_path: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        command = mpi.command(ranks, *arguments)
        environment = mpi.environment(*([] if python_path is None else [python_path]))
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run
