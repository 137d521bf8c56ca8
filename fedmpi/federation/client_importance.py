"""What clients gather of the importance of parameters, and its exact sum when a mask is to be changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.exchange import Roster
from fedmpi.federation.importance_pairs import ImportanceForm, ImportanceSum, gather_pairs, sum_of_pairs
from fedmpi.federation.messages import RoundPlan
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning import Needs
from fedmpi.pruning.importance import add_squares
from fedmpi.pruning.mask import Mask

Rows = Iterable[NDArray[np.float32]]


class Importance(Protocol):
    """What clients gather in training for the day when a mask is to be changed. All methods run on every rank.

    ``gathers``: whether anything is taken in this round. ``at_end``: that is no sum over training, but the gradient at
    the trained weights.
    """

    @property
    def gathers(self) -> bool: ...

    @property
    def at_end(self) -> bool: ...

    def begin(self, plan: RoundPlan) -> None:
        """A round starts."""

    def add(self, client: int, direction_sum: torch.Tensor, samples: int) -> None:
        """Take in a round of a client: its summed directions (D,), finite, and the samples that it processed.

        ``at_end``: the gradient (D,) at its trained weights, and the samples that it has.
        """

    def take_back(self, clients: NDArray[np.int64]) -> None:
        """Of this round, ``clients`` that this rank trained leave nothing."""

    def gather(self, roster: Roster) -> ImportanceSum:
        """The exact sum over the accepted participants; if there were any, all then start from zero (collective)."""

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        """What a client at home on this rank carries, for a checkpoint."""

    def restore_client(self, client: int, values: NDArray[Any]) -> None:
        """Take back what ``client_state`` gave."""


class Summing(Protocol):
    """A way from the vectors of this rank's accepted participants, float32 (D,) each, to the sum over all."""

    def sum(self, rows: Rows, roster: Roster, plan: RoundPlan) -> ImportanceSum:
        """Those whose values are not finite are left out (collective)."""


class WholeVectors:
    """Every client sends all values: the exact sum, on every rank."""

    def __init__(self, ranks: Ranks, memory: GroupMemory, parameters: int) -> None:
        self._ranks = ranks
        self._average = ExactAverage(ranks, memory, parameters)

    def sum(self, rows: Rows, roster: Roster, plan: RoundPlan) -> ImportanceSum:
        del plan
        counts = [len(roster.accepted_of(rank)) for rank in range(self._ranks.size)]
        own = counts[self._ranks.rank]
        self._average.begin(own)
        largest = np.zeros(own)
        for position, row in enumerate(rows):
            self._average.rows[position] = torch.from_numpy(row)
            largest[position] = np.abs(row).max(initial=0.0)
        gathered = self._ranks.gather_rows(largest, counts)
        bound = np.zeros(2)
        if gathered is not None:
            finite = gathered[np.isfinite(gathered)]
            bound[:] = finite.max(initial=0.0), len(finite)
        self._ranks.broadcast(bound)
        count = int(bound[1])
        ones = np.ones(own, dtype=np.int64)
        mean = self._average.finish(ones, np.isfinite(largest), count, float(bound[0]))
        return ImportanceSum(mean.numpy().astype(np.float64) * count, left_out=sum(counts) - count)


class Sketches:
    """Every client sends its largest values as pairs: the exact sum of those, on the server."""

    def __init__(self, ranks: Ranks, form: ImportanceForm, parameters: int) -> None:
        self._ranks = ranks
        self._form = form
        self._parameters = parameters

    def sum(self, rows: Rows, roster: Roster, plan: RoundPlan) -> ImportanceSum:
        pairs = self._form.pairs(Mask(self._parameters), plan.round_index, plan.k)
        assert pairs is not None
        messages = [pairs.encode(row[pairs.pool], row[pairs.always]) for row in rows]
        gathered = gather_pairs(self._ranks, roster, messages, pairs.message_bytes)
        if not self._ranks.is_server:
            return ImportanceSum(np.empty(0), left_out=0)
        return sum_of_pairs(pairs, gathered, self._parameters)


class ClientImportance:
    """The importance of all parameters to each client since the mask was last changed, float32 (D,) each.

    It lies in ``rows``, for the clients at home in this rank's group; ``own`` are those at home on this rank. Only who
    takes part in the round in which it is asked for can send what it has gathered; after that round everybody starts
    from zero, unless nobody's was accepted. Where participants ``may_stop_early``, what they add in a round can be
    taken back. With ``signed_gradient`` it is, of the round in which it is asked for alone, their gradients at the
    trained weights times their samples. ``summing`` is how it gets to the server.
    """

    def __init__(
        self,
        ranks: Ranks,
        memory: GroupMemory,
        rows: ClientVectors,
        summing: Summing,
        own: range,
        may_stop_early: bool = False,
        signed_gradient: bool = False,
    ) -> None:
        self._ranks = ranks
        self._group = Ranks.of(memory.comm)
        self._rows = rows
        self._summing = summing
        self._plan: RoundPlan | None = None
        self._own = own
        self._carrying: set[int] = set()
        self._keeps = may_stop_early
        self.at_end = signed_gradient
        self._before: dict[int, NDArray[np.float32]] = {}

    def begin(self, plan: RoundPlan) -> None:
        """A round starts; another rank of the group may have trained its participants in the one before."""
        self._group.barrier()
        self._plan = plan
        if self.gathers:
            self._carrying.update(plan.participants.tolist())
        self._before.clear()

    @property
    def gathers(self) -> bool:
        return not self.at_end or (self._plan is not None and Needs.IMPORTANCE in self._plan.needs)

    def add(self, client: int, direction_sum: torch.Tensor, samples: int) -> None:
        """As ``Importance.add``."""
        row = self._rows.read(client)
        if self._keeps:
            self._before[client] = row.copy()
        if self.at_end:
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
        assert self._plan is not None
        mine = roster.accepted_of(self._ranks.rank).tolist()
        total = self._summing.sum(map(self._rows.read, mine), roster, self._plan)
        if self.at_end or roster.accepted.any():
            self._clear()
        return total

    def _clear(self) -> None:
        self._group.barrier()  # everybody has taken what it needed
        on_disk, carrying = self._rows.on_disk, self._carrying
        self._rows.clear([client for client in self._own if on_disk or client in carrying])
        self._carrying.clear()

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        """What a client at home on this rank carries, for a checkpoint."""
        carries = client in self._carrying and not self._rows.on_disk
        return {"importance": self._rows.read(client)} if carries else {}

    def restore_client(self, client: int, values: NDArray[Any]) -> None:
        """Take back what ``client_state`` gave."""
        self._rows.write(client, values)
        self._carrying.add(client)
