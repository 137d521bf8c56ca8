"""Sparse ternary compression: the largest entries, of one magnitude, up and down.

Sattler, Wiedemann, Mueller, Samek, "Robust and communication-efficient federated learning from non-i.i.d. data", IEEE
TNNLS 2020 (arXiv 1903.02891). Distances between entries travel in a Golomb code, and one bit for each sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor, log, log1p, log2, sqrt
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification import bits
from fedmpi.sparsification.interface import ALL_CLIENTS, Choice, ServerMemory, SparseMethod
from fedmpi.sparsification.uploads import Selection, Uploads, union_of
from fedmpi.sparsification.wire import HEADER_BYTES, NO_TAIL, Entries, Message, WireError

_HEADER = Struct("<4sIII")
_MAGIC = b"fstc"
_TENSOR = np.dtype([("magnitude", "<f4"), ("entries", "<u4")])
_GOLDEN = log((sqrt(5.0) - 1.0) / 2.0)


def kept(size: int, fraction: float | Fraction) -> int:
    """k of a tensor of ``size`` entries: ceil(size x fraction)."""
    return ceil(size * fraction)


def low_bits(entries: int, size: int) -> int:
    """b of the Golomb code of ``entries`` among ``size`` > ``entries``."""
    q = (entries + 1) / (size + 1)
    return max(0, 1 + floor(log2(_GOLDEN / log1p(-q))))


def expected_bits(entries: int, size: int) -> float:
    """The expected length of the code of ``entries`` among ``size``, signs included; they lie anywhere."""
    if entries in (0, size):
        return float(entries)
    b, q = low_bits(entries, size), (entries + 1) / (size + 1)
    return entries * (b + 1 + 1 / (1 - (1 - q) ** 2**b))


def largest_with_ties(tensor: NDArray[np.float32], count: int) -> NDArray[np.int32]:
    """Where |tensor| reaches the ``count``-th largest, ties included and zeros excepted, int32 rising."""
    if not count:
        return np.empty(0, np.int32)
    magnitudes = np.abs(tensor)
    least = np.partition(magnitudes, -count)[-count]
    return np.flatnonzero((magnitudes >= least) & (magnitudes > 0)).astype(np.int32)


@dataclass(frozen=True)
class Tensor:
    """A slice of the vector that is compressed on its own; of its entries ``kept`` are meant to travel."""

    start: int
    stop: int
    kept: int


@dataclass(frozen=True)
class TernaryCodec:
    """Signs, distances, and the magnitude of each of ``tensors``; none: the vector is one, and all its entries count.

    A message is a header of 16 bytes, magnitude (float32) and number of entries (uint32) of each tensor, their Golomb
    codes one after the other, filled up to bytes, and the tail. Where all entries of a tensor are sent, signs alone
    travel. The magnitude is the mean of the ``kept`` largest; where ties make the entries more, it stays that.
    """

    tensors: tuple[Tensor, ...] = ()

    @property
    def lossy(self) -> bool:
        return True

    def encode(
        self,
        indices: NDArray[np.int32],
        values: NDArray[np.float32],
        dimension: int,
        tail: NDArray[np.float32] = NO_TAIL,
    ) -> Message:
        """As ``Codec.encode``; the bytes depend on where the entries lie."""
        tensors = self.tensors or (Tensor(0, dimension, len(indices)),)
        table, codes, arriving = np.empty(len(tensors), _TENSOR), [], np.empty(len(values), np.float32)
        bounds = np.searchsorted(indices, [0, *(tensor.stop for tensor in tensors)])
        for number, tensor in enumerate(tensors):
            own = slice(bounds[number], bounds[number + 1])
            negative = values[own] < 0
            magnitude = _mean_of_largest(values[own], tensor.kept)
            table[number] = magnitude, len(negative)
            arriving[own] = np.where(negative, -magnitude, magnitude)
            size = tensor.stop - tensor.start
            if len(negative) == size:
                codes.append(negative.view(np.uint8))
            elif len(negative):
                places = indices[own].astype(np.int64) - tensor.start
                distances = np.diff(places, prepend=-1)
                codes.append(bits.golomb_code(distances, negative, low_bits(len(negative), size)))
        header = _HEADER.pack(_MAGIC, len(tensors), len(indices), dimension)
        packed = np.packbits(np.concatenate([np.empty(0, np.uint8), *codes]))
        parts = (np.frombuffer(header, np.uint8), table.view(np.uint8), packed, tail.view(np.uint8))
        return Message(np.concatenate(parts), arriving)

    def decode(
        self,
        data: NDArray[np.uint8],
        dimension: int,
        tail_length: int = 0,
        positions: NDArray[np.int32] | None = None,
    ) -> Entries:
        """As ``Codec.decode``."""
        del positions
        tensors = self.tensors or (Tensor(0, dimension, 0),)
        table = self._read_table(data, len(tensors), dimension, tail_length)
        end = data.size - 4 * tail_length
        stream = np.unpackbits(data[HEADER_BYTES + table.nbytes : end])
        zeros = np.flatnonzero(stream == 0)
        at, indices, values = 0, [], []
        for tensor, entry in zip(tensors, table, strict=True):
            count, size = int(entry["entries"]), tensor.stop - tensor.start
            if count > size:
                raise WireError(f"{count} entries were announced of a tensor of {size}")
            if count == size:
                if at + size > stream.size:
                    raise WireError(f"a stream of {stream.size} bits ends within the signs of a tensor")
                places, negative = np.arange(size), stream[at : at + size].view(np.bool_)
                at += size
            else:
                b = low_bits(count, size)
                distances, negative, at = bits.read_golomb_code(stream, zeros, at, count, b)
                places = np.cumsum(distances) - 1
                if count and places[-1] >= size:
                    raise WireError(f"entry {places[-1]} was found in a tensor of {size}")
            indices.append(tensor.start + places)
            values.append(np.where(negative, -entry["magnitude"], entry["magnitude"]))
        if stream.size - at >= 8:
            raise WireError(f"{stream.size} bits of codes were found, {at} are expected")
        tail = data[end:].view(np.float32) if tail_length else NO_TAIL
        return Entries(
            np.concatenate(indices).astype(np.int32),
            np.concatenate(values).astype(np.float32),
            tail if tail.flags.aligned else tail.copy(),
        )

    def message_bytes(self, entries: int, dimension: int) -> int:
        """What is expected of entries that lie anywhere."""
        fixed, each = self.bytes_by_dimension(entries, dimension)
        return ceil(fixed + each * dimension)

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        """As ``Codec.bytes_by_dimension``; the length of the code hardly depends on the dimension."""
        code = expected_bits(entries, dimension) / 8
        return HEADER_BYTES + _TENSOR.itemsize * max(1, len(self.tensors)) + code, 0.0

    def _read_table(
        self, data: NDArray[np.uint8], tensors: int, dimension: int, tail_length: int
    ) -> NDArray[np.void]:
        begin = HEADER_BYTES + _TENSOR.itemsize * tensors
        if data.size < begin + 4 * tail_length:
            raise WireError(f"a message of {data.size} bytes is shorter than its header and tail")
        magic, found_tensors, entries, found = _HEADER.unpack_from(data.data)
        if magic != _MAGIC:
            raise WireError(f"no ternary message begins with {data[:HEADER_BYTES].tobytes().hex()}")
        if (found_tensors, found) != (tensors, dimension):
            raise WireError(
                f"a message of {found_tensors} tensors and {found} coordinates was found, {tensors} and "
                f"{dimension} are expected"
            )
        table = np.frombuffer(data[HEADER_BYTES:begin].tobytes(), _TENSOR)
        if int(table["entries"].sum()) != entries:
            raise WireError(
                f"{entries} entries were announced, the tensors have {int(table['entries'].sum())}"
            )
        return table


def _mean_of_largest(values: NDArray[np.float32], count: int) -> np.float32:
    """The mean of the ``count`` largest |values|; those that are missing are zeros."""
    if not count:
        return np.float32(0)
    magnitudes = np.abs(values).astype(np.float64)
    if len(values) > count:
        magnitudes = np.partition(magnitudes, -count)[-count:]
    return np.float32(np.sort(magnitudes).sum() / count)


def tensors_of(layers: Sequence[slice], fraction: float | Fraction) -> tuple[Tensor, ...]:
    """Each of ``layers`` as a tensor of which ``fraction`` is kept."""
    return tuple(Tensor(la.start, la.stop, kept(la.stop - la.start, fraction)) for la in layers)


def ternary_entries(vector: NDArray[np.float32], tensors: Sequence[Tensor]) -> NDArray[np.int32]:
    """The entries (int32 rising) that travel of ``vector``: of every tensor the largest, with ties."""
    chosen = [largest_with_ties(vector[t.start : t.stop], t.kept) + np.int32(t.start) for t in tensors]
    return np.concatenate([np.empty(0, np.int32), *chosen])


def plain_mean(uploads: Uploads, k: int) -> Selection:
    """The mean of what was sent, in which every client counts alike."""
    del k
    alike = np.full(uploads.clients, 1.0 / max(1, uploads.clients))
    return union_of(replace(uploads, weights=alike))


def stc(per_tensor: bool = True, down_fraction: float = 0.0) -> SparseMethod:
    """Sparse ternary compression of k entries, layer by layer or (``per_tensor = false``) of the whole vector.

    Of a tensor of n entries ceil(n ``sparsification.k_fraction``) go up, or ceil(n k / D) where k is given instead.
    ``down_fraction`` of the coordinates come down; 0: as many as go up. Raises ValueError unless it is in [0, 1].
    """
    if not 0.0 <= down_fraction <= 1.0:
        raise ValueError(f"down_fraction is {down_fraction}, allowed are 0 to 1")

    def tensors(k: int, choice: Choice) -> tuple[Tensor, ...]:
        layers = choice.layers if per_tensor else [slice(0, choice.layers[-1].stop)]
        fraction: float | Fraction = choice.k_fraction or Fraction(k, max(1, choice.layers[-1].stop))
        if down_fraction and choice.client == ALL_CLIENTS:
            fraction = down_fraction
        return tensors_of(layers, fraction)

    def choose(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
        return ternary_entries(accumulated, tensors(k, choice))

    return SparseMethod(
        summary="the k largest entries as signs and one magnitude, up and down; the server keeps a residual too",
        source="Sattler et al., IEEE TNNLS 2020 (arXiv 1903.02891)",
        one_k="whose server sends from a residual of its own, so that no second k can be tried",
        select=plain_mean,
        choose=choose,
        at_most_k_down=False,
        codec=TernaryCodec(),
        codec_at=lambda k, choice: TernaryCodec(tensors(k, choice)),
        server=ServerMemory(choose),
        of_updates=True,
        resends=True,
    )
