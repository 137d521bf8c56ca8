"""The last rank says much, and ends all."""

from __future__ import annotations

import sys

from mpi4py import MPI

from fedmpi.mpi.job_end import end_job

comm = MPI.COMM_WORLD
if comm.Get_rank() == comm.Get_size() - 1:
    sys.stderr.write("a line of the last message\n" * 500)
    sys.stderr.write("the last line of the last message\n")
    end_job(comm, 7)
comm.Barrier()
