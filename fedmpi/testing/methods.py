"""Check of a method of sparsification: its choices, its selection, its messages, and error feedback's conservation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.error_feedback import take_out
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice, ServerMemory, SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import Message

_ROUNDS = 4
_MOST_CLIENTS = 6
_MOST_COORDINATES = 40


def check_sparsification(method: SparseMethod, codec: Codec | None = None, examples: int = 50) -> None:
    """Simulate ``examples`` small random federations of a few rounds with ``method``, and check every step.

    ``codec`` replaces the method's own form of messages, unless it has one for every message. Raises AssertionError
    where a choice is not rising int32 within the vector, or is another when it is asked for again; where the selection
    holds what nobody sent or flags what it did not use; where a message does not read as it was written or is not as
    long as announced; and where what clients accumulated is neither kept nor used.
    """
    form = codec or method.codec or WireCodec("values" if method.coordinates else "auto")
    for seed in range(examples):
        _Federation(method, form, seed).run()


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

    def run(self) -> None:
        for round_index in range(_ROUNDS):
            participants = np.flatnonzero(self.rng.random(self.clients) < 0.7).tolist()
            k = int(self.rng.integers(1, self.dimension + 1))
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
        _check_selection(selection, uploads)
        if self.method.at_most_k_down:
            sent = max((len(j) for j in indices), default=0)
            assert len(selection.indices) <= max(k, sent), f"{len(selection.indices)} selected, k is {k}"
        if self.method.memory != "error":
            self.accumulated[:] = kept
        before = self.accumulated.astype(np.float64)
        taken = np.zeros_like(before)
        for c, j, message, used in zip(
            participants, indices, messages, uploads.split(selection.used), strict=True
        ):
            if self.method.server is not None:
                assert used.all(), "all that was sent is added to the server's memory, and must count as used"
            elif not self.method.confirm_used:
                seen = np.isin(j, selection.indices)
                assert (used == seen).all(), "clients cannot see what was used: confirm_used must be set"
            if self.method.memory != "none":
                take_out(self.accumulated[c], j, message.values, used)
                taken[c, j[used]] = message.values[used]
        np.testing.assert_allclose(
            self.accumulated + taken,
            before,
            rtol=0,
            atol=self._rounding(before, taken),
            err_msg="what was accumulated is neither kept nor used",
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
        _check_rising(indices, self.dimension)
        form = self.method.codec_down or self._form(k, round_index, ALL_CLIENTS)
        message = form.encode(indices, memory[indices], self.dimension)
        sent = self._read(form, indices, message, None)
        if not server.estimate:
            self.server[indices] -= sent

    def _shared(self, round_index: int, k: int) -> NDArray[np.int32] | None:
        if self.method.coordinates is None:
            return None
        choice = Choice(self.seed, round_index, ALL_CLIENTS, self.layers)
        chosen = self.method.coordinates(self.dimension, k, choice)
        _check_rising(chosen, self.dimension)
        again = self.method.coordinates(self.dimension, k, choice)
        np.testing.assert_array_equal(chosen, again, err_msg="coordinates differ when asked for again")
        return chosen

    def _chosen(
        self, client: int, k: int, round_index: int, shared: NDArray[np.int32] | None
    ) -> NDArray[np.int32]:
        if shared is not None:
            return shared
        vector = self.accumulated[client].copy()
        choice = Choice(self.seed, round_index, client, self.layers)
        chosen = self.method.choose(vector, k, choice)
        _check_rising(chosen, self.dimension)
        np.testing.assert_array_equal(vector, self.accumulated[client], err_msg="choose changed its argument")
        again = self.method.choose(vector, k, choice)
        np.testing.assert_array_equal(chosen, again, err_msg="a choice differs when it is made again")
        return chosen

    def _read(
        self, codec: Codec, indices: NDArray[np.int32], message: Message, shared: NDArray[np.int32] | None
    ) -> NDArray[np.float32]:
        announced = codec.message_bytes(len(indices), self.dimension)
        if isinstance(codec, WireCodec):
            assert len(message.data) == announced, f"{len(message.data)} bytes, announced are {announced}"
        read = codec.decode(message.data, self.dimension, positions=shared)
        np.testing.assert_array_equal(
            read.indices, indices, err_msg="indices do not arrive as they were sent"
        )
        np.testing.assert_array_equal(read.values, message.values, err_msg="values arrive as other ones")
        return read.values


def _check_rising(indices: NDArray[np.int32], dimension: int) -> None:
    assert indices.dtype == np.int32, f"indices are {indices.dtype}, not int32"
    assert indices.ndim == 1, f"indices have the shape {indices.shape}"
    assert (np.diff(indices) > 0).all(), f"indices do not rise: {indices.tolist()}"
    assert not indices.size or (indices[0] >= 0 and indices[-1] < dimension), "an index is out of range"


def _check_selection(selection: Selection, uploads: Uploads) -> None:
    _check_rising(selection.indices, uploads.dimension)
    assert selection.values.shape == selection.indices.shape, "values and indices differ in number"
    assert np.isfinite(selection.values).all(), "a selected value is not finite"
    sent = np.unique(np.concatenate([np.empty(0, np.int32), *uploads.indices]))
    assert np.isin(selection.indices, sent).all(), "a coordinate was selected that nobody sent"
    entries = sum(len(indices) for indices in uploads.indices)
    assert selection.used.shape == (entries,), "used must flag every entry, in client order"
    for indices, used in zip(uploads.indices, uploads.split(selection.used), strict=True):
        assert np.isin(indices[used], selection.indices).all(), (
            "an entry is flagged whose coordinate was not selected"
        )
