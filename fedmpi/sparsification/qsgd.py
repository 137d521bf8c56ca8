"""QSGD: every entry as one of a few levels, rounded at random so that the mean stays right.

Alistarh, Grubic, Li, Tomioka, Vojnovic, NeurIPS 2017 (arXiv 1610.02132).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification import bits
from fedmpi.sparsification.codec import DENSE
from fedmpi.sparsification.interface import Choice, SparseMethod
from fedmpi.sparsification.unidirectional import select
from fedmpi.sparsification.wire import HEADER_BYTES, NO_TAIL, Entries, Message, WireError

_HEADER = Struct("<4sBBHII")
_MAGIC = b"fqsg"
_FORMS = ("packed", "sparse", "dense")
MOST_LEVELS = 127
MOST_BUCKET = 2**31 - 1


def norms_of(vector: NDArray[np.float32], bucket: int) -> NDArray[np.float32]:
    """The L2 norm of every ``bucket`` of consecutive entries, the last perhaps shorter; 0: of the whole vector."""
    if not vector.size:
        return np.empty(0, np.float32)
    starts = np.arange(0, vector.size, bucket or vector.size)
    squares = np.square(vector, dtype=np.float64)
    with np.errstate(over="ignore"):  # a norm beyond float32 is inf
        return np.sqrt(np.add.reduceat(squares, starts)).astype(np.float32)


def levels_of(
    vector: NDArray[np.float32],
    norms: NDArray[np.float32],
    uniform: NDArray[np.float32],
    levels: int,
    bucket: int,
) -> NDArray[np.int16]:
    """The signed level of every entry: |x| in units of norm / ``levels``, up where ``uniform`` is below the fraction.

    At most ``levels``; 0 where the norm is 0.
    """
    own = _of_entries(norms, vector.size, bucket)
    with np.errstate(over="ignore"):
        scale = np.divide(np.float32(levels), own, out=np.zeros_like(own), where=own > 0)
    exact = np.zeros_like(own)
    np.multiply(scale, np.abs(vector), out=exact, where=np.isfinite(scale))
    tiny = np.flatnonzero(np.isinf(scale))  # norms whose inverse is beyond float32
    exact[tiny] = np.abs(vector[tiny]) / own[tiny] * np.float32(levels)
    low = np.floor(exact)
    rounded = np.minimum(low + (uniform < exact - low), np.float32(levels))
    return np.where(np.signbit(vector), -rounded, rounded).astype(np.int16)


def decoded(
    signed: NDArray[np.int16], norms: NDArray[np.float32], levels: int, bucket: int
) -> NDArray[np.float32]:
    """The values (float32) that levels stand for; NaN in a bucket of infinite norm."""
    unit = norms / np.float32(levels)
    with np.errstate(invalid="ignore"):  # an infinite norm times level 0
        return _of_entries(unit, signed.size, bucket) * signed.astype(np.float32)


def level_bits(levels: int) -> int:
    """Bits of a level in the packed form, ceil(log2(2 levels + 1))."""
    return (2 * levels).bit_length()


@dataclass(frozen=True)
class QuantizedCodec:
    """All entries as levels. ``choice`` is what they are drawn for; without one only ``decode`` and lengths are.

    A message is a header of 16 bytes, a float32 norm for each bucket, the levels, filled up to bytes, and the tail.
    Packed, every level takes ``level_bits``. With ``elias`` it is the shorter of two other forms, in Elias omega codes:
    the distance from one nonzero level to the next, a bit for the sign, the level; or every level + 1, and the sign of
    those that are not 0.
    """

    levels: int
    bucket: int
    elias: bool = False
    choice: Choice | None = None

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
        """As ``Codec.encode``, of all ``dimension`` entries. Raises ValueError for fewer.

        A bucket whose norm float32 cannot hold has no levels: its values arrive as NaN.
        """
        if len(indices) != dimension:
            raise ValueError(
                f"{len(indices)} entries of {dimension} were found, all of them travel in levels"
            )
        if self.choice is None:
            raise ValueError("levels are drawn, and there is no choice to draw them for")
        uniform = self.choice.draw().random(dimension, dtype=np.float32)
        norms = norms_of(values, self.bucket)
        signed = levels_of(values, norms, uniform, self.levels, self.bucket)
        form, stream = self._stream(signed.astype(np.int64))
        header = _HEADER.pack(
            _MAGIC, _FORMS.index(form), self.levels, 0, int(np.count_nonzero(signed)), dimension
        )
        parts = (
            np.frombuffer(header, np.uint8),
            norms.view(np.uint8),
            np.packbits(stream),
            tail.view(np.uint8),
        )
        return Message(np.concatenate(parts), decoded(signed, norms, self.levels, self.bucket))

    def decode(
        self,
        data: NDArray[np.uint8],
        dimension: int,
        tail_length: int = 0,
        positions: NDArray[np.int32] | None = None,
    ) -> Entries:
        """As ``Codec.decode``; entries of level 0 arrive too."""
        del positions
        begin = HEADER_BYTES + 4 * self._buckets(dimension)
        end = data.size - 4 * tail_length
        if end < begin:
            raise WireError(f"a message of {data.size} bytes is shorter than its header, norms and tail")
        magic, form, levels, _, nonzero, found = _HEADER.unpack_from(data.data)
        if magic != _MAGIC or form >= len(_FORMS):
            raise WireError(f"no message in levels begins with {data[:HEADER_BYTES].tobytes().hex()}")
        if (found, levels) != (dimension, self.levels):
            raise WireError(
                f"{levels} levels of {found} coordinates were found, {self.levels} of {dimension} are expected"
            )
        norms = data[HEADER_BYTES:begin].copy().view(np.float32)
        stream = np.unpackbits(data[begin:end])
        signed = _READERS[_FORMS[form]](stream, nonzero, dimension, levels)
        if (
            np.abs(signed).max(initial=0) > levels
            or np.count_nonzero(signed) != nonzero
            or stream.size - self._length(_FORMS[form], signed) not in range(8)
        ):
            raise WireError(f"the levels of a message in form {_FORMS[form]} do not fit its header")
        values = decoded(signed.astype(np.int16), norms, levels, self.bucket)
        tail = data[end:].copy().view(np.float32) if tail_length else NO_TAIL
        return Entries(everything(dimension), values, tail)

    def message_bytes(self, entries: int, dimension: int) -> int:
        """Of the packed form; Elias codes are meant to be shorter."""
        del entries
        length = level_bits(self.levels) * dimension
        return HEADER_BYTES + 4 * self._buckets(dimension) + ceil(length / 8)

    def bytes_by_dimension(self, entries: int, dimension: int) -> tuple[float, float]:
        """As ``Codec.bytes_by_dimension``."""
        del entries, dimension
        each = level_bits(self.levels) / 8
        return (HEADER_BYTES, each + 4 / self.bucket) if self.bucket else (HEADER_BYTES + 4, each)

    def _buckets(self, dimension: int) -> int:
        return -(-dimension // (self.bucket or max(1, dimension)))

    def _stream(self, signed: NDArray[np.int64]) -> tuple[str, NDArray[np.uint8]]:
        """The form that the levels take, and their bits."""
        form = "packed"
        if self.elias:
            form = min(("sparse", "dense"), key=lambda each: self._length(each, signed))
        return form, _WRITERS[form](signed, self.levels)

    def _length(self, form: str, signed: NDArray[np.int64]) -> int:
        """The bits of the levels in a form."""
        if form == "packed":
            return level_bits(self.levels) * signed.size
        return elias_sparse_bits(signed) if form == "sparse" else elias_dense_bits(signed)


def elias_sparse_bits(signed: NDArray[np.int64]) -> int:
    """Bits of distance, sign and level of all nonzero levels, the first distance being counted from -1."""
    at = np.flatnonzero(signed)
    distances, magnitudes = np.diff(at, prepend=-1), np.abs(signed[at])
    return int((bits.omega_lengths(distances) + 1 + bits.omega_lengths(magnitudes)).sum())


def elias_dense_bits(signed: NDArray[np.int64]) -> int:
    """Bits of level + 1 of all entries, and of the signs of those that are not 0."""
    return int(bits.omega_lengths(np.abs(signed) + 1).sum()) + int(np.count_nonzero(signed))


def _write_packed(signed: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    width = level_bits(levels)
    shifts = np.arange(width - 1, -1, -1)
    return ((signed + levels)[:, None] >> shifts & 1).astype(np.uint8).ravel()


def _read_packed(stream: NDArray[np.uint8], nonzero: int, dimension: int, levels: int) -> NDArray[np.int64]:
    del nonzero
    width = level_bits(levels)
    if stream.size < width * dimension:
        raise WireError(f"{stream.size} bits were found, {width * dimension} are expected")
    return bits.read(stream, width * np.arange(dimension), width) - levels


def _write_sparse(signed: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    del levels
    at = np.flatnonzero(signed)
    distances, magnitudes = np.diff(at, prepend=-1), np.abs(signed[at])
    first = bits.omega_lengths(distances)
    lengths = first + 1 + bits.omega_lengths(magnitudes)
    starts = np.cumsum(lengths) - lengths
    stream = np.zeros(int(lengths.sum()), np.uint8)
    bits.write_omega(stream, starts, distances)
    stream[starts + first] = signed[at] < 0
    bits.write_omega(stream, starts + first + 1, magnitudes)
    return stream


def _read_sparse(stream: NDArray[np.uint8], nonzero: int, dimension: int, levels: int) -> NDArray[np.int64]:
    del levels
    numbers, lengths = bits.read_omega_everywhere(stream)
    level_at = np.minimum(np.arange(stream.size) + lengths + 1, max(0, stream.size - 1))
    starts = bits.walk_codes(lengths + 1 + lengths[level_at], nonzero)
    at = np.cumsum(numbers[starts]) - 1
    if nonzero and not (numbers[starts].min() > 0 and at[-1] < dimension):
        raise WireError(f"a level was found at a place that is not among {dimension}")
    signed = np.zeros(dimension, np.int64)
    magnitudes = numbers[level_at[starts]]
    signed[at] = np.where(stream[level_at[starts] - 1], -magnitudes, magnitudes)
    return signed


def _write_dense(signed: NDArray[np.int64], levels: int) -> NDArray[np.uint8]:
    del levels
    numbers = np.abs(signed) + 1
    codes = bits.omega_lengths(numbers)
    lengths = codes + (signed != 0)
    starts = np.cumsum(lengths) - lengths
    stream = np.zeros(int(lengths.sum()), np.uint8)
    bits.write_omega(stream, starts, numbers)
    stream[(starts + codes)[signed != 0]] = signed[signed != 0] < 0
    return stream


def _read_dense(stream: NDArray[np.uint8], nonzero: int, dimension: int, levels: int) -> NDArray[np.int64]:
    del nonzero, levels
    numbers, lengths = bits.read_omega_everywhere(stream)
    starts = bits.walk_codes(lengths + (numbers > 1), dimension)
    if dimension and not numbers[starts].min() > 0:
        raise WireError("a level was announced where no code begins")
    magnitudes = numbers[starts] - 1
    signs = stream[np.minimum(starts + lengths[starts], max(0, stream.size - 1))]
    return np.where((magnitudes > 0) & (signs == 1), -magnitudes, magnitudes)


_WRITERS = {"packed": _write_packed, "sparse": _write_sparse, "dense": _write_dense}
_READERS = {"packed": _read_packed, "sparse": _read_sparse, "dense": _read_dense}


def _of_entries(each: NDArray[np.float32], size: int, bucket: int) -> NDArray[np.float32]:
    """A number for each bucket, for each of ``size`` entries."""
    return np.repeat(each, bucket or size)[:size]


@lru_cache(maxsize=2)
def everything(dimension: int) -> NDArray[np.int32]:
    """All coordinates, int32 rising; not to be written to."""
    indices = np.arange(dimension, dtype=np.int32)
    indices.setflags(write=False)
    return indices


def all_of(accumulated: NDArray[np.float32], k: int, choice: Choice) -> NDArray[np.int32]:
    """All coordinates."""
    del k, choice
    return everything(accumulated.size)


def qsgd(levels: int = 7, bucket: int = 128, elias: bool = False) -> SparseMethod:
    """``levels`` steps of magnitude, in units of the norm of each ``bucket`` of entries (0: of the vector).

    ``elias``: levels travel in Elias codes. Raises ValueError unless 1 <= levels <= 127 and 0 <= bucket < 2**31.
    """
    if not 1 <= levels <= MOST_LEVELS:
        raise ValueError(f"levels is {levels}, allowed are 1 to {MOST_LEVELS}")
    if not 0 <= bucket <= MOST_BUCKET:
        raise ValueError(f"bucket is {bucket}, allowed are 0 to {MOST_BUCKET}")
    return SparseMethod(
        summary="every entry goes up as one of a few levels, drawn so that its mean is right; the mean comes down",
        source="Alistarh et al., NeurIPS 2017 (arXiv 1610.02132)",
        one_k="which sends all entries and has no k to choose",
        select=select,
        choose=all_of,
        at_most_k_down=False,
        codec=QuantizedCodec(levels, bucket, elias),
        codec_at=lambda k, choice: QuantizedCodec(levels, bucket, elias, choice),
        codec_down=DENSE,
        memory="none",
        all_entries=True,
    )
