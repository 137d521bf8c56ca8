"""Finding ``mpiexec``, starting fedmpi under it, and knowing from the environment which rank this is."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmpi.cli.failure_reason import failure_reason
from fedmpi.cli.supervisor import supervise
from fedmpi.config import ConfigError
from fedmpi.experiment.progress import TERMINAL_VARIABLE
from fedmpi.mpi.guards import innermost_launch
from fedmpi.mpi.stop_signals import SignalFlag

_ROOT_VARIABLES = ("OMPI_ALLOW_RUN_AS_ROOT", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM")
ROOT_ALLOWED = f"an ordinary user, or root with {' and '.join(f'{name}=1' for name in _ROOT_VARIABLES)} set"
"""Whom Open MPI's mpiexec starts programs for."""
_OPEN_MPI_MARKS = ("Open MPI", "OpenRTE", "PRRTE", "prterun")
_MOST_DIGITS = 9
_VERSION_TIMEOUT_S = 20.0


def rank(environment: Mapping[str, str]) -> int:
    """This process's rank as its launcher says, before MPI is imported; 0 without a launcher."""
    launch = innermost_launch(environment)
    if launch is not None:
        return launch.index
    pmix = environment.get("PMIX_RANK", "")
    return int(pmix) if pmix.isdecimal() and len(pmix) <= _MOST_DIGITS else 0


def find_mpiexec() -> Path | None:
    """``mpiexec`` beside the Python in use (an MPI installed into the same environment), else from PATH."""
    beside = Path(sys.executable).parent / "mpiexec"
    if beside.is_file() and os.access(beside, os.X_OK):
        return beside
    found = shutil.which("mpiexec")
    return Path(found) if found else None


def python_command(*arguments: str) -> list[str]:
    """The command line of the Python in use with ``arguments``, such as "-m" and a module.

    -P: ``-m`` and ``-c`` would search the working directory first, where a file queue.py or random.py would be
    taken for the standard library's.
    """
    return [sys.executable, "-P", *arguments]


def mpiexec_command(mpiexec: Path, ranks: int, arguments: Sequence[str]) -> list[str]:
    """The command line that starts Python with ``arguments`` on ``ranks`` ranks.

    Open MPI would refuse more ranks than cores, and would bind each rank, with all of its threads, to one core.
    """
    options = ["--oversubscribe", "--bind-to", "none"] if _is_open_mpi(mpiexec) else []
    return [str(mpiexec), "-n", str(ranks), *options, *python_command(*arguments)]


def run_under_mpiexec(ranks: int, arguments: Sequence[str], flag: SignalFlag) -> int:
    """Run ``mpiexec -n RANKS python -m fedmpi ARGUMENTS`` and return its exit code; ``flag`` asks it to stop."""
    mpiexec = find_mpiexec()
    if mpiexec is None:
        problem = f"no mpiexec to start {ranks} ranks with, neither beside {sys.executable} nor in PATH"
        raise ConfigError(
            "--ranks", f"{problem}; install an MPI (pip install 'fedmpi[mpi]') or start with srun"
        )
    command = mpiexec_command(mpiexec, ranks, ["-m", "fedmpi", *arguments])
    _check_root(mpiexec)
    os.environ.update(terminal_environment())
    sys.stdout.flush()
    sys.stderr.flush()
    return supervise(command, checkpoint_signal(ranks), flag)


def terminal_environment() -> dict[str, str]:
    """What says to ranks, whose output goes through a pipe of ``mpiexec``, that it ends at a terminal, and how wide."""
    if sys.stdout is None or not sys.stdout.isatty():
        return {}
    return {TERMINAL_VARIABLE: str(shutil.get_terminal_size().columns)}


def _check_root(mpiexec: Path) -> None:
    """Raise ConfigError where the launcher refuses root, as Open MPI does without two environment variables."""
    allowed_already = all(os.environ.get(name) == "1" for name in _ROOT_VARIABLES)
    if os.geteuid() != 0 or allowed_already or not _is_open_mpi(mpiexec):
        return
    code, out, err = output_of([str(mpiexec), "-n", "1", "true"], _VERSION_TIMEOUT_S)
    if code != 0 and "root" in out + err:
        raise ConfigError(str(mpiexec), failure_reason(err or out).rstrip("."), ROOT_ALLOWED)


def checkpoint_signal(ranks: int) -> signal.Signals:
    """What ``mpiexec`` is sent so that its ranks end with a checkpoint.

    Open MPI's ``mpiexec`` passes SIGUSR2 on to the ranks, and on SIGTERM kills them; with MPICH's and Intel MPI's
    it is the other way round.
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
    """Whether it is Open MPI's, whose options others do not know."""
    try:
        _, out, err = output_of([str(mpiexec), "--version"], _VERSION_TIMEOUT_S)
    except OSError as error:
        raise ConfigError(str(mpiexec), f"cannot be run: {error.strerror}", "a working mpiexec") from None
    return any(mark in out + err for mark in _OPEN_MPI_MARKS)
