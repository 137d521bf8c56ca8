"""Memory that a node's ranks share, by MPI.Win.Allocate_shared and by fedmpi: python benchmarks/shared_windows.py

Two ranks of the MPI that belongs to this Python share 256 MiB either way. Printed are the time to allocate them, what
they take before anybody touches them, the times of a first and a second write, and what is left of them in /dev/shm
after SIGKILL. Then the same with a /dev/shm of 64 MiB, as containers have it (needs root, for unshare and mount).
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

SIZE = 256 * 2**20
SMALL = "mount -t tmpfs -o size=64m tmpfs /dev/shm && exec"
WAYS = ("window", "fedmpi")


def worker(way: str, then: str) -> None:
    """On each rank: allocate, write, and with ``then`` "kill" be killed."""
    import numpy as np
    from mpi4py import MPI

    from fedmpi.mpi.shared_memory import GroupMemory

    comm = MPI.COMM_WORLD
    before = shared_bytes()
    comm.Barrier()
    begin = time.perf_counter()
    if way == "window":
        window = MPI.Win.Allocate_shared(SIZE if comm.rank == 0 else 0, 1, comm=comm)
        block: Any = window.Shared_query(0)[0]
        array = np.frombuffer(block, np.uint8, count=SIZE)
    else:
        memory = GroupMemory(comm)
        assert len(memory.groups) == 1
        array = memory.allocate((SIZE,), np.dtype(np.uint8))
    comm.Barrier()
    seconds = [time.perf_counter() - begin]
    taken = shared_bytes() - before
    for value in (1, 2):
        comm.Barrier()
        begin = time.perf_counter()
        if comm.rank == 0:
            array[:] = value
        comm.Barrier()
        seconds.append(time.perf_counter() - begin)
    assert array[-1] == 2
    if comm.rank == 0:
        allocate_ms, first_ms, second_ms = (1e3 * each for each in seconds)
        print(
            f"allocated in {allocate_ms:.1f} ms, {taken / 2**20:.0f} MiB before the first write, "
            f"which takes {first_ms:.0f} ms; a second one {second_ms:.0f} ms",
            flush=True,
        )
    comm.Barrier()
    if then == "kill":
        os.kill(os.getpid(), signal.SIGKILL)


def shared_bytes() -> int:
    """Memory of this machine in tmpfs and shared mappings."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Shmem:"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker(*arguments.worker)
        return
    mpiexec = str(Path(sys.executable).with_name("mpiexec"))
    for where, prefix in (
        ("/dev/shm as it is", []),
        ("/dev/shm of 64 MiB", ["unshare", "--mount", "sh", "-c"]),
    ):
        for way in WAYS:
            then = "end" if prefix else "kill"
            command = [
                mpiexec,
                "-n",
                "2",
                sys.executable,
                str(Path(__file__).resolve()),
                "--worker",
                way,
                then,
            ]
            if prefix:
                command = [*prefix, f'{SMALL} "$@"', "sh", *command]
            before = set(os.listdir("/dev/shm"))
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            told = [line for line in done.stdout.splitlines() if line.startswith("allocated")] or ["nothing"]
            print(f"{where}, {way}: {told[0]}; exit code {done.returncode}", flush=True)
            if not prefix:
                print(f"  left after SIGKILL: {sorted(set(os.listdir('/dev/shm')) - before)}", flush=True)


if __name__ == "__main__":
    main()
