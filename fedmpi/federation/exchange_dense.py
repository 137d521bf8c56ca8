"""Dense averaging: every participant sends its whole update, and the server their exact weighted mean (FedAvg).

McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017. The
sum over clients is exact (``numerics.exact_sum``), so it depends neither on their order nor on how they lie on
ranks.

What becomes of that mean, the server alone decides (``aggregation``): w follows it, or a server optimizer, which steps
where something is exchanged and was accepted. Float buffers are plain means whatever the aggregator.

With a period of several rounds only the last of each period exchanges anything. Until then the participants,
who stay the same, go on from their own weights, and w does not change: a round without an exchange is a row of
the trace like any other, so that runs compare with those of other methods by round as by time. All
participants end such a round together, the slowest sets the pace.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.aggregation import Aggregator
from fedmpi.federation.client import ClientHost, largest_magnitude, largest_magnitudes
from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedBatch, TrainedMany
from fedmpi.federation.messages import RoundPlan
from fedmpi.federation.server_aggregation import ServerAggregation
from fedmpi.mpi.collectives import Inbox, Ranks
from fedmpi.mpi.exact_average import ExactAverage
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning.active_values import ActiveValues
from fedmpi.pruning.mask import Mask, never_pruned
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH
from fedmpi.sparsification.wire import bytes_by_dimension, message_bytes


class DenseExchange:
    """Dense exchange of updates every ``period`` rounds.

    Within a period clients carry their own weights and float buffers; from one period to the next nothing. They lie in
    ``own`` (D + B,), for the clients at home in this rank's group. Under a mask only the values of active parameters
    travel (``pruning.active_values``), and float buffers; where the importance of parameters is gathered from the sums
    of training's directions, the update is taken from these, which saves passes over all parameters.
    """

    sketch = NO_SKETCH

    def __init__(
        self,
        ranks: Ranks,
        memory: GroupMemory,
        host: ClientHost,
        aggregator: Aggregator,
        own: ClientVectors,
        period: int = 1,
    ) -> None:
        self.ranks = ranks
        self.host = host
        self.period = period
        self._masked = host.masked
        length = self._masked.weights.numel()
        self._group = Ranks.of(memory.comm)
        self._own = own
        self.average = ExactAverage(ranks, memory, length)
        self._aggregation = ServerAggregation(aggregator, host.model.parameter_count, ranks.is_server)
        self.dimension = host.model.parameter_count
        self._active: ActiveValues | None = None
        self._whole = torch.empty(0)
        self._directions: torch.Tensor | None = None
        self._mine = np.empty(0, dtype=np.int64)
        self._trained = 0
        self._inbox = Inbox()
        self._carrying: set[int] = set()
        self._masked.follow(self._take_mask)

    def _take_mask(self, mask: Mask, clients: Sequence[int]) -> None:
        """Go on under ``mask``.

        It changes where a period ends, and from one to the next ``clients`` carry nothing.
        """
        model = self.host.model
        active = ActiveValues(mask, model.layers)
        self._active = None if active.dense else active
        self.dimension = active.count
        self._whole, self._directions = torch.empty(0), None
        if self._active is not None and self.host.importance is not None and self.period == 1:
            self._directions = torch.zeros(model.parameter_count, device=model.vector.device)
        elif self._active is not None:
            self._whole = torch.empty(model.parameter_count + model.buffer_count)
        self.average.resize(self.dimension + model.buffer_count)
        if self.ranks.is_server:
            self._aggregation.drop(mask)

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        model = self.host.model
        fixed, each = bytes_by_dimension("dense", entries, self.dimension)
        return fixed + each * never_pruned(model.layers) + 4 * model.buffer_count, each

    def begin(self, plan: RoundPlan, mine: NDArray[np.int64]) -> None:
        if self.period > 1:
            self._group.barrier()  # another rank of the group may have trained these clients in the round before
        self._mine = mine
        self._trained = 0
        if self._exchanges(plan):
            self.average.begin(len(mine))
            self._carrying = set()
        else:
            self._carrying = set(plan.participants.tolist())

    def train(self, client: int, plan: RoundPlan) -> Trained:
        start = None if plan.round_index % self.period == 0 else torch.from_numpy(self._own.read(client))
        result, compute_host_s = self.host.train(client, plan, self._directions, start)
        if not self._exchanges(plan):
            own = self.host.model.vector.detach().cpu()
            self._own.write(client, own.numpy())
            return Trained(result, compute_host_s, 0, 0, largest_magnitude(own))
        row = self.average.rows[self._trained]
        self._trained += 1
        if self._active is None:
            self.host.update_into(row)
        elif self._directions is not None:
            active = row[: self.dimension]
            self._active.gather(self._directions.cpu().numpy(), active.numpy())
            active *= plan.learning_rate
            self.host.tail_update_into(row[self.dimension :])
        else:
            self.host.update_into(self._whole)
            parameters = self.host.model.parameter_count
            self._active.gather(self._whole[:parameters].numpy(), row[: self.dimension].numpy())
            row[self.dimension :] = self._whole[parameters:]
        entries = self.dimension
        return Trained(
            result, compute_host_s, entries, self.message_bytes_up(entries), largest_magnitude(row)
        )

    def train_many(self, plan: RoundPlan) -> Iterator[TrainedMany]:
        start_of = None if plan.round_index % self.period == 0 else self._own.read
        for batch in self.host.train_many(self._mine, plan, self._directions is not None, start_of):
            count = len(batch.positions)
            exchanges = self._exchanges(plan)
            entries = self.dimension if exchanges else 0
            size = self.message_bytes_up(entries) if exchanges else 0
            yield TrainedMany(
                batch,
                entries=np.full(count, entries),
                message_bytes=np.full(count, size),
                max_abs=self._keep_updates(batch, plan) if exchanges else self._keep_own(batch),
            )

    def _keep_own(self, batch: TrainedBatch) -> NDArray[np.float64]:
        """Keep the weights that clients go on from; the largest magnitude of each."""
        assert batch.weights is not None
        for position, weights in zip(batch.positions.tolist(), batch.weights.numpy(), strict=True):
            self._own.write(int(self._mine[position]), weights)
        return largest_magnitudes(batch.weights)

    def _keep_updates(self, batch: TrainedBatch, plan: RoundPlan) -> NDArray[np.float64]:
        """Keep the updates that clients send; the largest magnitude of each."""
        count, first = len(batch.positions), int(batch.positions[0])
        together = bool(batch.positions[-1] - first == count - 1)
        rows = self.average.rows[first : first + count] if together else torch.empty(count, self.dimension)
        if self._directions is not None:
            assert self._active is not None
            assert batch.directions is not None
            for row, directions in zip(rows.numpy(), batch.directions.numpy(), strict=True):
                self._active.gather(directions, row)
            rows *= plan.learning_rate
        elif self._active is None:
            assert batch.weights is not None
            self.host.updates_into(batch.weights, rows)
        else:
            assert batch.weights is not None
            self.host.updates_into(batch.weights, batch.weights)
            for row, update in zip(rows.numpy(), batch.weights.numpy(), strict=True):
                self._active.gather(update, row)
        if not together:
            self.average.rows[torch.from_numpy(batch.positions)] = rows
        return largest_magnitudes(rows)

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        if not self._exchanges(plan):
            nothing, unused = np.empty(0, dtype=np.int32), np.zeros(len(roster.clients), dtype=np.int64)
            return Exchanged(nothing, 0, 0, unused, bytes_down=0, probe_bytes=0)
        at = np.searchsorted(roster.clients, self._mine)
        mine = roster.accepted[at]
        weights = np.where(mine, roster.sizes[at], 0)
        total = int(roster.sizes[roster.accepted].sum())
        revise = self._revision(roster, mine)
        self._subtract(self.average.finish(weights, mine, total, roster.max_abs, revise))
        dimension = self.dimension
        return Exchanged(
            changed=None,
            k_down=dimension if total else 0,
            k_down_probe=0,
            entries_used=np.where(roster.accepted, dimension, 0),
            bytes_down=self.message_bytes_down(dimension) if total else 0,
            probe_bytes=0,
        )

    def _revision(
        self, roster: Roster, taken: NDArray[np.bool_]
    ) -> Callable[[NDArray[np.float32]], None] | None:
        """What the server makes of the exact mean, in place; None where it is taken as it is (collective).

        ``taken`` bool are those of this rank's rows that are accepted.
        """
        if self._aggregation.aggregator.is_mean:
            return None
        updates = self._gather_updates(roster, taken) if self._aggregation.aggregator.needs_updates else None
        return partial(self._revise, updates, roster.sizes[roster.accepted])

    def _revise(
        self, updates: NDArray[np.float32] | None, samples: NDArray[np.int64], mean: NDArray[np.float32]
    ) -> None:
        """On the server: put in place of the ``mean`` what w changes by; its tail, of float buffers, stays."""
        values = mean[: self.dimension]
        if updates is not None:
            values[:] = self._aggregation.combined(updates, samples)
        support = self._masked.support
        if support is not None and self._active is None:  # under a mask, but zeros travel
            values[support] = self._aggregation.change(values[support], support)
            return
        change = self._aggregation.change(values, support)
        if change is not values:
            values[:] = change

    def _gather_updates(self, roster: Roster, taken: NDArray[np.bool_]) -> NDArray[np.float32] | None:
        """On the server: what all accepted clients sent for parameters, (n, dimension) in rising order of clients."""
        rows = self.average.rows[: len(taken), : self.dimension].numpy()[taken]
        accepted = [roster.accepted_of(rank) for rank in range(self.ranks.size)]
        counts = [len(clients) * self.dimension for clients in accepted]
        gathered = self.ranks.gather_rows(rows.reshape(-1), counts, self._inbox)
        if gathered is None:
            return None
        updates, clients = gathered.reshape(-1, self.dimension), np.concatenate(accepted)
        rising = np.argsort(clients)
        return updates if np.array_equal(rising, np.arange(len(clients))) else updates[rising]

    def _subtract(self, mean: torch.Tensor) -> None:
        """Take the mean off w, where it travelled."""
        weights = self._masked.weights
        if self._active is None:
            weights.sub_(mean)
            return
        parameters = self.host.model.parameter_count
        self._active.subtract(mean[: self.dimension].numpy(), self._masked.parameters)
        weights[parameters:].sub_(mean[self.dimension :])

    def _exchanges(self, plan: RoundPlan) -> bool:
        return (plan.round_index + 1) % self.period == 0

    def message_bytes_up(self, entries: int) -> int:
        size = message_bytes("dense", self.dimension, self.dimension) + 4 * self.host.model.buffer_count
        return size if entries else 0

    def message_bytes_down(self, k_down: int) -> int:
        return self.message_bytes_up(k_down)

    def weights_tried(self) -> Iterator[tuple[Literal["previous", "probe"], torch.Tensor]]:
        return iter(())  # there is no k to choose

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        carries = client in self._carrying and not self._own.on_disk
        return {"weights": self._own.read(client)} if carries else {}

    def restore_client(self, client: int, state: dict[str, NDArray[Any]]) -> None:
        if set(state) != {"weights"} or self.period == 1:
            raise ValueError(
                f"client {client}: the checkpoint has {sorted(state)}, which dense averaging does not keep"
            )
        self._own.write(client, state["weights"])
        self._carrying.add(client)

    def server_state(self) -> dict[str, NDArray[Any]]:
        return self._aggregation.to_arrays()

    def restore_server(self, state: dict[str, NDArray[Any]]) -> None:
        self._aggregation.restore(state)
