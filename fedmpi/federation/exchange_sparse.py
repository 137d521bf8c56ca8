"""Sparse exchange with error feedback: entries of the accumulated gradients up, the server's selection down.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning
approach", ICDCS 2020, Algorithm 1. Every client keeps its accumulated gradient; what was sent and used is taken
out of it. What travels through MPI are the messages of the devices, byte by byte (``sparsification.wire``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.aggregation import Aggregator
from fedmpi.emulation.round_end import may_stop_early
from fedmpi.federation.accumulation import Accumulation
from fedmpi.federation.client import ClientHost, largest_magnitude, largest_magnitudes
from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.compression import Compression, Sent
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedMany
from fedmpi.federation.gathering import gather_messages
from fedmpi.federation.messages import RoundPlan
from fedmpi.federation.server_aggregation import Answer, Answering
from fedmpi.mpi.collectives import Inbox, Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning.mask import Mask, never_pruned
from fedmpi.sparsification.codec import Codec
from fedmpi.sparsification.interface import ALL_CLIENTS, SparseMethod
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch
from fedmpi.sparsification.probe_message import decode_probe
from fedmpi.sparsification.uploads import Uploads
from fedmpi.sparsification.wire import NO_TAIL, Entries

_LOST = "lost_in_rounding"
_NOTHING = Entries(np.empty(0, np.int32), np.empty(0, np.float32), NO_TAIL)


class SparseExchange:
    """Entries of the accumulated gradients of this rank's clients, and the server's selection among them.

    ``accumulated`` are the gradients (D,) of the clients at home in this rank's group. Float buffers of the model
    (batch-norm statistics) travel dense as the tail of each message. Under a mask, coordinates are counted among the
    active ones.
    """

    period = 1

    def __init__(
        self,
        ranks: Ranks,
        memory: GroupMemory,
        host: ClientHost,
        method: SparseMethod,
        codec: Codec,
        aggregator: Aggregator,
        accumulated: ClientVectors,
        sketch: MagnitudeSketch = NO_SKETCH,
    ) -> None:
        self.ranks = ranks
        self.host = host
        self.method = method
        self.codec = codec
        self.parameters = host.model.parameter_count
        self.tail_length = host.model.buffer_count
        self._compression = Compression(
            method,
            codec,
            sketch,
            host.model.layers,
            self.parameters,
            host.config.experiment.seed,
            host.config.sparsification.k_fraction,
        )
        self._masked = host.masked
        self._group = Ranks.of(memory.comm)
        keeps = may_stop_early(host.config) or method.memory != "error"
        self._accumulated = Accumulation(accumulated, host.masked, keeps)
        self._direction = torch.zeros(self.parameters, device=host.model.vector.device)
        self._answering = Answering(method, codec, aggregator, self.parameters, ranks.is_server)
        self._sent: dict[int, Sent] = {}
        self._inbox = Inbox()
        self._mine = np.empty(0, dtype=np.int64)
        self._before = (np.empty(0, np.int32), np.empty(0, np.float32))
        self._probed = self._before
        self._tail_before = np.empty(0, np.float32)
        self._masked.follow(self._take_mask)

    @property
    def dimension(self) -> int:
        return self._compression.dimension

    @property
    def sketch(self) -> MagnitudeSketch:
        return self._compression.sketch

    def _take_mask(self, mask: Mask, clients: Sequence[int]) -> None:
        """Go on under ``mask``: what ``clients`` have accumulated for pruned parameters becomes zero."""
        self._answering.set_mask(mask)
        self._compression.set_mask(mask)
        self._accumulated.prune(mask, clients)

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        codec = self._answering.codec_down if down else self.codec
        fixed, each = codec.bytes_by_dimension(entries, self.dimension)
        fixed += 0 if down else self.sketch.bytes
        return fixed + each * never_pruned(self.host.model.layers) + 4 * self.tail_length, each

    def begin(self, plan: RoundPlan, mine: NDArray[np.int64]) -> None:
        self._group.barrier()  # another rank of the group may have trained these clients, and has now let go of them
        self._sent.clear()
        self._mine = mine
        self._accumulated.begin()
        self._compression.begin(plan)

    def train(self, client: int, plan: RoundPlan) -> Trained:
        result, compute_host_s = self.host.train(client, plan, self._direction)
        max_abs = largest_magnitude(self._direction)
        tail = NO_TAIL
        if self.tail_length:
            update = torch.empty(self.tail_length)
            self.host.tail_update_into(update)
            max_abs = max(max_abs, largest_magnitude(update)) if np.isfinite(max_abs) else max_abs
            tail = update.numpy()
        entries = min(plan.k, self.dimension)
        size = self.message_bytes_up(entries)
        if np.isfinite(max_abs):
            active = self._accumulated.add(client, self._in_unit(self._direction.cpu().numpy(), plan))
            sent = self._compression.of(active, client, plan, tail)
            if sent is None:
                max_abs = np.inf  # the sum of finite gradients is not finite
            else:
                self._sent[client] = sent
                entries, size = len(sent.indices), len(sent.message.data)
        return Trained(result, compute_host_s, entries, size, max_abs)

    def train_many(self, plan: RoundPlan) -> Iterator[TrainedMany]:
        entries = min(plan.k, self.dimension)
        for batch in self.host.train_many(self._mine, plan, need_directions=True):
            assert batch.directions is not None
            clients = self._mine[batch.positions]
            max_abs = largest_magnitudes(batch.directions)
            counts = np.full(len(clients), entries)
            sizes = np.full(len(clients), self.message_bytes_up(entries))
            finite = np.flatnonzero(np.isfinite(max_abs))
            directions = self._in_unit(batch.directions.numpy()[finite], plan)
            active = self._accumulated.add_many(clients[finite], directions)
            sent = self._compression.of_many(active, clients[finite], plan)
            for position, each in zip(finite.tolist(), sent, strict=True):
                if each is None:
                    max_abs[position] = np.inf  # the sum of finite gradients is not finite
                    continue
                self._sent[int(clients[position])] = each
                counts[position], sizes[position] = len(each.indices), len(each.message.data)
            yield TrainedMany(batch, entries=counts, message_bytes=sizes, max_abs=max_abs)

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        choice = self._compression.choice(plan, ALL_CLIENTS)
        sent = self._receive(roster, self._compression.form(plan, choice))
        answer = energies = None
        if sent is not None:
            uploads, tail, energies = sent
            share = float(roster.sizes[roster.accepted].sum() / self.host.data.sizes.sum())
            answer = self._answering.answer(plan, uploads, tail, choice, share)
        codec = self._answering.form_down(plan.k, choice)
        data = self.ranks.broadcast_bytes(None if answer is None else answer.message)
        received = self._read(codec, data) if len(data) else _NOTHING
        self._settle(roster, received.indices, answer)
        if plan.k_probe:
            data = self.ranks.broadcast_bytes(None if answer is None else answer.probe_message)
            probed = decode_probe(codec, data, received, self.dimension) if len(data) else _NOTHING
            self._probed = self._step(probed, self._answering.rate(plan))
        indices, step = self._step(received, self._answering.rate(plan))
        weights = self._masked.weights.numpy()
        self._before = (indices, weights[indices])
        self._tail_before = weights[self.parameters :].copy()
        weights[indices] -= step
        if len(received.tail):
            weights[self.parameters :] -= received.tail
        used = np.zeros(len(roster.clients), dtype=np.int64)
        if answer is None:
            return Exchanged(indices, 0, 0, used, bytes_down=0, probe_bytes=0)
        used[roster.accepted] = answer.selection.contributions(answer.uploads)
        return Exchanged(
            changed=None if self._answering.aggregation.aggregator.dense else indices,
            k_down=len(indices),
            k_down_probe=answer.k_down_probe,
            entries_used=used,
            bytes_down=len(answer.message),
            probe_bytes=len(answer.probe_message),
            energies=energies,
            uploads=answer.uploads,
            upload_rate=plan.learning_rate if self.method.of_updates else 1.0,
        )

    def _in_unit(self, directions: NDArray[np.float32], plan: RoundPlan) -> NDArray[np.float32]:
        """Sums of directions as the method accumulates them: themselves, or updates."""
        return directions * np.float32(plan.learning_rate) if self.method.of_updates else directions

    def _receive(
        self, roster: Roster, codec: Codec
    ) -> tuple[Uploads, NDArray[np.float32], NDArray[np.float64] | None] | None:
        """On the server: what the accepted participants sent, if there are any, and the weighted means of the rest.

        The rest are their tails, and the energies that their sketches state (None without). The uploads are views of
        the messages, in client order.
        """
        mine = roster.accepted_of(self.ranks.rank).tolist()
        messages = [self._sent[client].message.data for client in mine]
        gathered = gather_messages(self.ranks, roster, messages, self._inbox)
        if not gathered:
            return None
        sizes = roster.sizes[roster.accepted].astype(np.float64)
        weights = sizes / sizes.sum()
        sent, stated = self._compression.read(gathered, codec, self.tail_length)
        energies = weights @ np.stack(stated) if stated else None
        tail = np.zeros(self.tail_length)
        if self.tail_length:
            for entries, weight in zip(sent, weights, strict=True):
                tail += weight * entries.tail
        indices, values, _ = zip(*sent, strict=True)
        return Uploads(indices, values, weights, self.dimension), tail.astype(np.float32), energies

    def _read(self, codec: Codec, data: NDArray[np.uint8]) -> Entries:
        return codec.decode(data, self.dimension, self.tail_length, self._compression.shared)

    def _settle(self, roster: Roster, received: NDArray[np.int32], answer: Answer | None) -> None:
        """Take out of this rank's accumulated gradients what the server used of them.

        Who is late keeps all that it has accumulated; who stopped before it had trained, what it had before the round.
        """
        untrained = roster.untrained_of(self.ranks.rank).tolist()
        self._accumulated.put_back(untrained if self.method.memory == "error" else None)
        mine = roster.accepted_of(self.ranks.rank).tolist()
        if self.method.memory == "none":
            return
        if self.method.server is not None:
            used = [np.ones(len(self._sent[client].indices), np.bool_) for client in mine]
        elif self.method.confirm_used or self._answering.aggregation.aggregator.dense:
            used = self._scattered(roster, answer)
        else:
            in_step = np.zeros(self.dimension, np.bool_)
            in_step[received] = True
            used = [in_step[self._sent[client].indices] for client in mine]
        for client, flags in zip(mine, used, strict=True):
            sent = self._sent[client]
            indices = self._of_model(sent.indices)
            self._accumulated.take_out(client, indices, sent.message.values, flags)

    def _scattered(self, roster: Roster, answer: Answer | None) -> list[NDArray[np.bool_]]:
        """Hand every rank the flags of what its clients sent."""
        mine = [len(self._sent[client].indices) for client in roster.accepted_of(self.ranks.rank).tolist()]
        counts = np.zeros(self.ranks.size, dtype=np.int64)
        counts[self.ranks.rank] = sum(mine)
        flags = None
        if self.ranks.is_server:
            flags = np.empty(0, np.uint8)
            if answer is not None:
                pieces = answer.uploads.split(answer.selection.used.view(np.uint8))
                position = {int(client): n for n, client in enumerate(roster.accepted_clients)}
                by_rank = [roster.accepted_of(rank).tolist() for rank in range(self.ranks.size)]
                counts[:] = [sum(len(pieces[position[c]]) for c in clients) for clients in by_rank]
                flags = np.concatenate([pieces[position[c]] for clients in by_rank for c in clients])
        own = self.ranks.scatter_rows(flags, counts.tolist(), np.dtype(np.uint8)).view(np.bool_)
        return np.split(own, np.cumsum(mine)[:-1]) if mine else []

    def _step(self, received: Entries, rate: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Coordinates of w, and what is subtracted there: ``rate`` times b."""
        step = (rate * received.values.astype(np.float64)).astype(np.float32)
        return self._of_model(received.indices), step

    def _of_model(self, indices: NDArray[np.int32]) -> NDArray[np.int32]:
        """Coordinates of w, of positions among the active ones."""
        support = self._masked.support
        return indices if support is None else support[indices]

    def message_bytes_up(self, entries: int) -> int:
        return self.codec.message_bytes(entries, self.dimension) + 4 * self.tail_length + self.sketch.bytes

    def message_bytes_down(self, k_down: int) -> int:
        return self._answering.codec_down.message_bytes(k_down, self.dimension) + 4 * self.tail_length

    def weights_tried(self) -> Iterator[tuple[Literal["previous", "probe"], torch.Tensor]]:
        indices, before = self._before
        probe_indices, probe_step = self._probed
        vector = self._masked.weights.clone()
        flat = vector.numpy()
        flat[indices] = before
        flat[self.parameters :] = self._tail_before
        yield "previous", vector
        flat[self.parameters :] = self._masked.weights.numpy()[self.parameters :]
        flat[probe_indices] -= probe_step
        yield "probe", vector

    def client_state(self, client: int) -> dict[str, NDArray[Any]]:
        return self._accumulated.state(client)

    def restore_client(self, client: int, state: dict[str, NDArray[Any]]) -> None:
        self._accumulated.restore(client, state)

    def server_state(self) -> dict[str, NDArray[Any]]:
        return {_LOST: self._answering.lost, **self._answering.aggregation.to_arrays()}

    def restore_server(self, state: dict[str, NDArray[Any]]) -> None:
        kept = dict(state)
        self._answering.lost[:] = kept.pop(_LOST)
        self._answering.aggregation.restore(kept)
