"""Sparse exchange with error feedback: entries of the accumulated gradients up, the server's selection down.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning
approach", ICDCS 2020, Algorithm 1. Every client keeps its accumulated gradient; what was sent and used is taken
out of it. What travels through MPI are the messages of the devices, byte by byte (``sparsification.wire``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.aggregation import Aggregator
from fedmpi.emulation.round_end import may_stop_early
from fedmpi.federation.accumulation import Accumulation
from fedmpi.federation.client import ClientHost, largest_magnitude, largest_magnitudes
from fedmpi.federation.client_state import ClientVectors
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedMany
from fedmpi.federation.gathering import gather_messages
from fedmpi.federation.messages import RoundPlan
from fedmpi.federation.server_aggregation import Answer, Answering
from fedmpi.mpi.collectives import Inbox, Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.topk import top_k_rows
from fedmpi.pruning.mask import LayerSlice, Mask, never_pruned
from fedmpi.sparsification.codec import Codec, decode_many, encode_many
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice, SparseMethod, largest
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch
from fedmpi.sparsification.probe_message import decode_probe
from fedmpi.sparsification.uploads import Uploads
from fedmpi.sparsification.wire import NO_TAIL, Entries, Message

_LOST = "lost_in_rounding"
_NOTHING = Entries(np.empty(0, np.int32), np.empty(0, np.float32), NO_TAIL)


@dataclass(frozen=True)
class _Sent:
    """What a client sends: the ``indices`` of its entries (int32, among the active coordinates), and its message."""

    indices: NDArray[np.int32]
    message: Message


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
        sketch: MagnitudeSketch | None = None,
    ) -> None:
        self.ranks = ranks
        self.host = host
        self.method = method
        self.codec = codec
        self.parameters = host.model.parameter_count
        self.tail_length = host.model.buffer_count
        self.dimension = self.parameters
        self.sketch = sketch
        self._masked = host.masked
        self._group = Ranks.of(memory.comm)
        keeps = may_stop_early(host.config) or method.memory != "error"
        self._accumulated = Accumulation(accumulated, host.masked, keeps)
        self._direction = torch.zeros(self.parameters, device=host.model.vector.device)
        self._answering = Answering(method, codec, aggregator, self.parameters, ranks.is_server)
        self._shared: NDArray[np.int32] | None = None
        self._sent: dict[int, _Sent] = {}
        self._inbox = Inbox()
        self._mine = np.empty(0, dtype=np.int64)
        self._before = (np.empty(0, np.int32), np.empty(0, np.float32))
        self._probed = self._before
        self._tail_before = np.empty(0, np.float32)
        self._layers = _layer_slices(Mask(self.parameters), host.model.layers)
        self._masked.follow(self._take_mask)

    def _take_mask(self, mask: Mask, clients: Sequence[int]) -> None:
        """Go on under ``mask``: what ``clients`` have accumulated for pruned parameters becomes zero."""
        self._answering.set_mask(mask)
        self.dimension = mask.count
        if self.sketch is not None:
            self.sketch = replace(self.sketch, dimension=mask.count)
        self._layers = _layer_slices(mask, self.host.model.layers)
        self._accumulated.prune(mask, clients)

    def bytes_by_size(self, entries: int, down: bool = False) -> tuple[float, float]:
        codec = self._answering.codec_down if down else self.codec
        fixed, each = codec.bytes_by_dimension(entries, self.dimension)
        fixed += 0 if down else self._sketch_bytes
        return fixed + each * never_pruned(self.host.model.layers) + 4 * self.tail_length, each

    def begin(self, plan: RoundPlan, mine: NDArray[np.int64]) -> None:
        self._group.barrier()  # another rank of the group may have trained these clients, and has now let go of them
        self._sent.clear()
        self._mine = mine
        self._accumulated.begin()
        if self.method.coordinates is not None:
            self._shared = self.method.coordinates(self.dimension, plan.k, self._choice(plan, ALL_CLIENTS))

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
            active = self._accumulated.add(client, self._direction.cpu().numpy())
            indices = self._shared
            if indices is None:
                indices = self.method.choose(active, entries, self._choice(plan, client))
            sent = self._message(active, indices, self._form(plan, self._choice(plan, client)), tail)
            if sent is None:
                max_abs = np.inf  # the sum of finite gradients is not finite
            else:
                self._sent[client] = sent
                entries, size = len(indices), len(sent.message.data)
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
            active = self._accumulated.add_many(clients[finite], batch.directions.numpy()[finite])
            sent = self._messages(active, clients[finite], entries, plan)
            for position, each in zip(finite.tolist(), sent, strict=True):
                if each is None:
                    max_abs[position] = np.inf  # the sum of finite gradients is not finite
                    continue
                self._sent[int(clients[position])] = each
                counts[position], sizes[position] = len(each.indices), len(each.message.data)
            yield TrainedMany(batch, entries=counts, message_bytes=sizes, max_abs=max_abs)

    def _messages(
        self, active: NDArray[np.float32], clients: NDArray[np.int64], entries: int, plan: RoundPlan
    ) -> list[_Sent | None]:
        """What ``clients`` send of what each has accumulated, (c, active); None where that is not finite."""
        if self._shared is None and (self.method.choose is not largest or self.method.codec_at is not None):
            choices = [self._choice(plan, client) for client in clients.tolist()]
            rows = list(zip(active, choices, strict=True))
            chosen = [self.method.choose(row, entries, choice) for row, choice in rows]
            return [
                self._message(row, indices, self._form(plan, choice))
                for (row, choice), indices in zip(rows, chosen, strict=True)
            ]
        if self._shared is None:
            indices = top_k_rows(active, entries)
            values = np.take_along_axis(active, indices, axis=1)
        else:
            indices = np.broadcast_to(self._shared, (len(active), len(self._shared)))
            values = np.take(active, self._shared, axis=1)  # rows, where an index would make columns
        finite = np.isfinite(values).all(axis=1)
        if self.sketch is not None or not finite.all():
            return [self._message(row, each, self.codec) for row, each in zip(active, indices, strict=True)]
        messages = encode_many(self.codec, indices, values, self.dimension)
        shared = repeat(self._shared, len(active)) if self._shared is not None else iter(indices)
        return [_Sent(*each) for each in zip(shared, messages, strict=True)]

    def _message(
        self,
        active: NDArray[np.float32],
        indices: NDArray[np.int32],
        codec: Codec,
        tail: NDArray[np.float32] = NO_TAIL,
    ) -> _Sent | None:
        values = active[indices]
        if not np.isfinite(values).all():
            return None
        message = codec.encode(indices, values, self.dimension, tail)
        if self.sketch is not None:
            message = message._replace(data=np.concatenate([message.data, self.sketch.encode(active)]))
        return _Sent(indices, message)

    def _choice(self, plan: RoundPlan, client: int) -> Choice:
        return Choice(self.host.config.experiment.seed, plan.round_index, client, self._layers)

    def _form(self, plan: RoundPlan, choice: Choice) -> Codec:
        """The form of the message that a client sends by its ``choice``."""
        at = self.method.codec_at
        return self.codec if at is None else at(plan.k, choice)

    def finish(self, plan: RoundPlan, roster: Roster) -> Exchanged:
        choice = self._choice(plan, ALL_CLIENTS)
        sent = self._receive(roster, self._form(plan, choice))
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
            self._probed = self._step(probed, plan.learning_rate)
        indices, step = self._step(received, plan.learning_rate)
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
        )

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
        energies = None
        if self.sketch is not None:
            ends = [len(message) - self.sketch.bytes for message in gathered]
            stated = [self.sketch.decode(message[end:]) for message, end in zip(gathered, ends, strict=True)]
            energies = weights @ np.stack(stated)
            gathered = [message[:end] for message, end in zip(gathered, ends, strict=True)]
        sent = decode_many(codec, gathered, self.dimension, self.tail_length, self._shared)
        tail = np.zeros(self.tail_length)
        if self.tail_length:
            for entries, weight in zip(sent, weights, strict=True):
                tail += weight * entries.tail
        indices, values, _ = zip(*sent, strict=True)
        return Uploads(indices, values, weights, self.dimension), tail.astype(np.float32), energies

    def _read(self, codec: Codec, data: NDArray[np.uint8]) -> Entries:
        return codec.decode(data, self.dimension, self.tail_length, self._shared)

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

    def _step(self, received: Entries, learning_rate: float) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Coordinates of w, and what is subtracted there: eta * b."""
        step = (learning_rate * received.values.astype(np.float64)).astype(np.float32)
        return self._of_model(received.indices), step

    def _of_model(self, indices: NDArray[np.int32]) -> NDArray[np.int32]:
        """Coordinates of w, of positions among the active ones."""
        support = self._masked.support
        return indices if support is None else support[indices]

    @property
    def _sketch_bytes(self) -> int:
        return 0 if self.sketch is None else self.sketch.bytes

    def message_bytes_up(self, entries: int) -> int:
        return self.codec.message_bytes(entries, self.dimension) + 4 * self.tail_length + self._sketch_bytes

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

    def client_state(self, client: int) -> dict[str, np.ndarray]:
        return self._accumulated.state(client)

    def restore_client(self, client: int, state: dict[str, np.ndarray]) -> None:
        self._accumulated.restore(client, state)

    def server_state(self) -> dict[str, np.ndarray]:
        return {_LOST: self._answering.lost, **self._answering.aggregation.to_arrays()}

    def restore_server(self, state: dict[str, np.ndarray]) -> None:
        kept = dict(state)
        self._answering.lost[:] = kept.pop(_LOST)
        self._answering.aggregation.restore(kept)


def _layer_slices(mask: Mask, layers: Sequence[LayerSlice]) -> tuple[slice, ...]:
    """Where each layer lies among the active coordinates."""
    ends = np.cumsum(mask.active_per_layer(layers)).tolist()
    return tuple(slice(start, stop) for start, stop in pairwise([0, *ends]))
