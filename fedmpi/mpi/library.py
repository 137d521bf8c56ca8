"""The MPI library: initialized when this module is imported, but only where it understands the launcher.

mpi4py initializes MPI on its first import. Under the launcher of another library that prints pages of errors, or
comes up as many processes that each believe to be alone; hence all of fedmpi takes ``MPI`` from here.
"""

from __future__ import annotations

import os

import mpi4py

from fedmpi.mpi.guards import check_library

mpi4py.rc(initialize=False, finalize=True)  # without effect where MPI is imported already
from mpi4py import MPI  # noqa: E402

__all__ = ["MPI", "library_name"]


def library_name() -> str:
    """Name and version of the MPI library in one line, e.g. "MPICH Version: 5.0.2"."""
    text = MPI.Get_library_version().replace("\0", " ").strip()  # Open MPI counts the end of C's string in
    return " ".join(text.split("\n")[0].split())


_FIRST_PID_NAMESPACE = 0xEFFF_FFFC  # PROC_PID_INIT_INO of Linux


def in_pid_namespace() -> bool:
    """Whether this process is in another PID namespace than the machine's first, as in most containers."""
    try:
        return os.stat("/proc/self/ns/pid").st_ino != _FIRST_PID_NAMESPACE
    except OSError:
        return False


if in_pid_namespace():
    # MPICH copies long messages out of the memory of the process that has the sender's number. Where ranks are
    # in PID namespaces of their own, that is another process: the message is wrong, or the run fails.
    os.environ.setdefault("MPIR_CVAR_CH4_CMA_ENABLE", "0")
if not MPI.Is_initialized():
    check_library(MPI.Get_library_version(), os.environ)
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
