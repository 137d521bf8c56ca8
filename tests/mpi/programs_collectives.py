"""Run under mpiexec by test_collectives: every collective against what it must give, also in small pieces."""

import numpy as np
import pytest
from mpi4py import MPI

from fedmpi.mpi import collectives
from fedmpi.mpi.agreement import Refused, on_every_rank, on_server
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory


def check_all(ranks: Ranks) -> None:
    rank, size = ranks.rank, ranks.size
    data = np.arange(1001.0) if ranks.is_server else np.zeros(1001)
    ranks.broadcast(data)
    assert np.array_equal(data, np.arange(1001.0))
    assert ranks.broadcast_json({"a": [1, "ü"]} if ranks.is_server else None) == {"a": [1, "ü"]}

    counts = [3 * r for r in range(size)]
    rows = ranks.gather_rows(np.full(3 * rank, rank, dtype=np.int32), counts)
    expected = np.repeat(np.arange(size, dtype=np.int32), counts)
    assert (rows is None) == (not ranks.is_server)
    if rows is not None:
        assert np.array_equal(rows, expected)
    mine = ranks.scatter_rows(expected if ranks.is_server else None, counts, np.dtype(np.int32))
    assert np.array_equal(mine, np.full(3 * rank, rank))

    total = np.full(1000, rank + 1, dtype=np.int64)
    ranks.reduce_sum(total)
    if ranks.is_server:
        assert (total == size * (size + 1) // 2).all()

    if size > 1:
        message = np.arange(100, dtype=np.float32) if ranks.is_server else np.zeros(100, np.float32)
        if ranks.is_server:
            ranks.send(message, size - 1)
        elif rank == size - 1:
            ranks.receive(message, 0)
            assert np.array_equal(message, np.arange(100, dtype=np.float32))
    ranks.barrier()


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


if __name__ == "__main__":
    world = Ranks.of(MPI.COMM_WORLD)
    check_all(world)
    collectives.MAX_MESSAGE_BYTES = 64
    check_all(world)
    check_agreement(world)
    check_shared_memory(world)
    if world.is_server:
        print("all good")
