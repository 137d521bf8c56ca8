"""The exact mean of what lies on several ranks: everyone makes a segment of it, and all segments go to everyone.

That is a reduce-scatter and an allgather, as in Rabenseifner, "Optimization of collective reduction operations",
ICCS 2004, but that the sums are ours: a rank with a single update sends it as it is, in half the bytes of a sum.
The messages of the first half are ours too, and the second is one non-blocking operation of few steps: between two
tests of a request a waiting rank may sleep, and Open MPI's non-blocking reductions need a test for every 16 KiB.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmpi.mpi import collectives
from fedmpi.mpi.collectives import Inbox, Ranks, starts_of
from fedmpi.mpi.library import MPI
from fedmpi.numerics.exact_sum import accumulate, mean

_PIECE = 1 << 22
"""Values of one exchange, which bounds the memory that it takes."""
_LEAST_SEGMENT = 1 << 10
"""Values of the shortest segment: among very many ranks not all get one."""
_SHORT = 1 << 14
"""Of so many values all sums go everywhere, in one Allreduce: there the number of messages counts, not their length."""

_NOTHING = 0
_SUMS = -1


@dataclass(frozen=True)
class Share:
    """What a rank has to add: ``values`` (D,), an update (float32) of ``weight`` samples or exact sums (float64).

    Sums have the weight -1. A rank without anything has the weight 0, and its values are not looked at.
    """

    values: np.ndarray
    weight: int

    @classmethod
    def of_sums(cls, values: NDArray[np.float64]) -> Share:
        return cls(values, _SUMS)

    @classmethod
    def nothing(cls) -> Share:
        return cls(np.empty(0, np.float64), _NOTHING)


class MeanBySegments:
    """The mean over ``ranks``; one for all rounds, as it keeps its receive buffer."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self._inbox = Inbox()

    def mean(self, mine: Share, exponent: int, total_weight: int, out: NDArray[np.float32]) -> None:
        """Write the mean to everybody's ``out``, contiguous float32 (D,) (collective).

        ``exponent`` and ``total_weight`` are those of all ranks, as in ``numerics.exact_sum``. Sums in ``mine`` may be
        overwritten.
        """
        if out.size <= min(_SHORT, collectives.MAX_MESSAGE_BYTES // 8):
            self._mean_of_short(mine, exponent, total_weight, out)
            return
        weights = np.zeros(self._ranks.size, np.int64)
        weights[self._ranks.rank] = mine.weight
        self._share(weights, np.full(self._ranks.size, weights.itemsize))
        most = max(1, min(_PIECE, collectives.MAX_MESSAGE_BYTES // 8))
        for start in range(0, out.size, most):
            piece = slice(start, min(start + most, out.size))
            starts, counts = self._segments(piece.stop - piece.start)
            updates, sums = self._exchange(mine, start, starts, counts, weights)
            first = start + starts[self._ranks.rank]
            own = out[first : first + counts[self._ranks.rank]]
            mean(updates, weights[weights > 0], sums, exponent, total_weight, own)
            self._share(out[piece], counts * out.itemsize)

    def _mean_of_short(self, mine: Share, exponent: int, total_weight: int, out: NDArray[np.float32]) -> None:
        updates = [mine.values] if mine.weight > 0 else []
        sums = mine.values if mine.weight == _SUMS else np.empty(out.size, np.float64)
        if mine.weight != _SUMS:
            accumulate(updates, np.full(len(updates), mine.weight), exponent, sums)
        self._ranks.wait(self._ranks.comm.Iallreduce(MPI.IN_PLACE, sums, op=MPI.SUM))  # exact in any order
        mean([], np.empty(0, np.int64), [sums], exponent, total_weight, out)

    def _segments(self, length: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the segment of each rank starts, and how many values it has."""
        each = -(-length // (self._ranks.size * _LEAST_SEGMENT)) * _LEAST_SEGMENT
        bounds = np.minimum(np.arange(self._ranks.size + 1) * each, length)
        return bounds[:-1], np.diff(bounds)

    def _exchange(
        self,
        mine: Share,
        start: int,
        starts: NDArray[np.int64],
        counts: NDArray[np.int64],
        weights: NDArray[np.int64],
    ) -> tuple[list[NDArray[np.float32]], list[NDArray[np.float64]]]:
        """Hand everybody its segment of ``mine``: the updates and the sums (n,) of this rank's, in order of ranks."""
        rank, comm = self._ranks.rank, self._ranks.comm
        length = int(counts[rank])
        updates, sums = np.flatnonzero(weights > 0), np.flatnonzero(weights == _SUMS)
        inbox = self._inbox.room(length * (8 * len(sums) + 4 * len(updates)), np.dtype(np.uint8))
        split = 8 * len(sums) * length  # sums before updates, so that both are aligned
        of_sums = list(inbox[:split].view(np.float64).reshape(len(sums), length))
        of_updates = list(inbox[split:].view(np.float32).reshape(len(updates), length))
        requests = []
        for sources, places in ((sums.tolist(), of_sums), (updates.tolist(), of_updates)):
            for number, source in enumerate(sources):
                if source == rank:
                    places[number] = mine.values[start + starts[rank] :][:length]
                elif length:
                    requests.append(comm.Irecv([places[number].view(np.uint8), MPI.BYTE], source))
        if mine.weight != _NOTHING:
            for target in np.flatnonzero(counts).tolist():
                if target != rank:
                    segment = mine.values[start + starts[target] :][: counts[target]]
                    requests.append(comm.Isend([segment.view(np.uint8), MPI.BYTE], target))
        if requests:
            self._ranks.wait(*requests)
        return of_updates, of_sums

    def _share(self, array: np.ndarray, sizes: NDArray[np.int64]) -> None:
        """Give everybody the bytes (``sizes`` of each rank) that each rank has made of its own ``array``."""
        data = array.view(np.uint8)
        everybody = [data, sizes, starts_of(sizes), MPI.BYTE]
        self._ranks.wait(self._ranks.comm.Iallgatherv(MPI.IN_PLACE, everybody))
