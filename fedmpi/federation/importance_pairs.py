"""Entries of importance, or of gradients, that travel as pairs of index and value beside an update.

Huang et al., "Distributed pruning towards tiny neural networks in federated learning", IEEE ICDCS 2023, section on
progressive pruning: of pruned parameters only the largest gradients are sent. Which parameters can be among them both
sides know from the mask, so that indices count among those. The server adds up exactly, so that neither the order of
clients nor how they lie on ranks shows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.exact_sum import accumulate, mean, scale_exponent
from fedmpi.numerics.topk import top_k
from fedmpi.pruning.interface import Method, Setup
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.codec import WireCodec
from fedmpi.sparsification.wire import VALUE_BYTES

RECEIVED, SKETCH = "received", "sketch"
"""Values of ``pruning.importance`` with which pairs travel."""

_NOTHING = np.empty(0, np.int32)


@dataclass(frozen=True)
class ImportanceSum:
    """``values`` float64 (D,): the sum over clients; ``left_out``: how many had values that are not finite.

    Where pairs were sent, only the server has the values, and the ``energy``: the sum over active parameters, where
    it was stated.
    """

    values: NDArray[np.float64]
    left_out: int
    energy: float = 0.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """What one message holds: the entries of largest magnitude of each part of a ``pool`` of coordinates.

    ``pool`` int32 (n,), rising within each part; ``parts`` are its consecutive parts, of which each sends ``counts``
    entries. The values at ``always`` (int32) travel besides, dense float32, and one more where the message
    ``states_energy``. Both sides know all of that.
    """

    pool: NDArray[np.int32]
    parts: tuple[slice, ...]
    counts: tuple[int, ...]
    always: NDArray[np.int32]
    codec: WireCodec
    states_energy: bool = False

    @property
    def entries(self) -> int:
        """How many pairs a message has."""
        return sum(self.counts)

    @property
    def message_bytes(self) -> int:
        """The length of every message; 0: there is nothing to send."""
        if not self.entries and not self._tail_length:
            return 0
        return self.codec.message_bytes(self.entries, len(self.pool)) + 4 * self._tail_length

    @property
    def _tail_length(self) -> int:
        return len(self.always) + self.states_energy

    def encode(self, values: NDArray[np.float32], tail: NDArray[np.float32]) -> NDArray[np.uint8] | None:
        """The message of ``values`` (n,) at the pool and of a ``tail``; None where any is not finite.

        The tail are the values that travel anyway, and behind them the energy where it is stated.
        """
        if not (np.isfinite(values).all() and np.isfinite(tail).all()):
            return None
        chosen = [
            top_k(values[part], count) + np.int32(part.start)
            for part, count in zip(self.parts, self.counts, strict=True)
        ]
        indices = np.concatenate([_NOTHING, *chosen])
        return self.codec.encode(indices, values[indices], len(self.pool), tail).data

    def decode(self, data: NDArray[np.uint8]) -> tuple[NDArray[np.int32], NDArray[np.float32], float]:
        """Coordinates of the model, each once, the values there, and the energy, 0 where none is stated.

        Raises WireError for other bytes.
        """
        entries = self.codec.decode(data, len(self.pool), self._tail_length)
        always, energy = np.split(entries.tail, [len(self.always)])
        coordinates = np.concatenate([self.pool[entries.indices], self.always])
        return coordinates, np.concatenate([entries.values, always]), float(energy.sum())


@dataclass(frozen=True)
class ImportanceForm:
    """In which form participants send importance where it is asked for: a rule that every rank follows by itself.

    ``value_type``: that of the values of pairs.
    """

    method: Method
    setup: Setup
    value_type: str = "float32"

    def pairs(self, mask: Mask, round_index: int, k: int) -> Pairs | None:
        """What is sent in a round of ``k`` entries under ``mask``; None: a value of every prunable parameter.

        ``received``: of pruned parameters the ``pruning.importance_entries`` (0: k) largest, and no more than the
        method can take back, and the sum of all active ones. ``sketch``: of all prunable ones as many, and what is
        never pruned. A method that says how many ``gradient_entries`` it wants gets those of pruned parameters, layer
        by layer, in 8 bytes each.
        """
        config = self.setup.config
        if self.method.gradient_entries is not None:
            counts = tuple(self.method.gradient_entries(self.setup, mask, round_index))
            pool, parts = self._pruned(mask)
            return Pairs(pool, parts, counts, _NOTHING, WireCodec("coo"))
        codec = WireCodec("auto", self.value_type)
        entries = config.importance_entries or k
        if config.importance == RECEIVED:
            pool, _ = self._pruned(mask)
            if self.method.most_returned is not None:
                entries = min(entries, self.method.most_returned(self.setup, mask, round_index))
            return replace(_of_pool(pool, entries, _NOTHING, codec), states_energy=True)
        if config.importance == SKETCH:
            layers = self.setup.layers
            pool, always = (
                np.concatenate(
                    [
                        _NOTHING,
                        *(_range(layer.start, layer.stop) for layer in layers if layer.prunable == own),
                    ]
                )
                for own in (True, False)
            )
            return _of_pool(pool, entries, always, codec)
        return None

    def message_bytes(self, mask: Mask, round_index: int, k: int) -> int:
        """What a participant adds to its message for it."""
        return self.bytes_at(mask, round_index)(k)

    def bytes_at(self, mask: Mask, round_index: int) -> Callable[[int], int]:
        """The same for any k, of which only the number of pairs depends on it."""
        most = self.pairs(mask, round_index, mask.dimension)
        if most is None:
            whole = VALUE_BYTES["float32"] * int(self.setup.sizes.sum())
            return lambda k: whole
        if self.method.gradient_entries is not None or self.setup.config.importance_entries:
            return lambda k: most.message_bytes
        return lambda k: replace(most, counts=(min(most.entries, k),)).message_bytes

    def _pruned(self, mask: Mask) -> tuple[NDArray[np.int32], tuple[slice, ...]]:
        """The pruned coordinates, and which of them are of each prunable layer."""
        flags = mask.flags()
        found = [
            np.flatnonzero(~flags[layer.start : layer.stop]).astype(np.int32) + np.int32(layer.start)
            for layer in self.setup.prunable
        ]
        ends = np.cumsum([0, *(len(each) for each in found)]).tolist()
        return np.concatenate([_NOTHING, *found]), tuple(slice(*each) for each in pairwise(ends))


def _of_pool(pool: NDArray[np.int32], entries: int, always: NDArray[np.int32], codec: WireCodec) -> Pairs:
    """The largest of the whole pool, or all of it."""
    return Pairs(pool, (slice(0, len(pool)),), (min(entries, len(pool)),), always, codec)


def _range(start: int, stop: int) -> NDArray[np.int32]:
    return np.arange(start, stop, dtype=np.int32)


def gather_pairs(
    ranks: Ranks, roster: Roster, mine: Sequence[NDArray[np.uint8] | None], length: int
) -> list[NDArray[np.uint8] | None]:
    """The messages of all accepted participants on the server, in client order; empty on other ranks (collective).

    ``mine``: those of this rank's, in client order, ``length`` bytes each; None: what the client has is not finite.
    """
    rows = np.zeros((len(mine), length), np.uint8)
    for row, message in zip(rows, mine, strict=True):
        if message is not None:
            row[:] = message
    accepted = [roster.accepted_of(rank) for rank in range(ranks.size)]
    gathered = ranks.gather_rows(rows.reshape(-1), [len(clients) * length for clients in accepted])
    if gathered is None:
        return []
    found = gathered.reshape(-1, length)[np.argsort(np.concatenate(accepted))]
    return [row if row[0] else None for row in found]  # no message begins with a zero byte


def sum_of_pairs(
    pairs: Pairs, messages: Sequence[NDArray[np.uint8] | None], parameters: int
) -> ImportanceSum:
    """The sum (D = ``parameters``) of what ``messages`` hold, zero where nothing was sent.

    With everything in every message these are the bits of the exact sum of whole vectors.
    """
    sent = [pairs.decode(message) for message in messages if message is not None]
    left_out = len(messages) - len(sent)
    if not sent:
        return ImportanceSum(np.zeros(parameters), left_out)
    largest = max(float(np.abs(values).max(initial=0.0)) for _, values, _ in sent)
    exponent = scale_exponent(largest, len(sent))
    sums, one = np.zeros(parameters), np.ones(1, np.int64)
    for coordinates, values, _ in sent:
        rounded = np.empty(len(values))
        accumulate([values], one, exponent, rounded)
        sums[coordinates] += rounded
    total = np.empty(parameters, np.float32)
    mean([], one[:0], [sums], exponent, len(sent), total)
    energy = sum(energy for _, _, energy in sent)
    return ImportanceSum(total.astype(np.float64) * len(sent), left_out, energy)
