"""A ring of heartbeats around what ranks do for longer than the timeout of 1 s."""

from __future__ import annotations

import signal
import sys
import time

from failing_together import run_checked
from mpi4py import MPI

from fedmpi.mpi.agreement import Refused
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.heartbeat import Heartbeat

TIMEOUT_S = 1.0


def compute(seconds: float) -> None:
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(1000))


def check(arguments: list[str]) -> None:
    del arguments
    ranks = Ranks.of(MPI.COMM_WORLD)
    with Heartbeat(ranks, TIMEOUT_S):
        if ranks.rank == 0:
            compute(2.5)
        elif ranks.rank == 1:
            time.sleep(2.5)
        ranks.barrier()
        compute(0.2 * ranks.rank)
    try:
        with Heartbeat(ranks, TIMEOUT_S):
            raise Refused("alike on all ranks", 2)
    except Refused:
        pass
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    print("left in order", flush=True)


if __name__ == "__main__":
    run_checked(check, sys.argv[1:])
