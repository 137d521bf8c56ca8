"""Run under mpiexec by test_collectives: every collective against what it must give, also in small pieces."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from mpi4py import MPI

from fedmpi.mpi import collectives
from fedmpi.mpi.agreement import Refused, on_every_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory


def check_broadcast(ranks: Ranks) -> None:
    data = np.arange(1001.0) if ranks.is_server else np.zeros(1001)
    ranks.broadcast(data)
    assert np.array_equal(data, np.arange(1001.0))
    sent = np.arange(200, dtype=np.uint8)
    assert np.array_equal(ranks.broadcast_bytes(sent if ranks.is_server else None), sent)
    assert len(ranks.broadcast_bytes(None)) == 0


def check_json(ranks: Ranks) -> None:
    assert ranks.broadcast_json({"a": [1, "ü"]} if ranks.is_server else None) == {"a": [1, "ü"]}


def check_gather_and_scatter(ranks: Ranks) -> None:
    rank, size = ranks.rank, ranks.size
    counts = [3 * r for r in range(size)]
    rows = ranks.gather_rows(np.full(3 * rank, rank, dtype=np.int32), counts)
    expected = np.repeat(np.arange(size, dtype=np.int32), counts)
    assert (rows is None) == (not ranks.is_server)
    if rows is not None:
        assert np.array_equal(rows, expected)
    mine = ranks.scatter_rows(expected if ranks.is_server else None, counts, np.dtype(np.int32))
    assert np.array_equal(mine, np.full(3 * rank, rank))


def check_sum(ranks: Ranks) -> None:
    total = np.full(1000, ranks.rank + 1, dtype=np.int64)
    ranks.reduce_sum(total)
    if ranks.is_server:
        assert (total == ranks.size * (ranks.size + 1) // 2).all()


def check_send(ranks: Ranks) -> None:
    last = ranks.size - 1
    message = np.arange(100, dtype=np.float32)
    if ranks.is_server and last:
        ranks.send(message, last)
    elif ranks.rank == last:
        received = np.zeros(100, np.float32)
        if last:
            ranks.receive(received, 0)
            assert np.array_equal(received, message)
    ranks.barrier()


def check_meeting(ranks: Ranks) -> None:
    """It is when the last rank came, and one moment for all of a machine."""
    time.sleep(0.02 * ranks.rank)
    came_s = np.array([time.perf_counter()])
    met_s = np.array([ranks.meet()])
    every = ranks.comm.allgather((came_s[0], met_s[0]))
    assert len({met for _, met in every}) == 1
    assert max(came for came, _ in every) <= met_s[0] <= time.perf_counter()


def check_agreement(ranks: Ranks) -> None:
    def fail_on(failing: int) -> int:
        if ranks.rank == failing:
            raise ValueError(f"rank {failing} says no")
        return 7

    for failing in range(ranks.size):
        with pytest.raises(Refused, match=f"^rank {failing} says no$") as refused:
            on_every_rank(ranks, lambda failing=failing: fail_on(failing), {ValueError: 2})
        assert refused.value.code == 2
    assert on_every_rank(ranks, lambda: fail_on(-1), {ValueError: 2}) == 7
    assert on_server(ranks, lambda: 5, {ValueError: 2}) == (5 if ranks.is_server else None)


def check_shared_memory(ranks: Ranks) -> None:
    memory = GroupMemory(ranks.comm)
    assert sorted(rank for group in memory.groups for rank in group) == list(range(ranks.size))
    array = memory.allocate_rows(3, 21)
    assert not array.any()
    assert all(row.ctypes.data % 64 == 0 for row in array)
    ranks.barrier()
    group = next(group for group in memory.groups if ranks.rank in group)
    if ranks.rank == group[-1]:
        array[1] = 4.0
    ranks.barrier()
    assert (array[1] == 4.0).all()
    assert not array[0].any()
    assert not array[2].any()


COLLECTIVES = (check_broadcast, check_json, check_gather_and_scatter, check_sum, check_send)


def report(ranks: Ranks, check: Callable[[Ranks], None], how: str = "") -> None:
    """Run a case, and let the server say what it came to: the first rank's error that there is."""
    error = ""
    try:
        check(ranks)
    except AssertionError as failed:
        error = f"rank {ranks.rank}: {failed!r}"
    errors = [each for each in ranks.comm.allgather(error) if each]
    if ranks.is_server:
        name = check.__name__.removeprefix("check_") + how
        print(f"{name}: {errors[0] if errors else 'right on every rank'}")


if __name__ == "__main__":
    world = Ranks.of(MPI.COMM_WORLD)
    for case in COLLECTIVES:
        report(world, case)
    collectives.MAX_MESSAGE_BYTES = 64
    for case in COLLECTIVES:
        report(world, case, " in pieces")
    report(world, check_meeting)
    report(world, check_agreement)
    report(world, check_shared_memory)
