"""Run under mpiexec by test_collectives: every collective against what it must give, also in small pieces."""

import time
from collections.abc import Callable
from functools import partial
from unittest import mock

import numpy as np
import torch
from mpi4py import MPI

from fedmpi.mpi import collectives, mean_by_segments
from fedmpi.mpi.agreement import Refused, on_every_rank, on_server
from fedmpi.mpi.collectives import Inbox, Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.exact_sum import scale_exponent


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
    """Of everybody, on each, and its bytes counted once."""
    mine = np.arange(300, dtype=np.int32) * (ranks.rank + 1)
    ranks.carried_bytes = 0
    ranks.add_up(mine)
    assert np.array_equal(mine, np.arange(300) * (ranks.size * (ranks.size + 1) // 2))
    assert ranks.carried_bytes == 1200


def check_inbox(ranks: Ranks) -> None:
    """The same memory again, and more where more comes."""
    inbox, places = Inbox(), []
    for length in (40, 15, 40, 41):
        counts = [length + rank for rank in range(ranks.size)]
        mine = np.full(counts[ranks.rank], length + ranks.rank / 8)
        gathered = ranks.gather_rows(mine, counts, inbox)
        if gathered is not None:
            expected = np.repeat(length + np.arange(ranks.size) / 8, counts)
            assert np.array_equal(gathered, expected)
            places.append(gathered.ctypes.data)
    if ranks.is_server and ranks.size > 1:
        assert places[0] == places[1] == places[2]


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
        refused: Refused | None = None
        try:
            on_every_rank(ranks, partial(fail_on, failing), {ValueError: 2})
        except Refused as error:
            refused = error
        assert refused is not None
        assert (str(refused), refused.code) == (f"rank {failing} says no", 2)
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


def mean_of_all(updates: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """By definition: integers in units of 2**-exponent."""
    exponent = scale_exponent(float(np.abs(updates).max()), int(weights.sum()))
    units = np.rint(updates.astype(np.float64) * weights[:, None] * 2.0**exponent).astype(np.int64)
    return (units.sum(axis=0) / (weights.sum() * 2.0**exponent)).astype(np.float32)


def average_once(ranks: Ranks, average: ExactAverage, draw: np.random.Generator, revised: bool) -> None:
    """Clients of any number on any ranks, some with something that is not taken: the mean of the others."""
    clients = int(draw.integers(1, 8))
    updates = draw.standard_normal((clients, average.length)).astype(np.float32)
    updates *= np.exp2(draw.integers(-40, 1, updates.shape)).astype(np.float32)
    weights, home = draw.integers(1, 99, clients), draw.integers(0, ranks.size, clients)
    taken = draw.random(clients) < 0.8
    taken[draw.integers(0, clients)] = True
    expected = mean_of_all(updates[taken], weights[taken])
    mine = home == ranks.rank
    average.begin(int(mine.sum()))
    for row, client in enumerate(np.flatnonzero(mine).tolist()):
        average.rows[row] = torch.from_numpy(updates[client]) if taken[client] else np.nan
    most, total = float(np.abs(updates[taken]).max()), int(weights[taken].sum())

    def revise(mean: np.ndarray) -> None:
        assert ranks.is_server
        mean *= -2.0

    found = average.finish(weights[mine], taken[mine], total, most, revise if revised else None).numpy()
    assert found.tobytes() == (-2.0 * expected if revised else expected).tobytes()


def check_average(ranks: Ranks) -> None:
    """As one group, in pairs, and without memory in common: the mean by definition, bit for bit, on every rank."""
    draw = np.random.default_rng(5)  # all ranks draw alike
    for most in (None, 2, 1):
        memory = GroupMemory(ranks.comm, most)
        for length in (3, 700, 40_000):
            average = ExactAverage(ranks, memory, length)
            for trial in range(3):
                average_once(ranks, average, draw, revised=trial == 2)
            average.resize(length - 2)
            average_once(ranks, average, draw, revised=False)


def check_average_of_nothing(ranks: Ranks) -> None:
    for most in (None, 1):
        average = ExactAverage(ranks, GroupMemory(ranks.comm, most), 50)
        assert average.finish(np.empty(0, np.int64), np.empty(0, np.bool_), 0, 0.0).tolist() == [0.0] * 50


def check_average_by_short_segments(ranks: Ranks) -> None:
    """Every rank has a segment of short vectors too, or there are more ranks than values; and pieces."""
    for piece, least in ((1 << 22, 1), (1 << 22, 16), (11, 1), (100, 16)):
        with mock.patch.multiple(mean_by_segments, _SHORT=0, _PIECE=piece, _LEAST_SEGMENT=least):
            draw = np.random.default_rng(piece + least)
            for length in (1, 4, 333):
                average = ExactAverage(ranks, GroupMemory(ranks.comm, 1), length)
                for _ in range(3):
                    average_once(ranks, average, draw, revised=False)


COLLECTIVES = (
    check_broadcast,
    check_json,
    check_gather_and_scatter,
    check_sum,
    check_inbox,
    check_send,
)


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
    report(world, check_average)
    report(world, check_average_of_nothing)
    report(world, check_average_by_short_segments)
    with mock.patch.object(collectives, "MAX_MESSAGE_BYTES", 64):
        for case in COLLECTIVES:
            report(world, case, " in pieces")
    with mock.patch.object(collectives, "MAX_MESSAGE_BYTES", 20_000):
        report(world, check_average, " in pieces")
    report(world, check_meeting)
    report(world, check_agreement)
    report(world, check_shared_memory)
