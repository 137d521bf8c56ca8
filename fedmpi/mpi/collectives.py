"""What ranks say to each other: typed buffers in collectives, and waits that leave the core to others.

MPI libraries spin while they wait. Where ranks share cores, a waiting rank would burn the core that a client
trains on, so every wait here is a non-blocking collective tested with a short, growing back-off.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from fedmpi.mpi.library import MPI

MAX_MESSAGE_BYTES = 2**30
"""Buffers are cut into pieces below the 2**31 - 1 elements that MPI counts reach."""

_SPIN_S = 1e-3
_SPIN_SHARED_CORES_S = 20e-6
_FIRST_SLEEP_S = 10e-6
_LONGEST_SLEEP_S = 2e-3
_SLEEP_SHARE = 0.02
"""A sleep lasts this share of the time waited so far: what politeness adds stays a few percent of the wait."""

_PR_SET_TIMERSLACK = 29  # linux/prctl.h; in nanoseconds


class Inbox:
    """Memory to receive into: it grows to the longest message seen, and is used again."""

    def __init__(self) -> None:
        self._memory = np.empty(0, np.uint8)

    def room(self, count: int, dtype: np.dtype) -> np.ndarray:
        """An array (count,) of undefined values, valid until the next call."""
        size = count * dtype.itemsize
        if size > self._memory.size:
            self._memory = np.empty(size, np.uint8)
        return self._memory[:size].view(dtype)


class Ranks:
    """A communicator, with the few collectives that fedmpi uses; made by ``Ranks.of``.

    A wait spins for ``spin_s`` host seconds before it begins to sleep.
    ``carried_bytes`` counts the bytes of the buffers that went through the collectives since it was last reset:
    each collective's payload once, however many ranks took part, and also on a single rank, so that the figure
    does not depend on placement.
    """

    def __init__(self, comm: MPI.Comm, spin_s: float = _SPIN_S) -> None:
        self.comm = comm
        self.rank = comm.Get_rank()
        self.size = comm.Get_size()
        self.carried_bytes = 0
        self._spin_s = spin_s

    @classmethod
    def of(cls, comm: MPI.Comm) -> Ranks:
        """The ranks of ``comm``, with waits that suit how many of them share cores (collective)."""
        node = comm.Split_type(MPI.COMM_TYPE_SHARED)
        crowded = node.Get_size() > _cores(node)
        node.Free()
        _sharpen_sleep()
        return cls(comm, _SPIN_SHARED_CORES_S if crowded else _SPIN_S)

    @property
    def is_server(self) -> bool:
        return self.rank == 0

    def broadcast(self, array: np.ndarray) -> None:
        """Copy the server's contiguous ``array`` (any fixed dtype, any size) into everybody's."""
        self.carried_bytes += array.nbytes
        if self.size == 1:
            return
        flat = _as_bytes(array)
        for start in range(0, flat.size, MAX_MESSAGE_BYTES):
            self.wait(self.comm.Ibcast(flat[start : start + MAX_MESSAGE_BYTES], root=0))

    def broadcast_bytes(self, data: np.ndarray | None) -> np.ndarray:
        """The server's bytes (uint8; None: nothing) on every rank, their length before them."""
        length = np.array([0 if data is None else len(data)], dtype=np.int64)
        self.broadcast(length)
        copy = np.empty(int(length[0]), np.uint8) if data is None else data
        if len(copy):
            self.broadcast(copy)
        return copy

    def broadcast_json(self, value: Any = None) -> Any:
        """Send a JSON-able value of the server to everybody, as UTF-8 text with its length before it."""
        text = np.frombuffer(json.dumps(value).encode(), np.uint8).copy() if self.is_server else None
        return json.loads(self.broadcast_bytes(text).tobytes())

    def gather_rows(
        self, rows: np.ndarray, counts: Sequence[int], inbox: Inbox | None = None
    ) -> np.ndarray | None:
        """Concatenate every rank's rows (1-D, same dtype) in rank order on the server; other ranks return None.

        ``counts`` holds the number of rows of each rank, and every rank knows it. What lies in an ``inbox`` is valid
        until that is used again. One Gatherv of bytes, or, where the whole is too long for MPI's counts, one message
        for each piece.
        """
        total = int(sum(counts))
        self.carried_bytes += total * rows.dtype.itemsize
        if self.size == 1:
            return rows
        mine = _as_bytes(rows)
        gathered = target = None
        if self.is_server:
            gathered = np.empty(total, rows.dtype) if inbox is None else inbox.room(total, rows.dtype)
            target = _as_bytes(gathered)
        if total * rows.dtype.itemsize <= MAX_MESSAGE_BYTES:
            receive = None
            if target is not None:
                receive = [target, [count * rows.dtype.itemsize for count in counts], None, MPI.BYTE]
            self.wait(self.comm.Igatherv([mine, mine.size, MPI.BYTE], receive, root=0))
        elif target is None:
            self.send(mine, 0)
        else:
            sizes = np.asarray(counts, dtype=np.int64) * rows.dtype.itemsize
            starts = starts_of(sizes)
            target[: mine.size] = mine
            for rank in range(1, self.size):
                self.receive(target[starts[rank] : starts[rank] + sizes[rank]], rank)
        return gathered

    def add_up(self, array: np.ndarray) -> None:
        """The sum over ranks of everybody's contiguous integer ``array`` (same dtype and size), in place on each."""
        self.carried_bytes += array.nbytes
        if self.size == 1:
            return
        flat, most = array.reshape(-1), MAX_MESSAGE_BYTES // array.itemsize
        for start in range(0, flat.size, most):
            self.wait(self.comm.Iallreduce(MPI.IN_PLACE, flat[start : start + most], op=MPI.SUM))

    def scatter_rows(self, rows: np.ndarray | None, counts: Sequence[int], dtype: np.dtype) -> np.ndarray:
        """The reverse of gather_rows: hand each rank its ``counts[rank]`` rows of the server's array."""
        mine = np.empty(int(counts[self.rank]), dtype=dtype)
        self.carried_bytes += int(sum(counts)) * mine.dtype.itemsize
        if self.size == 1:
            assert rows is not None
            return rows
        sizes = np.asarray(counts, dtype=np.int64) * mine.dtype.itemsize
        send = None if rows is None else [_as_bytes(rows), sizes, starts_of(sizes), MPI.BYTE]
        self.wait(self.comm.Iscatterv(send, [_as_bytes(mine), mine.nbytes, MPI.BYTE], root=0))
        return mine

    def send(self, array: np.ndarray, rank: int) -> None:
        """Send a contiguous array of any size to one rank (set-up only)."""
        flat = _as_bytes(array)
        for start in range(0, flat.size, MAX_MESSAGE_BYTES):
            self.wait(self.comm.Isend(flat[start : start + MAX_MESSAGE_BYTES], dest=rank))

    def receive(self, array: np.ndarray, rank: int) -> None:
        """Receive what ``send`` sent."""
        flat = _as_bytes(array)
        for start in range(0, flat.size, MAX_MESSAGE_BYTES):
            self.wait(self.comm.Irecv(flat[start : start + MAX_MESSAGE_BYTES], source=rank))

    def barrier(self) -> None:
        """Wait until every rank is here."""
        if self.size > 1:
            self.wait(self.comm.Ibarrier())

    def meet(self) -> float:
        """Wait until every rank is here, and when that was by ``time.perf_counter()``: one moment for all of a machine.

        Each rank's own reading would be later by however long it took it to leave the barrier.
        """
        self.barrier()
        met_s = np.array([time.perf_counter()])
        node = self.comm.Split_type(MPI.COMM_TYPE_SHARED)
        node.Bcast(met_s, root=0)
        node.Free()
        return float(met_s[0])

    def wait(self, *requests: MPI.Request) -> None:
        """Wait for non-blocking operations, and leave the core to others meanwhile."""
        done = requests[0].Test if len(requests) == 1 else partial(MPI.Request.Testall, list(requests))
        if done():
            return
        begin = time.perf_counter()
        waited = 0.0
        while not done():
            waited = time.perf_counter() - begin
            if waited < self._spin_s:
                os.sched_yield()
            else:
                time.sleep(min(max(_FIRST_SLEEP_S, _SLEEP_SHARE * waited), _LONGEST_SLEEP_S))


def _cores(node: MPI.Comm) -> int:
    """How many cores the ranks of a node may use together (a collective call); a launcher may give each its own."""
    if not hasattr(os, "sched_getaffinity"):
        return os.cpu_count() or 1
    mine = os.sched_getaffinity(0)
    highest = np.array([max(mine)], dtype=np.int64)
    node.Allreduce(MPI.IN_PLACE, highest, op=MPI.MAX)
    used = np.zeros(int(highest[0]) + 1, dtype=np.int8)
    used[list(mine)] = 1
    node.Allreduce(MPI.IN_PLACE, used, op=MPI.MAX)
    return int(used.sum())


def _sharpen_sleep() -> None:
    """Ask Linux to wake this process within a microsecond of a sleep's end instead of the usual fifty."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, ctypes.c_ulong(1000), 0, 0, 0)


def _as_bytes(array: np.ndarray) -> np.ndarray:
    """A flat uint8 view of a contiguous array."""
    return array.reshape(-1).view(np.uint8)


def starts_of(sizes: np.ndarray) -> np.ndarray:
    """Where pieces of ``sizes`` start that lie one after the other."""
    return np.concatenate([[0], np.cumsum(sizes)[:-1]])
