"""Memory that the ranks of one node share: clients' data and accumulated gradients are there once.

A node's first rank makes an anonymous memory file and the others map it through /proc, so neither the size
of /dev/shm nor a file system is in the way, pages that nobody touches cost nothing, and nothing is left behind after a
kill. Where that is not possible (other systems, ranks in separate containers) every rank is a group of its own.
"""

from __future__ import annotations

import mmap
import os

import numpy as np

from fedmpi.mpi.library import MPI

_ALIGNMENT_BYTES = 64


class GroupMemory:
    """A group of ranks on one node with memory in common, or a single rank with memory of its own.

    Up to ``most`` neighbouring ranks of a node make a group; None: all of them. Alike on all ranks.
    """

    def __init__(self, comm: MPI.Comm, most: int | None = None) -> None:
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        if most is not None:
            node = node.Split(color=node.Get_rank() // most)
        works = np.array([_can_share(node)], dtype=np.int8)
        node.Allreduce(MPI.IN_PLACE, works, op=MPI.MIN)
        self.comm = node if works[0] else comm.Split(color=comm.Get_rank())
        """The communicator of the group; its rank 0 leads."""
        members = np.full(comm.Get_size(), -1, dtype=np.int64)
        mine = np.array([comm.Get_rank()], dtype=np.int64)
        leader = mine.copy()
        self.comm.Bcast(leader, root=0)
        comm.Allgather(leader, members)
        self.groups = tuple(
            tuple(int(rank) for rank in np.flatnonzero(members == first)) for first in np.unique(members)
        )
        """The ranks of every group of the run, ordered by their first rank."""

    @property
    def leads(self) -> bool:
        return bool(self.comm.Get_rank() == 0)

    def allocate(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """A zeroed C-contiguous array seen by the whole group (a collective call). Untouched pages take no memory."""
        size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
        memory = _map(self.comm, max(size, 1))
        return np.frombuffer(memory, dtype=dtype, count=int(np.prod(shape, dtype=np.int64))).reshape(shape)

    def allocate_rows(self, rows: int, length: int) -> np.ndarray:
        """A zeroed float32 array (rows, length) whose rows all start on 64-byte boundaries."""
        per_line = _ALIGNMENT_BYTES // 4
        padded = -(-length // per_line) * per_line
        return self.allocate((rows, padded), np.dtype(np.float32))[:, :length]


def _can_share(node: MPI.Comm) -> bool:
    if not hasattr(os, "memfd_create"):
        return bool(node.Get_size() == 1)
    try:
        _map(node, mmap.PAGESIZE)
    except OSError:
        return False
    return True


def _map(comm: MPI.Comm, size: int) -> mmap.mmap:
    """Map one anonymous memory file of ``size`` bytes in all ranks of ``comm``; raises OSError where refused."""
    if comm.Get_size() == 1:
        return mmap.mmap(-1, size)
    address = np.zeros(2, dtype=np.int64)
    descriptor = -1
    if comm.Get_rank() == 0:
        descriptor = os.memfd_create("fedmpi", os.MFD_CLOEXEC)
        os.ftruncate(descriptor, size)
        address[:] = os.getpid(), descriptor
    comm.Bcast(address, root=0)
    refused: OSError | None = None
    if comm.Get_rank() != 0:
        try:
            descriptor = os.open(f"/proc/{address[0]}/fd/{address[1]}", os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            refused = error
    comm.Barrier()  # the leader's descriptor must stay open until everybody has its own
    if refused is not None:
        raise refused
    memory = mmap.mmap(descriptor, size)
    os.close(descriptor)
    return memory
