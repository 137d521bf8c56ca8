"""What clients gather of the importance of parameters, and its exact sum when a mask is to be changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning.importance import add_squares


@dataclass(frozen=True)
class ImportanceSum:
    """``values`` float64 (D,): the sum over clients; ``left_out``: how many had values that are not finite."""

    values: NDArray[np.float64]
    left_out: int


class ClientImportance:
    """The importance of all parameters to each client since the mask was last changed, float32 (D,) each.

    It lies in ``rows``, for the clients at home in this rank's group; ``own`` are those at home on this rank. Only who
    takes part in the round in which it is asked for can send what it has gathered; after that round everybody starts
    from zero. Where participants ``may_stop_early``, what they add in a round can be taken back. With
    ``signed_gradient`` it is their gradients of the last round that they took part in, times its samples, which stand
    for importance.
    """

    def __init__(
        self,
        ranks: Ranks,
        memory: GroupMemory,
        rows: ClientVectors,
        parameters: int,
        own: range,
        may_stop_early: bool = False,
        signed_gradient: bool = False,
    ) -> None:
        self._ranks = ranks
        self._group = Ranks.of(memory.comm)
        self._rows = rows
        self._average = ExactAverage(ranks, memory, parameters)
        self._own = own
        self._carrying: set[int] = set()
        self._keeps = may_stop_early
        self._signed_gradient = signed_gradient
        self._before: dict[int, NDArray[np.float32]] = {}

    def begin(self, participants: NDArray[np.int64]) -> None:
        """A round starts; another rank of the group may have trained these clients in the one before."""
        self._group.barrier()
        self._carrying.update(participants.tolist())
        self._before.clear()

    def add(self, client: int, direction_sum: torch.Tensor, samples: int) -> None:
        """Take in a round of a client: its summed directions (D,), finite, and the samples that it processed."""
        row = self._rows.read(client)
        if self._keeps:
            self._before[client] = row.copy()
        if self._signed_gradient:
            np.multiply(direction_sum.cpu().numpy(), np.float32(samples), out=row)
        else:
            add_squares(row, direction_sum.cpu().numpy(), float(samples))
        self._rows.write(client, row)

    def take_back(self, clients: NDArray[np.int64]) -> None:
        """Of this round, ``clients`` that this rank trained leave nothing."""
        for client in clients.tolist():
            if client in self._before:
                self._rows.write(client, self._before[client])

    def gather(self, roster: Roster) -> ImportanceSum:
        """The exact sum over the accepted participants, on every rank; then all start from zero (collective)."""
        mine = roster.accepted_of(self._ranks.rank).tolist()
        self._average.begin(len(mine))
        largest = np.zeros(len(mine))
        for position, client in enumerate(mine):
            row = self._rows.read(client)
            self._average.rows[position] = torch.from_numpy(row)
            largest[position] = (
                np.abs(row).max(initial=0.0) if self._signed_gradient else row.max(initial=0.0)
            )
        counts = [len(roster.accepted_of(rank)) for rank in range(self._ranks.size)]
        gathered = self._ranks.gather_rows(largest, counts)
        bound = np.zeros(2)
        if gathered is not None:
            finite = gathered[np.isfinite(gathered)]
            bound[:] = finite.max(initial=0.0), len(finite)
        self._ranks.broadcast(bound)
        count = int(bound[1])
        ones = np.ones(len(mine), dtype=np.int64)
        mean = self._average.finish(ones, np.isfinite(largest), count, float(bound[0]))
        values = mean.numpy().astype(np.float64) * count
        self._clear()
        return ImportanceSum(values, left_out=sum(counts) - count)

    def _clear(self) -> None:
        self._group.barrier()  # everybody has taken what it needed
        on_disk, carrying = self._rows.on_disk, self._carrying
        self._rows.clear([client for client in self._own if on_disk or client in carrying])
        self._carrying.clear()

    def client_state(self, client: int) -> dict[str, np.ndarray]:
        """What a client at home on this rank carries, for a checkpoint."""
        carries = client in self._carrying and not self._rows.on_disk
        return {"importance": self._rows.read(client)} if carries else {}

    def restore_client(self, client: int, values: np.ndarray) -> None:
        """Take back what ``client_state`` gave."""
        self._rows.write(client, values)
        self._carrying.add(client)
