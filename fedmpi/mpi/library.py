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


if not MPI.Is_initialized():
    check_library(MPI.Get_library_version(), os.environ)
    MPI.Init_thread(MPI.THREAD_MULTIPLE)
