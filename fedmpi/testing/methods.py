"""Check of a method of sparsification: its choices, its selection, its messages, and error feedback's conservation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.error_feedback import take_out
from fedmpi.sparsification.guarded import guarded, guarded_codec
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice, ServerMemory, SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import Message
from fedmpi.testing.asserting import asserting, guard_of

_ROUNDS = 4
_MOST_CLIENTS = 6
_MOST_COORDINATES = 40
_MOST_OFF = 1.5
"""By which factor the bytes that a codec announces may differ from those of its messages, over all examples."""


@asserting
def check_sparsification(method: SparseMethod, codec: Codec | None = None, examples: int = 50) -> None:
    """Simulate ``examples`` small random federations of a few rounds with ``method``, and check every step.

    ``codec`` replaces the method's own form of messages, unless it has one for every message. Raises AssertionError, in
    one line that names the function, where a choice is not rising int32 within the vector, or is another when it is
    asked for again; where the selection holds what nobody sent, flags what it did not use, or is not the sum of what it
    flags; where a message does not read as it was written or is not as long as announced; where what clients
    accumulated is neither kept nor used; and where a function changes its arguments, or draws from a global generator.
    """
    guard = guard_of("check_sparsification", method, SparseMethod)
    watched = guarded(method, guard)
    assert isinstance(watched, SparseMethod)
    form = codec or method.codec or WireCodec("values" if method.coordinates else "auto")
    announced, sent = 0, 0
    for seed in range(examples):
        federation = _Federation(watched, guarded_codec(guard, form), seed)
        federation.run()
        announced, sent = announced + federation.announced_bytes, sent + federation.sent_bytes
    if not announced / _MOST_OFF <= sent <= announced * _MOST_OFF:
        problem = f"announced {announced} bytes for messages of {sent}"
        guard.refuse("codec.message_bytes", problem, "what messages take on average")


class _Federation:
    """A few clients with accumulated gradients that float32 adds exactly."""

    def __init__(self, method: SparseMethod, codec: Codec, seed: int) -> None:
        self.method = method
        self.codec = codec
        self.seed = seed
        self.rng = np.random.default_rng(seed)
        self.clients = int(self.rng.integers(1, _MOST_CLIENTS + 1))
        self.dimension = int(self.rng.integers(1, _MOST_COORDINATES + 1))
        cut = int(self.rng.integers(0, self.dimension + 1))
        self.layers = (slice(0, cut), slice(cut, self.dimension))
        self.accumulated = np.zeros((self.clients, self.dimension), np.float32)
        self.server = np.zeros(self.dimension)
        self.announced_bytes = self.sent_bytes = 0

    def run(self) -> None:
        for round_index in range(_ROUNDS):
            participants = np.flatnonzero(self.rng.random(self.clients) < 0.7).tolist()
            k = int(self.rng.integers(1, self.dimension + 1))
            if self.method.all_entries:
                k = self.dimension
            kept = self.accumulated.copy()
            gradients = self.rng.integers(-5000, 5000, kept.shape).astype(np.float32)
            for client in participants:
                self.accumulated[client] += gradients[client]
            self._round(round_index, participants, k, kept)

    def _round(
        self, round_index: int, participants: Sequence[int], k: int, kept: NDArray[np.float32]
    ) -> None:
        """``kept``: what clients had of earlier rounds."""
        shared = self._shared(round_index, k)
        indices = [self._chosen(client, k, round_index, shared) for client in participants]
        messages = [
            self._form(k, round_index, c).encode(j, self.accumulated[c][j], self.dimension)
            for c, j in zip(participants, indices, strict=True)
        ]
        reader = self._form(k, round_index, ALL_CLIENTS)
        values = [
            self._read(reader, j, message, shared) for j, message in zip(indices, messages, strict=True)
        ]
        weights = np.full(len(participants), 1 / max(1, len(participants)))
        uploads = Uploads(tuple(indices), tuple(values), weights, self.dimension)
        selection = self.method.select(uploads, k)
        if self.method.memory != "error":
            self.accumulated[:] = kept
        before = self.accumulated.astype(np.float64)
        taken = np.zeros_like(before)
        for c, j, message, used in zip(
            participants, indices, messages, uploads.split(selection.used), strict=True
        ):
            if self.method.memory != "none":
                take_out(self.accumulated[c], j, message.values, used)
                taken[c, j[used]] = message.values[used]
        lost = np.abs(self.accumulated + taken - before).max(initial=0.0)
        assert lost <= self._rounding(before, taken), (
            f"what was accumulated is neither kept nor used: {lost:g} is lost of an entry"
        )
        if self.method.server is not None:
            self._answer_from_memory(self.method.server, selection, k, round_index)

    def _rounding(self, *vectors: NDArray[np.float64]) -> float:
        """What float32 may lose of a difference: nothing in the forms of the wire, whose values are exact here."""
        if isinstance(self.codec, WireCodec) and self.method.codec_at is None:
            return 0.0
        return float(np.finfo(np.float32).eps) * sum(np.abs(vector).max(initial=0.0) for vector in vectors)

    def _form(self, k: int, round_index: int, client: int) -> Codec:
        at = self.method.codec_at
        return self.codec if at is None else at(k, Choice(self.seed, round_index, client, self.layers))

    def _answer_from_memory(self, server: ServerMemory, mean: Selection, k: int, round_index: int) -> None:
        self.server[mean.indices] += mean.values
        memory = self.server.astype(np.float32)
        choice = Choice(self.seed, round_index, ALL_CLIENTS, self.layers)
        indices = server.choose(memory.copy(), k, choice)
        form = self.method.codec_down or self._form(k, round_index, ALL_CLIENTS)
        message = form.encode(indices, memory[indices], self.dimension)
        sent = self._read(form, indices, message, None)
        if not server.estimate:
            self.server[indices] -= sent

    def _shared(self, round_index: int, k: int) -> NDArray[np.int32] | None:
        if self.method.coordinates is None:
            return None
        return self.method.coordinates(
            self.dimension, k, Choice(self.seed, round_index, ALL_CLIENTS, self.layers)
        )

    def _chosen(
        self, client: int, k: int, round_index: int, shared: NDArray[np.int32] | None
    ) -> NDArray[np.int32]:
        if shared is not None:
            return shared
        choice = Choice(self.seed, round_index, client, self.layers)
        return self.method.choose(self.accumulated[client].copy(), k, choice)

    def _read(
        self, codec: Codec, indices: NDArray[np.int32], message: Message, shared: NDArray[np.int32] | None
    ) -> NDArray[np.float32]:
        announced = codec.message_bytes(len(indices), self.dimension)
        codec.bytes_by_dimension(len(indices), self.dimension)
        self.announced_bytes += announced
        self.sent_bytes += len(message.data)
        if isinstance(codec, WireCodec):
            assert len(message.data) == announced, f"{len(message.data)} bytes, announced are {announced}"
        read = codec.decode(message.data, self.dimension, positions=shared)
        assert np.array_equal(read.indices, indices), "indices do not arrive as they were sent"
        assert np.array_equal(read.values, message.values), "values arrive as other ones"
        return read.values
