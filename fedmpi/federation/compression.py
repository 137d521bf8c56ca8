"""Gradient compression: which entries of what it has accumulated a client sends, and the bytes of its message.

What comes down is chosen by the server (``server_aggregation``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise, repeat

import numpy as np
from numpy.typing import NDArray

from fedmpi.federation.messages import RoundPlan
from fedmpi.numerics.topk import top_k_rows
from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.sparsification.codec import Codec, decode_many, encode_many
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice, SparseMethod, largest
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch
from fedmpi.sparsification.wire import NO_TAIL, Entries, Message


@dataclass(frozen=True)
class Sent:
    """What a client sends: the ``indices`` of its entries (int32, among the active coordinates), and its message."""

    indices: NDArray[np.int32]
    message: Message


class Compression:
    """Clients' messages: entries that ``method`` chooses, in the form of ``codec``, and behind them a ``sketch``.

    The entries are among ``dimension`` active coordinates of ``layers`` with so many ``parameters``. ``shared``: the
    coordinates that all clients send in this round, where the method says so beforehand. ``k_fraction``: that of the
    configuration, of which k is made.
    """

    def __init__(
        self,
        method: SparseMethod,
        codec: Codec,
        sketch: MagnitudeSketch,
        layers: Sequence[LayerSlice],
        parameters: int,
        seed: int,
        k_fraction: float = 0.0,
    ) -> None:
        self.sketch = sketch
        self.shared: NDArray[np.int32] | None = None
        self._method = method
        self._codec = codec
        self._layers = layers
        self._seed = seed
        self._k_fraction = k_fraction
        self._parameters = parameters
        self.set_mask(Mask(parameters))

    def set_mask(self, mask: Mask) -> None:
        """Go on among the coordinates that ``mask`` leaves active."""
        self.dimension = mask.count
        self.sketch = replace(self.sketch, dimension=mask.count)
        ends = np.cumsum(mask.active_per_layer(self._layers)).tolist()
        self._slices = tuple(slice(start, stop) for start, stop in pairwise([0, *ends]))

    def begin(self, plan: RoundPlan) -> None:
        """A round starts."""
        if self._method.coordinates is not None:
            self.shared = self._method.coordinates(self.dimension, plan.k, self.choice(plan, ALL_CLIENTS))

    def choice(self, plan: RoundPlan, client: int) -> Choice:
        """In which circumstances the method chooses for a ``client``."""
        fraction = self._k_fraction if self.dimension == self._parameters else 0.0
        return Choice(self._seed, plan.round_index, client, self._slices, fraction, plan.layer_k)

    def form(self, plan: RoundPlan, choice: Choice) -> Codec:
        """The form of the message that a client sends by its ``choice``."""
        at = self._method.codec_at
        return self._codec if at is None else at(plan.k, choice)

    def of(
        self, active: NDArray[np.float32], client: int, plan: RoundPlan, tail: NDArray[np.float32]
    ) -> Sent | None:
        """What ``client`` sends of what it has accumulated, (active,), with a ``tail``.

        None where it is not finite, or would not arrive so.
        """
        choice, indices = self.choice(plan, client), self.shared
        if indices is None:
            indices = self._method.choose(active, min(plan.k, self.dimension), choice)
        return self._sent(active, indices, self.form(plan, choice), tail)

    def of_many(
        self, active: NDArray[np.float32], clients: NDArray[np.int64], plan: RoundPlan
    ) -> list[Sent | None]:
        """What each of ``clients`` sends of what it has accumulated, (c, active), without tails."""
        if self.shared is None and (self._method.choose is not largest or self._method.codec_at is not None):
            rows = zip(active, clients.tolist(), strict=True)
            return [self.of(row, client, plan, NO_TAIL) for row, client in rows]
        if self.shared is None:
            indices = self._largest_of_rows(active, plan)
            values = np.take_along_axis(active, indices, axis=1)
        else:
            indices = np.broadcast_to(self.shared, (len(active), len(self.shared)))
            values = np.take(active, self.shared, axis=1)  # unlike active[:, shared], rows are contiguous
        finite = np.isfinite(values).all(axis=1)
        if self.sketch.bytes or not finite.all():
            rows = zip(active, indices, strict=True)
            return [self._sent(row, each, self._codec, NO_TAIL) for row, each in rows]
        messages = encode_many(self._codec, indices, values, self.dimension)
        shared = repeat(self.shared, len(active)) if self.shared is not None else iter(indices)
        return [Sent(*each) for each in zip(shared, messages, strict=True)]

    def _largest_of_rows(self, active: NDArray[np.float32], plan: RoundPlan) -> NDArray[np.int32]:
        """What ``largest`` gives for each row, (c, k)."""
        if not plan.layer_k:
            return top_k_rows(active, min(plan.k, self.dimension))
        layers = [
            top_k_rows(np.ascontiguousarray(active[:, layer]), k) + np.int32(layer.start)
            for layer, k in zip(self._slices, plan.layer_k, strict=True)
        ]
        return np.concatenate(layers, axis=1)

    def _sent(
        self,
        active: NDArray[np.float32],
        indices: NDArray[np.int32],
        codec: Codec,
        tail: NDArray[np.float32],
    ) -> Sent | None:
        values = active[indices]
        if not np.isfinite(values).all():
            return None
        message = codec.encode(indices, values, self.dimension, tail)
        if codec.lossy and not np.isfinite(message.values).all():
            return None
        if self.sketch.bytes:
            message = message._replace(data=np.concatenate([message.data, self.sketch.encode(active)]))
        return Sent(indices, message)

    def read(
        self, messages: Sequence[NDArray[np.uint8]], codec: Codec, tail_length: int
    ) -> tuple[list[Entries], list[NDArray[np.float64]]]:
        """On the server: the entries that clients sent in the form of ``codec``, and the energies that sketches state.

        The entries are views of the ``messages``; of energies there are none without sketches.
        """
        stated = []
        if self.sketch.bytes:
            ends = [len(message) - self.sketch.bytes for message in messages]
            stated = [self.sketch.decode(message[end:]) for message, end in zip(messages, ends, strict=True)]
            messages = [message[:end] for message, end in zip(messages, ends, strict=True)]
        return decode_many(codec, messages, self.dimension, tail_length, self.shared), stated
