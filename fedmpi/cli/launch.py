"""Finding ``mpiexec``, starting fedmpi under it, and knowing from the environment which rank this is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from fedmpi.config import ConfigError

_RANK_VARIABLES = ("PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK", "PMIX_RANK")
_OPEN_MPI_MARKS = ("Open MPI", "OpenRTE", "PRRTE", "prterun")
_MOST_DIGITS = 9
_VERSION_TIMEOUT_S = 20.0


def rank(environment: Mapping[str, str]) -> int:
    """This process's rank as its launcher says, before MPI is imported; 0 without a launcher."""
    for name in _RANK_VARIABLES:
        text = environment.get(name, "")
        if text.isdecimal() and len(text) <= _MOST_DIGITS:
            return int(text)
    return 0


def find_mpiexec() -> Path | None:
    """``mpiexec`` beside the Python in use (an MPI installed into the same environment), else from PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("mpiexec")
    return Path(found) if found else None


def mpiexec_command(mpiexec: Path, ranks: int, program: Sequence[str]) -> list[str]:
    """The command line that starts ``program`` (without Python) on ``ranks`` ranks."""
    oversubscribe = ["--oversubscribe"] if _is_open_mpi(mpiexec) else []
    return [str(mpiexec), "-n", str(ranks), *oversubscribe, sys.executable, *program]


def become_mpiexec(ranks: int, arguments: Sequence[str]) -> NoReturn:
    """Replace this process by ``mpiexec -n RANKS python -m fedmpi ARGUMENTS``, which gets its signals."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        problem = f"no mpiexec to start {ranks} ranks with, neither beside {sys.executable} nor in PATH"
        raise ConfigError(
            "--ranks", f"{problem}; install an MPI (pip install 'fedmpi[mpi]') or start with srun"
        )
    command = mpiexec_command(mpiexec, ranks, ["-m", "fedmpi", *arguments])
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def checkpoint_signal(ranks: int) -> signal.Signals:
    """What to send to ``fedmpi run --ranks RANKS`` so that it ends with a checkpoint.

    Open MPI's ``mpiexec`` passes SIGUSR2 on to the ranks, and on SIGTERM kills them; with MPICH's it is the other
    way round.
    """
    mpiexec = find_mpiexec() if ranks > 1 else None
    return signal.SIGUSR2 if mpiexec is not None and _is_open_mpi(mpiexec) else signal.SIGTERM


def output_of(command: Sequence[str], timeout_s: float) -> tuple[int | None, str, str]:
    """Exit code (None: it took longer than ``timeout_s``), stdout and stderr of a command.

    The command gets a session of its own, and all of it is ended when it takes too long. Raises OSError when
    it cannot be started.
    """
    with subprocess.Popen(
        list(command),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            out, err = process.communicate()
            return None, out, err
        return process.returncode, out, err


def _is_open_mpi(mpiexec: Path) -> bool:
    """Open MPI alone refuses more ranks than cores unless told, with a flag that others do not know."""
    try:
        _, out, err = output_of([str(mpiexec), "--version"], _VERSION_TIMEOUT_S)
    except OSError as error:
        raise ConfigError(str(mpiexec), f"cannot be run: {error.strerror}", "a working mpiexec") from None
    return any(mark in out + err for mark in _OPEN_MPI_MARKS)
