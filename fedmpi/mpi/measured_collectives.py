"""What collectives take on the ranks that there are: fedmpi's beside bare MPI's, in turn."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from fedmpi.mpi.collectives import Inbox, Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.library import MPI
from fedmpi.mpi.shared_memory import GroupMemory

_SAMPLES = 20
_WARM_UPS = 2


@dataclass(frozen=True)
class Timing:
    """Medians of the host seconds of one operation on ``values`` float32, by the rank that took longest.

    ``fedmpi_s`` is None where fedmpi does not use the operation.
    """

    operation: str
    values: int
    bare_s: float
    fedmpi_s: float | None

    @property
    def ratio(self) -> float | None:
        return None if self.fedmpi_s is None else self.fedmpi_s / self.bare_s


@dataclass(frozen=True)
class _Case:
    operation: str
    bare: Callable[[], None]
    fedmpi: Callable[[], object] | None


def measure(comm: MPI.Intracomm, lengths: Sequence[int], repeats: int) -> list[Timing]:
    """Time every operation for every length, ``repeats`` times in turn with its yardstick (collective).

    Reduce, Bcast and the exact average of one update of each rank are of vectors of ``length`` values, the average
    beside a Reduce and a Bcast; in the gathers all ranks together have so many. With memory in common the
    average is only measured where several ranks share it.
    """
    ranks = Ranks.of(comm)
    shared, alone = GroupMemory(comm), GroupMemory(comm, 1)
    together = {"no shared memory": alone}
    if len(shared.groups) < ranks.size:
        together = {"shared memory": shared, **together}
    timings = []
    for length in lengths:
        for case in _cases(ranks, together, length):
            bare_s, fedmpi_s = [], []
            for _ in range(_WARM_UPS + repeats):
                bare_s.append(_longest_s(comm, case.bare))
                fedmpi_s.append(_longest_s(comm, case.fedmpi) if case.fedmpi is not None else np.nan)
            timings.append(
                Timing(
                    case.operation,
                    length,
                    float(np.median(bare_s[_WARM_UPS:])),
                    None if case.fedmpi is None else float(np.median(fedmpi_s[_WARM_UPS:])),
                )
            )
    return timings


def _cases(ranks: Ranks, together: dict[str, GroupMemory], length: int) -> Iterator[_Case]:
    comm = ranks.comm
    mine = np.random.default_rng(ranks.rank).uniform(-1, 1, length).astype(np.float32)
    whole = np.zeros(length, np.float32)

    def reduce() -> None:
        comm.Reduce(mine, whole if ranks.is_server else None, op=MPI.SUM, root=0)

    def broadcast() -> None:
        comm.Bcast(whole, root=0)

    def reduce_and_broadcast() -> None:
        reduce()
        broadcast()

    yield _Case("Reduce", reduce, None)
    yield _Case("Bcast", broadcast, lambda: ranks.broadcast(whole))
    inbox = Inbox()
    each = length // ranks.size
    even, bounds = [each] * ranks.size, np.linspace(0, 1, ranks.size + 1) ** 2
    uneven = np.diff((length * bounds).astype(np.int64)).tolist()
    part = mine[:each]

    def gather() -> None:
        comm.Gather(part, whole[: each * ranks.size] if ranks.is_server else None, root=0)

    yield _Case("Gather", gather, lambda: ranks.gather_rows(part, even, inbox))
    rows = mine[: uneven[ranks.rank]]

    def gatherv() -> None:
        comm.Gatherv(rows, [whole, uneven] if ranks.is_server else None, root=0)

    yield _Case("Gatherv", gatherv, lambda: ranks.gather_rows(rows, uneven, inbox))
    weights, taken = np.full(1, _SAMPLES), np.ones(1, np.bool_)
    for name, memory in together.items():
        average = ExactAverage(ranks, memory, length)
        average.begin(1)
        average.rows[0] = torch.from_numpy(mine)
        finish = partial(average.finish, weights, taken, _SAMPLES * ranks.size, 1.0)
        yield _Case(f"average, {name}", reduce_and_broadcast, finish)


def _longest_s(comm: MPI.Intracomm, run: Callable[[], object]) -> float:
    """Host seconds of the rank that takes longest."""
    comm.Barrier()
    begin = time.perf_counter()
    run()
    return float(comm.allreduce(time.perf_counter() - begin, op=MPI.MAX))
