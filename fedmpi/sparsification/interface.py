"""What a method of sparsification consists of: what clients send, what the server sends back, and in which form."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.streams import Purpose, generator
from fedmpi.numerics.topk import top_k
from fedmpi.sparsification.codec import Codec
from fedmpi.sparsification.uploads import Selection, Uploads

ALL_CLIENTS = -1
"""The client of a choice that all clients share."""


@dataclass(frozen=True)
class Choice:
    """The circumstances of a client's choice.

    ``layers``: the slice of the vector that belongs to each layer of the model, in order; under a mask the vector
    holds the active coordinates alone. ``draw`` is the only source of randomness: a generator of its own for every
    seed, round and client (``ALL_CLIENTS``: one for all), so that a choice does not depend on the rank that makes it.
    ``k_fraction``: the fraction of the vector that k was rounded from; 0 where k was given or chosen as a number, and
    under a mask. ``layer_k``: how many of the k entries each layer has; empty: they may be any.
    """

    seed: int
    round_index: int
    client: int
    layers: Sequence[slice]
    k_fraction: float = 0.0
    layer_k: tuple[int, ...] = ()

    def draw(self) -> np.random.Generator:
        """The generator of this choice, from its beginning."""
        return generator(self.seed, Purpose.SPARSIFICATION, self.round_index, self.client + 1)


Choose = Callable[[NDArray[np.float32], int, Choice], NDArray[np.int32]]
"""``choose(accumulated, k, choice)``: the entries of an accumulated gradient (n,) that a client sends, int32 rising."""

Coordinates = Callable[[int, int, Choice], NDArray[np.int32]]
"""``coordinates(dimension, k, choice)``: the entries that all clients send in a round, int32 rising."""

Select = Callable[[Uploads, int], Selection]
"""``select(uploads, k)``: what the server sends back of what it got."""


Memory = Literal["error", "estimate", "none"]
"""What a client keeps of its gradients from round to round.

What was not used of them (error feedback); the sum of all that was used before, of which the difference to its present
gradients is sent; or nothing."""


def largest(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
    """The ``k`` entries of largest magnitude, or so many of each layer; ties go to the lowest index."""
    if not choice.layer_k:
        return top_k(accumulated, k)
    shares = zip(choice.layers, choice.layer_k, strict=True)
    chosen = [top_k(accumulated[layer], own) + np.int32(layer.start) for layer, own in shares]
    return np.concatenate(chosen)


@dataclass(frozen=True)
class ServerMemory:
    """A vector that the server keeps from round to round, to which it adds the mean of what arrived.

    ``choose(memory, k, choice)``: the entries of it that go down, int32 rising; the choice is that of ``ALL_CLIENTS``.
    What went down is taken out of it (a residual), or stays (``estimate``); in an estimate clients that sent nothing
    count with zeros, and so does the mean's weight.
    """

    choose: Choose
    estimate: bool = False


@dataclass(frozen=True)
class Method:
    """What all methods state. ``summary``: one sentence; ``source``: the publication.

    ``one_k``: why k cannot change from round to round, as the end of a sentence; empty where it can.
    """

    summary: str
    source: str = ""
    one_k: str = ""


@dataclass(frozen=True, kw_only=True)
class SparseMethod(Method):
    """Clients send entries of their accumulated gradients (error feedback), the server a selection of them.

    ``choose`` picks what a client sends, at most k entries or as many as it likes; ``coordinates``, where given, picks
    the same for all clients without seeing values, so that positions need not travel. ``select`` is the server's.
    ``confirm_used``: clients cannot see from the selection which of their entries went into it, and get a flag each.
    ``at_most_k_down``: the selection never exceeds k.
    ``codec``: the method's own form of messages; None: that of ``sparsification.wire`` and ``value_type``.
    ``codec_at(k, choice)``: that form for one message, where it depends on k or the layers, or draws; it decodes any
    message over the same layers. ``codec_down``: the form of what the server sends; None: that of the uploads.
    ``memory``: what a client keeps. ``server``: what the server keeps; then all that was sent counts as used.
    ``of_updates``: what clients accumulate and send are updates, their gradients times the learning rate, so that what
    waits keeps the one of its round; otherwise gradients, and what comes down is multiplied by that of the present one.
    ``all_entries``: everything is sent, and there is no k.
    ``resends``: messages differ in length by what they say; who missed some is sent each of them, or the model.
    """

    select: Select
    choose: Choose = largest
    coordinates: Coordinates | None = None
    confirm_used: bool = False
    at_most_k_down: bool = True
    codec: Codec | None = None
    codec_at: Callable[[int, Choice], Codec] | None = None
    codec_down: Codec | None = None
    memory: Memory = "error"
    server: ServerMemory | None = None
    of_updates: bool = False
    all_entries: bool = False
    resends: bool = False


@dataclass(frozen=True, kw_only=True)
class DenseMethod(Method):
    """Clients send everything, every ``period(dimension, k)`` rounds (None: in each, and there is no k)."""

    period: Callable[[int, int], int] | None = None
