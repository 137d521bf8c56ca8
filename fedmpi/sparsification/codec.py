"""The form in which entries travel, as an object: how many bytes they take, how they are written and read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification import wire
from fedmpi.sparsification.wire import NO_TAIL, Entries, Message


class Codec(Protocol):
    """A form of messages, the same up and down. All methods are pure.

    ``lossy``: values may arrive changed (``Message.values`` are those that arrive); the sender keeps the difference.
    """

    @property
    def lossy(self) -> bool: ...

    def encode(
        self,
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        dimension: int,
        tail: NDArray[np.float32] = NO_TAIL,
    ) -> Message:
        """The message of finite ``values`` (n,) at ``indices`` (n,), rising, among ``dimension`` coordinates.

        ``tail`` travels beside them, float32.
        """

    def decode(
        self,
        data: NDArray[np.uint8],
        dimension: int,
        tail_length: int = 0,
        positions: NDArray[np.int32] | None = None,
    ) -> Entries:
        """The inverse. ``positions``: those that both sides know, or None. Raises WireError for other bytes."""

    def message_bytes(self, entries: int, dimension: int) -> int:
        """The bytes of a message of so many entries, without a tail; where that depends on them, what is expected."""

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        """``message_bytes`` as a part that does not depend on ``dimension``, and bytes for each coordinate."""


@dataclass(frozen=True)
class WireCodec:
    """The forms of ``sparsification.wire``: ``form`` and ``value_type`` as there."""

    form: str
    value_type: str = "float32"

    @property
    def lossy(self) -> bool:
        return self.value_type != "float32"

    def encode(
        self,
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        dimension: int,
        tail: NDArray[np.float32] = NO_TAIL,
    ) -> Message:
        return wire.encode(self.form, indices, values, dimension, value_type=self.value_type, tail=tail)

    def decode(
        self,
        data: NDArray[np.uint8],
        dimension: int,
        tail_length: int = 0,
        positions: NDArray[np.int32] | None = None,
    ) -> Entries:
        return wire.decode(data, dimension, tail_length=tail_length, positions=positions)

    def message_bytes(self, entries: int, dimension: int) -> int:
        return wire.message_bytes(self.form, entries, dimension, self.value_type)

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        return wire.bytes_by_dimension(self.form, entries, dimension, self.value_type)


DENSE = WireCodec("dense")
"""All coordinates, float32: how methods that send everything send it, and how whole models travel."""


def encode_many(
    codec: Codec, indices: NDArray[np.int32], values: NDArray[np.float32], dimension: int
) -> list[Message]:
    """``codec.encode`` of every row of ``indices`` and ``values`` (m, n)."""
    if isinstance(codec, WireCodec) and not codec.lossy:
        rows = wire.encode_rows(codec.form, indices, values, dimension)
        if rows is not None:
            return [Message(*each) for each in zip(rows, values, strict=True)]
    return [codec.encode(*each, dimension) for each in zip(indices, values, strict=True)]


def decode_many(
    codec: Codec,
    messages: Sequence[NDArray[np.uint8]],
    dimension: int,
    tail_length: int,
    positions: NDArray[np.int32] | None,
) -> list[Entries]:
    """``codec.decode`` of every one of ``messages``."""
    if isinstance(codec, WireCodec) and positions is None and len({data.size for data in messages}) == 1:
        rows = wire.decode_rows(np.stack(messages), dimension, tail_length=tail_length)
        if rows is not None:
            return rows
    return [codec.decode(data, dimension, tail_length, positions) for data in messages]
