"""Running small programs under mpiexec, always with a time limit."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Launch = Callable[..., subprocess.CompletedProcess[str]]


def find_mpiexec() -> str | None:
    beside = Path(sys.executable).with_name("mpiexec")
    return str(beside) if beside.exists() else shutil.which("mpiexec")


@pytest.fixture(scope="session")
def launch() -> Launch:
    """``launch(ranks, *arguments)`` runs ``python ARGUMENTS`` on so many ranks and returns the completed process."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        pytest.fail("mpiexec is not there: install the extra 'mpi' or an MPI of your own")

    def run(
        ranks: int,
        *arguments: str | Path,
        timeout_s: float = 240,
        check: bool = True,
        python_path: Path | None = None,
    ) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        if python_path is not None:
            environment["PYTHONPATH"] = os.pathsep.join([str(python_path), environment.get("PYTHONPATH", "")])
        command = [mpiexec, "-n", str(ranks), sys.executable, *map(str, arguments)]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=timeout_s, env=environment, check=False
        )
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)} exited with {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    return run
