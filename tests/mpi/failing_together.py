"""The end of a program under mpiexec in which a check fails: on all ranks, with the traceback of who saw it."""

import traceback
from collections.abc import Callable

from mpi4py import MPI


def run_checked(check: Callable[[list[str]], None], arguments: list[str]) -> None:
    """Call ``check(arguments)`` on this rank; whatever it raises ends all ranks."""
    try:
        check(arguments)
    except BaseException:
        if MPI.COMM_WORLD.Get_size() > 1:
            traceback.print_exc()
            MPI.COMM_WORLD.Abort(1)
        raise
