"""Run under mpiexec by test_shared_memory: what other ranks see of shared memory, and ranks that cannot share it."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from unittest import mock

import numpy as np
import pytest
from failing_together import run_checked
from mpi4py import MPI

from fedmpi.mpi import collectives, shared_memory
from fedmpi.mpi.shared_memory import GroupMemory

WORLD = MPI.COMM_WORLD
RANK, SIZE = WORLD.Get_rank(), WORLD.Get_size()
ALONE = tuple((rank,) for rank in range(SIZE))


def check_sharing(memory: GroupMemory) -> None:
    """Arrays are zero at first, of the size asked for, and what one rank of a group writes, all of it see."""
    members = memory.groups[[RANK in group for group in memory.groups].index(True)]
    assert memory.comm.Get_size() == len(members)
    assert memory.leads == (members[0] == RANK)
    for shape, dtype in (((0,), np.int8), ((3,), np.int8), ((5, 700), np.float64)):
        array = memory.allocate(shape, np.dtype(dtype))
        assert (array.shape, array.dtype) == (shape, dtype)
        assert not array.any()
        WORLD.Barrier()
        for writer in range(SIZE):
            if writer == RANK:
                array[...] = writer + 1
            WORLD.Barrier()
            last = max(member for member in members if member <= writer) if members[0] <= writer else None
            assert (array == (0 if last is None else last + 1)).all()
            WORLD.Barrier()


@contextmanager
def other_file(rank: int, size: int, content: bytes) -> Iterator[None]:
    """On ``rank``, as in a PID namespace of its own: another file lies where the first rank's is said to be."""
    decoy = os.memfd_create("decoy")
    os.ftruncate(decoy, size)
    os.pwrite(decoy, content, 0)
    real_stat, real_open = os.stat, os.open

    def other_stat(path: str) -> os.stat_result:
        return os.fstat(decoy) if str(path).startswith("/proc/") else real_stat(path)

    def other_open(path: str, flags: int) -> int:
        return os.dup(decoy) if str(path).startswith("/proc/") else real_open(path, flags)

    try:
        if rank == RANK:
            with mock.patch.object(os, "stat", other_stat), mock.patch.object(os, "open", other_open):
                yield
        else:
            yield
    finally:
        os.close(decoy)


@contextmanager
def refusing(rank: int, function: str) -> Iterator[None]:
    """On ``rank``, ``os.function`` raises OSError."""

    def refuse(*arguments: object) -> None:
        raise OSError(13, "no")

    with mock.patch.object(os, function, refuse) if rank == RANK else nullcontext():
        yield


def check_own_namespaces() -> None:
    """Whatever a rank finds instead of the leader's memory: all ranks of the node are groups of one."""
    page = shared_memory.mmap.PAGESIZE
    gc.collect()
    open_before = os.listdir("/proc/self/fd")
    for rank in (SIZE - 1, 1):
        for size, content in ((page, b""), (page, b"x" * 16), (page - 1, b""), (page + 1, b"")):
            with other_file(rank, size, content):
                memory = GroupMemory(WORLD)
            assert memory.groups == ALONE
            check_sharing(memory)
    for rank, function in ((1, "stat"), (1, "open"), (0, "memfd_create"), (0, "ftruncate"), (0, "pwrite")):
        with refusing(rank, function):
            memory = GroupMemory(WORLD)
        assert memory.groups == ALONE
        check_sharing(memory)
    token = b"known to both..."
    for size in (page - 1, page + 1):  # even with the token
        with (
            mock.patch.object(os, "urandom", lambda count: token[:count]),
            other_file(SIZE - 1, size, token),
        ):
            assert GroupMemory(WORLD).groups == ALONE
    with (
        mock.patch.object(os, "urandom", lambda count: token[:count]),
        other_file(SIZE - 1, page, token),
    ):
        assert len(GroupMemory(WORLD).groups) == 1  # the stand-in is accepted: the checks above do look at it
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(open_before)


def check_later_failure() -> None:
    """Memory that fails later fails on all ranks alike."""
    memory = GroupMemory(WORLD)
    assert len(memory.groups) == 1
    for rank, function in ((SIZE - 1, "open"), (0, "memfd_create")):
        with refusing(rank, function), pytest.raises(OSError, match=r"no|cannot map each other's memory"):
            memory.allocate((10,), np.dtype(np.int8))
        WORLD.Barrier()


def check_two_nodes() -> None:
    """A node whose ranks cannot share does not keep those of another from it."""
    half = SIZE // 2

    class TwoNodes(MPI.Intracomm):
        def Split_type(self, kind: int) -> MPI.Intracomm:
            return self.Split(color=int(half <= RANK))

    with refusing(half, "memfd_create"):
        memory = GroupMemory(TwoNodes(WORLD))
    assert memory.groups == (tuple(range(half)), *ALONE[half:])
    check_sharing(memory)


def check_cores() -> None:
    """Ranks on cores of their own have all of these together; ranks on the same core have one."""
    cores = sorted(os.sched_getaffinity(0))
    for own, expected in ((cores[RANK % len(cores)], min(SIZE, len(cores))), (cores[-1], 1)):
        with mock.patch.object(os, "sched_getaffinity", lambda process, own=own: {own}):
            assert collectives._cores(WORLD) == expected
    assert collectives._cores(WORLD) == len(cores)


def check(arguments: list[str]) -> None:
    memory = GroupMemory(WORLD)
    assert memory.groups == (tuple(range(SIZE)),)
    check_sharing(memory)
    check_cores()
    if SIZE > 1:
        check_own_namespaces()
        check_later_failure()
    if SIZE > 3:
        check_two_nodes()
    WORLD.Barrier()
    if RANK == 0:
        print("all good")


if __name__ == "__main__":
    run_checked(check, sys.argv[1:])
