"""Dense averaging: every participant sends its whole update, and the server their exact weighted mean (FedAvg).

McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017. The
sum over clients is exact (``numerics.exact_sum``), so it depends neither on their order nor on how they lie on
ranks.
"""

from __future__ import annotations

import numpy as np

from fedmpi.federation.client import ClientHost, largest_magnitude
from fedmpi.federation.exact_average import ExactAverage
from fedmpi.federation.exchange import Exchanged, Roster, Trained
from fedmpi.federation.plan import RoundPlan
from fedmpi.federation.records import LOSSES
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.sparsification.wire import message_bytes


class DenseExchange:
    """Dense exchange of updates; clients carry nothing from round to round."""

    def __init__(self, ranks: Ranks, memory: GroupMemory, host: ClientHost) -> None:
        self.ranks = ranks
        self.host = host
        self._average = ExactAverage(ranks, memory, host.weights.numel())
        self._mine = np.empty(0, dtype=np.int64)
        self._trained = 0

    def begin(self, plan: RoundPlan, mine: np.ndarray) -> None:
        self._mine = mine
        self._trained = 0
        self._average.begin(len(mine))

    def train(self, client: int, plan: RoundPlan) -> Trained:
        result, compute_host_s = self.host.train(client, plan, None)
        row = self._average.rows[self._trained]
        self._trained += 1
        self.host.update_into(row)
        return Trained(result, compute_host_s, self.host.model.parameter_count, largest_magnitude(row))

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        mine = np.isin(self._mine, roster.accepted_of(self.ranks.rank))
        sizes = roster.sizes[np.searchsorted(roster.clients, self._mine)]
        weights = np.where(mine, sizes, 0)
        total = int(roster.sizes[roster.accepted].sum())
        self.host.weights.sub_(self._average.finish(weights, mine, total, roster.max_abs))
        dimension = self.host.model.parameter_count
        return Exchanged(
            changed=None,
            k_down=dimension,
            entries_used=np.where(roster.accepted, dimension, 0),
            probe_bytes=0,
        )

    def message_bytes_up(self, entries: np.ndarray) -> np.ndarray:
        size = message_bytes("dense", self.host.model.parameter_count, self.host.model.parameter_count)
        return np.full(len(entries), size + 4 * self.host.model.buffer_count, dtype=np.int64)

    def message_bytes_down(self, k_down: int) -> int:
        return int(self.message_bytes_up(np.zeros(1, dtype=np.int64))[0])

    def probe_losses(self, roster: Roster, samples: dict[int, int]) -> np.ndarray:
        return np.empty(0, dtype=LOSSES)

    def client_state(self, client: int) -> dict[str, np.ndarray]:
        return {}

    def restore_client(self, client: int, state: dict[str, np.ndarray]) -> None:
        if state:
            raise ValueError(
                f"client {client}: dense averaging keeps no state, the checkpoint has {sorted(state)}"
            )
