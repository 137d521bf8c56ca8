"""The end of all ranks by MPI_Abort that loses nothing of what a rank printed before.

A launcher that learns of MPI_Abort ends everything, and drops what still waits in the pipes of its ranks: the message
that says why. So a rank waits until its pipes have been read.
"""

from __future__ import annotations

import array
import fcntl
import os
import stat
import sys
import termios
import time
from contextlib import suppress
from typing import NoReturn

from fedmpi.mpi.library import MPI

_READ_WITHIN_S = 5.0
"""Host seconds for a launcher to read the pipes of a rank: one that is stopped or gone does not keep the job."""
_PASS_ON_S = 0.1
"""Host seconds for what was read to reach the launcher's own output, perhaps on another node."""
_LOOK_EVERY_S = 0.002


def end_job(comm: MPI.Comm, code: int) -> NoReturn:
    """End the processes of all ranks of ``comm`` with the exit code ``code``, after what this one printed was read."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()
    wait_until_read((1, 2), _READ_WITHIN_S)
    time.sleep(_PASS_ON_S)
    comm.Abort(code)


def wait_until_read(files: tuple[int, ...], within_s: float) -> bool:
    """Wait until nothing is left in those of the open ``files`` that are pipes; False: it took ``within_s``."""
    end_s = time.monotonic() + within_s
    while any(map(_waiting_bytes, files)):
        if time.monotonic() > end_s:
            return False
        time.sleep(_LOOK_EVERY_S)
    return True


def _waiting_bytes(file: int) -> int:
    """What was written to a pipe and not yet read; 0 for what is no pipe, or closed."""
    count = array.array("i", [0])
    with suppress(OSError):
        if stat.S_ISFIFO(os.fstat(file).st_mode):
            fcntl.ioctl(file, termios.FIONREAD, count)
    return count[0]
