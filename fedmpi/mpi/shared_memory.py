"""Memory that the ranks of one node share: clients' data and accumulated gradients are there once.

A node's first rank makes an anonymous memory file and the others map it through /proc, so neither the size
of /dev/shm nor a file system is in the way, pages that nobody touches cost nothing, and nothing is left behind after a
kill. Where that is not possible (other systems, ranks in separate containers) every rank is a group of its own.
"""

from __future__ import annotations

import errno
import mmap
import os
import stat

import numpy as np

from fedmpi.mpi.library import MPI

_ALIGNMENT_BYTES = 64
_TOKEN_BYTES = 16


class GroupMemory:
    """A group of ranks on one node with memory in common, or a single rank with memory of its own.

    Up to ``most`` neighbouring ranks of a node make a group; None: all of them. Alike on all ranks.
    """

    def __init__(self, comm: MPI.Comm, most: int | None = None) -> None:
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        if most is not None:
            node = node.Split(color=node.Get_rank() // most)
        self.comm = node if _can_share(node) else node.Split(color=node.Get_rank())
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
    """Whether the ranks of ``node`` can map each other's memory; the same on all of them."""
    try:
        _map(node, mmap.PAGESIZE)
    except OSError:
        return False
    return True


def _map(comm: MPI.Comm, size: int) -> mmap.mmap:
    """Map one zeroed memory file of ``size`` bytes in all ranks of ``comm``; where any cannot, all raise OSError.

    Ranks in PID namespaces of their own find some file of their own under the leader's process number: whether
    a file is the leader's is known from a random token in it.
    """
    if comm.Get_size() == 1:
        return mmap.mmap(-1, size)
    size = max(size, _TOKEN_BYTES)
    leads = comm.Get_rank() == 0
    descriptor = -1
    memory: mmap.mmap | None = None
    refused: OSError | None = None
    offer = np.zeros(
        2 + _TOKEN_BYTES // 8, dtype=np.int64
    )  # process, descriptor, token; zeros: there is none
    try:
        if leads:
            descriptor = _make(size, offer)
    except OSError as error:
        refused = error
    comm.Bcast(offer, root=0)
    try:
        if not leads:
            descriptor = _open(size, offer)
        if refused is None:
            memory = mmap.mmap(descriptor, size)
    except OSError as error:
        refused = error
    mapped = np.array([memory is not None], dtype=np.int8)
    comm.Allreduce(
        MPI.IN_PLACE, mapped, op=MPI.MIN
    )  # until then the leader's descriptor is open for the others
    if leads and memory is not None:
        memory[:_TOKEN_BYTES] = bytes(_TOKEN_BYTES)
    comm.Barrier()  # nobody writes before the token is gone
    if descriptor >= 0:
        os.close(descriptor)
    if memory is None or not mapped[0]:
        raise refused or OSError(errno.EIO, "the ranks of this node cannot map each other's memory")
    return memory


def _make(size: int, offer: np.ndarray) -> int:
    """The descriptor of a new memory file with a token at its start; ``offer`` says where to find it."""
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, "this system has no memory files")
    token = os.urandom(_TOKEN_BYTES)
    descriptor = os.memfd_create("fedmpi", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, size)
        os.pwrite(descriptor, token, 0)
    except OSError:
        os.close(descriptor)
        raise
    offer[:] = os.getpid(), descriptor, *np.frombuffer(token, dtype=np.int64)
    return descriptor


def _open(size: int, offer: np.ndarray) -> int:
    """A descriptor of the leader's memory file, or OSError where it is not what lies there."""
    path = f"/proc/{offer[0]}/fd/{offer[1]}"
    found = os.stat(path)
    if not stat.S_ISREG(found.st_mode) or found.st_size != size:  # never open a device or a pipe
        raise OSError(errno.ESTALE, "not the memory file of the first rank", path)
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    if os.pread(descriptor, _TOKEN_BYTES, 0) != offer[2:].tobytes():
        os.close(descriptor)
        raise OSError(errno.ESTALE, "not the memory file of the first rank", path)
    return descriptor
