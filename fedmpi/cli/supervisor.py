"""``mpiexec`` as a child that gets signals as it passes them on to the ranks, and that ends with this process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from fedmpi.cli.forwarding import forwarded_output
from fedmpi.config.errors import BAD_CONFIGURATION, FAILED, PREEMPTED
from fedmpi.mpi.stop_signals import SignalFlag

STARTED_VARIABLE = "FEDMPI_STARTED_FILE"

_OWN_CODES = (0, BAD_CONFIGURATION, PREEMPTED)
"""Exit codes of ranks with a meaning; a launcher may end with others, such as the number of a signal."""

_POLL_S = 0.05
_START_S = 15.0
"""Host seconds after which ranks count as started where their sign is not seen: rank 0 may be on another machine."""
_PATIENCE_S = 10.0
"""Host seconds for a launcher to end its ranks before it is killed."""

_END_WITH_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, int(sys.argv[2]))  # PR_SET_PDEATHSIG, which outlasts exec
if os.getppid() == int(sys.argv[1]):
    os.execvp(sys.argv[3], sys.argv[3:])
"""


def supervise(command: Sequence[str], ask: signal.Signals, flag: SignalFlag) -> int:
    """Run a launcher until it ends; its exit code, 128 + n where signal n ended it or insisted on the end.

    Exit codes that have no meaning here become 1. When ``flag`` is set the launcher gets ``ask``, which it passes on to
    its ranks, yet not before they can take it: they are started when a file named by ``STARTED_VARIABLE`` exists.
    When the flag is set and its sender insists, all is ended at once. The launcher has a session of its own, out of
    reach of a terminal's Ctrl-C; on Linux it does not outlive this process, however that ends.
    """
    end = _ending_signal(ask)
    flag.ends_process = False
    try:
        with tempfile.TemporaryDirectory(prefix="fedmpi-") as folder:
            started = Path(folder) / "started"
            with forwarded_output() as (out, err):
                process = subprocess.Popen(
                    [*_ending_with_this_process(end), *command],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    env={**os.environ, STARTED_VARIABLE: str(started)},
                    start_new_session=True,
                )
                try:
                    return _watch(process, ask, end, flag, started)
                finally:
                    _end(process, end)
    finally:
        flag.ends_process = True


def announce_start(environment: Mapping[str, str]) -> None:
    """Tell the supervisor, if there is one on this machine, that all ranks take signals; rank 0 alone calls it."""
    path = environment.get(STARTED_VARIABLE, "")
    if path and Path(path).parent.is_dir():
        Path(path).touch()


def _watch(
    process: subprocess.Popen[bytes],
    ask: signal.Signals,
    end: signal.Signals,
    flag: SignalFlag,
    started: Path,
) -> int:
    began_s = time.monotonic()
    asked = False
    while process.poll() is None:
        if flag.insisted:
            _end(process, end)
            return 128 + flag.insisted
        if flag.set and not asked and (started.exists() or time.monotonic() - began_s > _START_S):
            process.send_signal(ask)
            asked = True
        time.sleep(_POLL_S)
    code = process.returncode
    if code < 0:
        return 128 - code
    return code if code in _OWN_CODES or code > 128 else FAILED


def _ending_signal(ask: signal.Signals) -> signal.Signals:
    """What makes a launcher end its ranks at once.

    Open MPI's does so on SIGTERM, and leaves them alone when it is killed. MPICH's passes SIGTERM on; when it is
    killed, its helper processes end the ranks.
    """
    return signal.SIGKILL if ask == signal.SIGTERM else signal.SIGTERM


def _end(process: subprocess.Popen[bytes], end: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(end)
        try:
            process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ending_with_this_process(end: signal.Signals) -> list[str]:
    """What stands before a command so that the kernel sends it ``end`` when this process has gone."""
    if sys.platform != "linux":
        return []
    return [sys.executable, "-I", "-S", "-c", _END_WITH_PARENT, str(os.getpid()), str(int(end))]
