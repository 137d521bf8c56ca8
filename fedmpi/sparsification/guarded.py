"""A user's method of sparsification under watch: what it chooses, selects and writes is checked where it happens."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import inf
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.guarding import Guard, read_only, shown
from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.interface import (
    Choice,
    Choose,
    Coordinates,
    DenseMethod,
    Memory,
    Method,
    Select,
    SparseMethod,
    largest,
)
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import NO_TAIL, Entries, Message

_TOLERANCE = 1e-6
"""Of the sum of magnitudes: what a sum in another order may lose of float64, or of values that went through float32."""


def guarded(method: Method, guard: Guard) -> Method:
    """``method``, whose functions raise PartError where they break a rule of ``SparseMethod`` or ``DenseMethod``."""
    if isinstance(method, DenseMethod):
        return method if method.period is None else replace(method, period=_period(guard, method.period))
    if not isinstance(method, SparseMethod):
        return method
    memories = get_args(Memory)
    if method.memory not in memories:
        allowed = ", ".join(f'"{name}"' for name in memories)
        guard.refuse("memory", f"is {shown(method.memory)}", allowed)
    codec_at = method.codec_at
    changes: dict[str, Any] = {"select": _select(guard, method)}
    if method.choose is not largest:
        changes["choose"] = _choose(guard, "choose", method.choose)
    if method.coordinates is not None:
        changes["coordinates"] = _coordinates(guard, method.coordinates)
    if method.codec is not None:
        changes["codec"] = guarded_codec(guard, method.codec)
    if method.codec_down is not None:
        changes["codec_down"] = guarded_codec(guard, method.codec_down)
    if codec_at is not None:
        changes["codec_at"] = lambda k, choice: guarded_codec(
            guard, guard.call("codec_at", codec_at, k, choice)
        )
    if method.server is not None:
        choose = _choose(guard, "server.choose", method.server.choose)
        changes["server"] = replace(method.server, choose=choose)
    return replace(method, **changes)


def _period(guard: Guard, period: Callable[[int, int], int]) -> Callable[[int, int], int]:
    def checked(dimension: int, k: int) -> int:
        rounds = guard.call("period", period, dimension, k)
        guard.integer("period", rounds, 1, 2**31 - 1, "rounds")
        return int(rounds)

    return checked


def _choose(guard: Guard, function: str, choose: Choose) -> Choose:
    def checked(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
        seen = read_only(accumulated)
        indices = guard.call(function, choose, seen, k, choice)
        if guard.is_first(function):
            guard.must_agree(function, indices, guard.call(function, choose, seen, k, choice))
        return guard.rising(function, indices, accumulated.size)

    return checked


def _coordinates(guard: Guard, coordinates: Coordinates) -> Coordinates:
    def checked(dimension: int, k: int, choice: Choice) -> NDArray[np.int32]:
        indices = guard.call("coordinates", coordinates, dimension, k, choice)
        if guard.is_first("coordinates"):
            guard.must_agree(
                "coordinates", indices, guard.call("coordinates", coordinates, dimension, k, choice)
            )
        return guard.rising("coordinates", indices, dimension)

    return checked


def _select(guard: Guard, method: SparseMethod) -> Select:
    def checked(uploads: Uploads, k: int) -> Selection:
        for array in (*uploads.indices, *uploads.values, *(uploads.rows or ())):
            array.flags.writeable = False
        selection = guard.call("select", method.select, uploads, k)
        check_selection(guard, method, uploads, k, selection)
        if guard.is_first("select"):
            guard.must_agree("select", selection, guard.call("select", method.select, uploads, k))
        return replace(selection, indices=np.asarray(selection.indices, np.int32))

    return checked


def check_selection(guard: Guard, method: SparseMethod, uploads: Uploads, k: int, selection: Any) -> None:
    """Raise PartError unless ``selection`` is one of what ``uploads`` hold, and says which entries went into it."""
    guard.instance("select", selection, Selection)
    guard.rising("select", selection.indices, uploads.dimension)
    count = len(selection.indices)
    guard.array("select", selection.values, "f", (count,), "values")
    guard.finite("select", selection.values, "values")
    sizes = [len(indices) for indices in uploads.indices]
    guard.array("select", selection.used, "b", (sum(sizes),), "used, a flag for every entry in client order,")
    most = max(k, *sizes, 0)
    if method.at_most_k_down and count > most:
        problem = f"selected {count} entries, k being {k}"
        guard.refuse("select", problem, f"at most {most}, or at_most_k_down=False")
    sent, selected = np.zeros((2, uploads.dimension), np.bool_)
    selected[selection.indices] = True
    sums, sizes_of = np.zeros((2, uploads.dimension))
    flags = uploads.split(selection.used)
    for (indices, values, weight), used in zip(uploads.parts(), flags, strict=True):
        sent[indices] = True
        terms = weight * values[used].astype(np.float64)
        sums[indices[used]] += terms
        sizes_of[indices[used]] += np.abs(terms)
        if (used & ~selected[indices]).any():
            guard.refuse(
                "select", "flags an entry as used whose coordinate it left out", "used only where selected"
            )
        if not method.confirm_used and method.server is None and (used != selected[indices]).any():
            problem = "did not use an entry whose coordinate it selected, which clients cannot see"
            guard.refuse("select", problem, "all entries of selected coordinates, or confirm_used=True")
    if (selected & ~sent).any():
        at = int((selected & ~sent).argmax())
        guard.refuse("select", f"selected coordinate {at}, which nobody sent", "coordinates that were sent")
    if method.server is not None and not selection.used.all():
        allowed = "all of it: what was sent is added to the server's memory"
        guard.refuse("select", "did not flag all that was sent as used", allowed)
    if guard.thorough and method.memory == "error" and method.server is None:
        _check_conservation(guard, selection, sums[selection.indices], sizes_of[selection.indices])


def _check_conservation(
    guard: Guard, selection: Selection, sums: NDArray[np.float64], magnitudes: NDArray[np.float64]
) -> None:
    """What clients drop from their memory because it counts as used must be what the selection holds.

    A run does without: a server may mean to weigh entries otherwise, as by their median.
    """
    wrong = np.abs(selection.values - sums) > _TOLERANCE * magnitudes
    if wrong.any():
        at = int(wrong.argmax())
        problem = (
            f"gave {selection.values[at]:.6g} at coordinate {selection.indices[at]}, but what it flags as used there "
            f"sums to {sums[at]:.6g}: error feedback would lose the difference"
        )
        guard.refuse("select", problem, "the weighted sum of what is used, or memory='none'")


def guarded_codec(guard: Guard, codec: Any) -> Codec:
    """``codec``, whose messages are checked; forms of the wire are returned as they are."""
    if isinstance(codec, (WireCodec, _GuardedCodec)):
        return codec
    for name in ("lossy", "encode", "decode", "message_bytes", "bytes_by_dimension"):
        if not hasattr(codec, name):
            guard.refuse("codec", f"has no {name}", "a fedmpi.sparsification.Codec")
    return _GuardedCodec(guard, codec)


@dataclass(frozen=True)
class _GuardedCodec:
    guard: Guard
    codec: Codec

    @property
    def lossy(self) -> bool:
        return self.codec.lossy

    def encode(
        self,
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        dimension: int,
        tail: NDArray[np.float32] = NO_TAIL,
    ) -> Message:
        name = "codec.encode"
        message = self.guard.call(
            name, self.codec.encode, read_only(indices), read_only(values), dimension, read_only(tail)
        )
        self.guard.instance(name, message, Message)
        self.guard.array(name, message.data, "uint8", (-1,), "data")
        self.guard.array(name, message.values, "float32", (len(indices),), "values")
        self.guard.finite(name, message.values, "values")
        if not self.lossy and not np.array_equal(message.values, values):
            self.guard.refuse(name, "changed values", "the same values, or lossy = True")
        if self.guard.is_first(name):
            self._check_arrival(message, indices, dimension, tail)
        return message

    def _check_arrival(
        self, message: Message, indices: NDArray[np.int32], dimension: int, tail: NDArray[np.float32]
    ) -> None:
        """The bytes alone must give what was announced: a receiver has nothing else."""
        name = "codec.decode"
        read = self.decode(message.data.copy(), dimension, len(tail), indices)
        for what, sent, arrived in (
            ("indices", indices, read.indices),
            ("values", message.values, read.values),
            ("the tail", tail, read.tail),
        ):
            if not np.array_equal(sent, arrived):
                self.guard.refuse(
                    name, f"read {what} that are not those of the message", "what encode announced"
                )

    def decode(
        self,
        data: NDArray[np.uint8],
        dimension: int,
        tail_length: int = 0,
        positions: NDArray[np.int32] | None = None,
    ) -> Entries:
        name = "codec.decode"
        entries = self.guard.call(name, self.codec.decode, read_only(data), dimension, tail_length, positions)
        self.guard.instance(name, entries, Entries)
        indices = self.guard.rising(name, entries.indices, dimension)
        self.guard.array(name, entries.values, "float32", (len(indices),), "values")
        self.guard.array(name, entries.tail, "float32", (tail_length,), "tail")
        return entries._replace(indices=indices)

    def message_bytes(self, entries: int, dimension: int) -> int:
        name = "codec.message_bytes"
        size = self.guard.call(name, self.codec.message_bytes, entries, dimension)
        self.guard.integer(name, size, 0, 2**62, "bytes")
        return int(size)

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        name = "codec.bytes_by_dimension"
        parts = self.guard.pair(
            name, self.guard.call(name, self.codec.bytes_by_dimension, entries, dimension)
        )
        for part in parts:
            if not isinstance(part, (int, float, np.number)) or not 0 <= part < inf:
                self.guard.refuse(name, f"gave {shown(part)}", "two numbers of bytes, finite and from 0 on")
        return float(parts[0]), float(parts[1])
