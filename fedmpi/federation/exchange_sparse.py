"""Sparse exchange with error feedback: top-k entries up, the server's selection down.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning
approach", ICDCS 2020, Algorithm 1. Every client keeps its accumulated gradient; what was sent and used is taken
out of it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from fedmpi.federation.client import ClientHost, largest_magnitude
from fedmpi.federation.exact_average import ExactAverage
from fedmpi.federation.exchange import Exchanged, Roster, Trained
from fedmpi.federation.plan import RoundPlan
from fedmpi.federation.records import LOSSES
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.topk import top_k, top_k_within
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import message_bytes

Selector = Callable[[Uploads, int], Selection]
_NOTHING = (np.empty(0, np.int32), np.empty(0, np.float32))


class SparseExchange:
    """Top-k of the accumulated gradients of this rank's clients, and the server's selection among them.

    ``clients`` are those at home in this rank's group, whose accumulated gradients, float32 (D,) each, lie in
    the memory that the group shares; pages of clients that never took part take no memory. Float buffers of the
    model (batch-norm statistics) travel dense beside the entries.
    """

    def __init__(
        self,
        ranks: Ranks,
        memory: GroupMemory,
        host: ClientHost,
        select: Selector,
        wire: str,
        mask: Mask,
        clients: np.ndarray,
        total_clients: int,
    ) -> None:
        self.ranks = ranks
        self._group = Ranks(memory.comm)
        self.host = host
        self.select = select
        self.wire = wire
        self.dimension = host.model.parameter_count
        self.support = mask.support()
        self._accumulated = memory.allocate_rows(len(clients), self.dimension)
        self._row_of_client = np.full(total_clients, -1, dtype=np.int64)
        self._row_of_client[clients] = np.arange(len(clients))
        self._direction = torch.zeros(self.dimension)
        self._tail = ExactAverage(ranks, memory, host.model.buffer_count)
        self._sent: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._trained: list[int] = []
        self._before = self._probed = _NOTHING

    def accumulated_of(self, client: int) -> np.ndarray:
        """The accumulated gradient of a client that this rank can reach, float32 (D,), in place."""
        return self._accumulated[self._row_of_client[client]]

    def begin(self, plan: RoundPlan, mine: np.ndarray) -> None:
        self._group.barrier()  # another rank of the group may have trained these clients, and has now let go of them
        self._sent.clear()
        self._trained.clear()
        self._tail.begin(len(mine))

    def train(self, client: int, plan: RoundPlan) -> Trained:
        direction = self._direction
        result, compute_host_s = self.host.train(client, plan, direction)
        max_abs = largest_magnitude(direction)
        if self._tail.length:
            tail = self._tail.rows[len(self._trained)]
            torch.sub(
                self.host.weights[self.dimension :], self.host.model.vector[self.dimension :].cpu(), out=tail
            )
            max_abs = max(max_abs, largest_magnitude(tail)) if np.isfinite(max_abs) else max_abs
        self._trained.append(client)
        if np.isfinite(max_abs):
            accumulated = self.accumulated_of(client)
            accumulated += direction.numpy()
            if self.support is None:
                indices = top_k(accumulated, plan.k)
            else:
                indices = top_k_within(accumulated, min(plan.k, len(self.support)), self.support)
            self._sent[client] = (indices, accumulated[indices])
        return Trained(result, compute_host_s, plan.k, max_abs)

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        mine = roster.accepted_of(self.ranks.rank)
        sent = [self._sent[int(client)] for client in mine]
        uploads = self._gather(roster, sent)
        selection = probe = None
        if uploads is not None:
            selection = self.select(uploads, plan.k)
            probe = self.select(uploads.truncated(plan.k_probe), plan.k_probe) if plan.k_probe else None
        self._reset(roster, mine, sent, uploads, selection)
        indices, step = self._broadcast_step(selection, plan.learning_rate)
        self._probed = self._broadcast_step(probe, plan.learning_rate) if plan.k_probe else _NOTHING
        weights = self.host.weights.numpy()
        self._before = (indices, weights[indices])
        weights[indices] -= step
        self._finish_tail(roster)
        used = np.zeros(len(roster.clients), dtype=np.int64)
        if uploads is not None and selection is not None:
            counts = (
                np.add.reduceat(selection.used, uploads.offsets[:-1], dtype=np.int64)
                if len(uploads.indices)
                else 0
            )
            used[roster.accepted] = counts
        return Exchanged(
            changed=indices,
            k_down=len(indices),
            entries_used=used,
            probe_bytes=self._probe_bytes(selection, probe),
        )

    def _gather(self, roster: Roster, sent: list[tuple[np.ndarray, np.ndarray]]) -> Uploads | None:
        """Bring the entries of all accepted participants to the server, in client order there."""
        entries = dict(zip(roster.clients.tolist(), roster.entries.tolist(), strict=True))
        order = [int(c) for rank in range(self.ranks.size) for c in roster.accepted_of(rank)]
        counts = [sum(entries[int(c)] for c in roster.accepted_of(rank)) for rank in range(self.ranks.size)]
        indices = self.ranks.gather_rows(_concatenate([s[0] for s in sent], np.int32), counts)
        values = self.ranks.gather_rows(_concatenate([s[1] for s in sent], np.float32), counts)
        if indices is None or values is None or not order:
            return None
        lengths = np.array([entries[client] for client in order], dtype=np.int64)
        if order != sorted(order):
            place = np.argsort(order)
            pieces = np.split(np.arange(len(indices)), np.cumsum(lengths)[:-1])
            by_client = np.concatenate([pieces[p] for p in place])
            indices, values, lengths = indices[by_client], values[by_client], lengths[place]
        sizes = roster.sizes[roster.accepted].astype(np.float64)
        return Uploads(
            offsets=np.concatenate([[0], np.cumsum(lengths)]),
            indices=indices,
            values=values,
            weights=sizes / sizes.sum(),
            dimension=self.dimension,
        )

    def _reset(
        self,
        roster: Roster,
        mine: np.ndarray,
        sent: list[tuple[np.ndarray, np.ndarray]],
        uploads: Uploads | None,
        selection: Selection | None,
    ) -> None:
        """Zero the accumulated gradients of this rank's clients where the server used what they sent."""
        entries = dict(zip(roster.clients.tolist(), roster.entries.tolist(), strict=True))
        by_rank = [roster.accepted_of(rank) for rank in range(self.ranks.size)]
        counts = [sum(entries[int(c)] for c in clients) for clients in by_rank]
        used = None
        if uploads is not None and selection is not None:
            position = {int(c): n for n, c in enumerate(roster.accepted_clients)}
            starts = uploads.offsets
            pieces = [
                selection.used[starts[position[int(c)]] : starts[position[int(c)] + 1]]
                for clients in by_rank
                for c in clients
            ]
            used = np.concatenate(pieces).astype(np.uint8)
        elif self.ranks.is_server:
            used = np.empty(0, dtype=np.uint8)
        taken = self.ranks.scatter_rows(used, counts, np.dtype(np.uint8)).astype(bool)
        start = 0
        for client, (indices, _) in zip(mine, sent, strict=True):
            stop = start + len(indices)
            self.accumulated_of(int(client))[indices[taken[start:stop]]] = 0.0
            start = stop

    def _broadcast_step(
        self, selection: Selection | None, learning_rate: float
    ) -> tuple[np.ndarray, np.ndarray]:
        """The coordinates J (int32) and eta * b (float32) on every rank."""
        length = np.array([0 if selection is None else len(selection.indices)], dtype=np.int64)
        self.ranks.broadcast(length)
        indices, step = np.empty(length[0], dtype=np.int32), np.empty(length[0], dtype=np.float32)
        if selection is not None:
            indices[:] = selection.indices
            step[:] = learning_rate * selection.values
        self.ranks.broadcast(indices)
        self.ranks.broadcast(step)
        return indices, step

    def _finish_tail(self, roster: Roster) -> None:
        if not self._tail.length:
            return
        mine = np.array(self._trained, dtype=np.int64)
        where = np.searchsorted(roster.clients, mine)
        taken, total = roster.accepted[where], int(roster.sizes[roster.accepted].sum())
        mean = self._tail.finish(roster.sizes[where], taken, total, roster.max_abs)
        self.host.weights[self.dimension :].sub_(mean)

    @staticmethod
    def _probe_bytes(selection: Selection | None, probe: Selection | None) -> int:
        """What tells w'(m) to a client that has J and b: a bit for each of J, 8 bytes for each b' that differs."""
        if selection is None or probe is None:
            return 0
        common, here, there = np.intersect1d(
            selection.indices, probe.indices, assume_unique=True, return_indices=True
        )
        differing = np.count_nonzero(selection.values[here] != probe.values[there])
        return -(-len(selection.indices) // 8) + 8 * int(differing + len(probe.indices) - len(common))

    def message_bytes_up(self, entries: np.ndarray) -> np.ndarray:
        sizes = {int(n): message_bytes(self.wire, int(n), self.dimension) for n in np.unique(entries)}
        return np.array([sizes[int(n)] for n in entries], dtype=np.int64) + 4 * self._tail.length

    def message_bytes_down(self, k_down: int) -> int:
        return message_bytes(self.wire, k_down, self.dimension) + 4 * self._tail.length

    def probe_losses(self, roster: Roster, samples: dict[int, int]) -> np.ndarray:
        mine = [int(client) for client in roster.accepted_of(self.ranks.rank)]
        losses = np.zeros(len(mine), dtype=LOSSES)
        losses["client"] = mine
        if not mine:
            return losses
        indices, before = self._before
        probe_indices, probe_step = self._probed
        vector = self.host.weights.clone()
        flat = vector.numpy()
        self._fill(losses["current"], mine, samples, vector)
        flat[indices] = before
        self._fill(losses["previous"], mine, samples, vector)
        flat[probe_indices] -= probe_step
        self._fill(losses["probe"], mine, samples, vector)
        return losses

    def _fill(
        self, column: np.ndarray, mine: list[int], samples: dict[int, int], vector: torch.Tensor
    ) -> None:
        self.host.load(vector)
        column[:] = [self.host.loss_of_sample(client, samples[client]) for client in mine]

    def client_state(self, client: int) -> dict[str, np.ndarray]:
        return {"accumulated": self.accumulated_of(client)}

    def restore_client(self, client: int, state: dict[str, np.ndarray]) -> None:
        self.accumulated_of(client)[:] = state["accumulated"]


def _concatenate(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
