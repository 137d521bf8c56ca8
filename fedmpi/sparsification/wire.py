"""The forms in which entries of a vector travel, as the bytes that a device would send.

A message is a header of 16 bytes (magic, form, type of the values, exponent, number of entries, dimension, all
little-endian), the positions, the values, and a tail: float32 values that travel dense beside the entries, of a
length that both sides know. Indices are int32 and never lie among values. All forms say the same: also entries
of value 0 arrive, whichever form was taken.

Values travel as float32 or as float16. A float16 message is scaled by a power of two, its exponent in the header,
that brings the largest magnitude to [2**14, 2**15): nothing overflows, and only what is less than 2**-39 of the
largest can become 0. What rounding took is the sender's to keep: ``Message.values`` are what arrives.
"""

from __future__ import annotations

from math import frexp, isfinite
from struct import Struct
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

HEADER_BYTES = 16
INDEX_BYTES = 4
FORMS = ("auto", "coo", "bitmap", "values", "dense")
VALUE_BYTES = {"float32": 4, "float16": 2}

_HEADER = Struct("<4sBBhII")
_MAGIC = b"fmpi"
_CODED_FORMS = FORMS[1:]
_CODED_TYPES = tuple(VALUE_BYTES)
_TOP_EXPONENT = 15
NO_TAIL: NDArray[np.float32] = np.empty(0, np.float32)
_ROWS_AT_A_TIME = 256
"""Messages whose positions are read together: a byte for every coordinate of each stays in the cache."""
_Integer = TypeVar("_Integer", bound=np.integer)


class WireError(ValueError):
    """Bytes that are not the message that they should be."""


class Message(NamedTuple):
    """``data`` (uint8): the bytes; ``values`` (float32): the values as the receiver will read them."""

    data: NDArray[np.uint8]
    values: NDArray[np.float32]


class Entries(NamedTuple):
    """A message read: ``indices`` int32 rising, ``values`` and ``tail`` float32."""

    indices: NDArray[np.int32]
    values: NDArray[np.float32]
    tail: NDArray[np.float32]


def message_bytes(form: str, entries: int, dimension: int, value_type: str = "float32") -> int:
    """Bytes of ``entries`` values among ``dimension`` coordinates, header included.

    ``coo`` sends an index with every value, ``bitmap`` one bit for every coordinate, ``values`` no positions
    (both sides know them), ``dense`` all coordinates, zeros too; ``auto`` is the smallest of ``coo``,
    ``bitmap`` and ``dense``. Under a mask that both sides know, ``dimension`` counts the active coordinates.
    Raises ValueError for another form or type, or unless 0 <= entries <= dimension.
    """
    if not 0 <= entries <= dimension:
        raise ValueError(f"entries is {entries}, allowed are 0 to {dimension}")
    if form not in FORMS:
        raise ValueError(f"wire form {form!r}, allowed are {', '.join(FORMS)}")
    if value_type not in VALUE_BYTES:
        raise ValueError(f"value type {value_type!r}, allowed are {', '.join(VALUE_BYTES)}")
    if form == "auto":
        return min(message_bytes(each, entries, dimension, value_type) for each in ("coo", "bitmap", "dense"))
    value_bytes = VALUE_BYTES[value_type]
    if form == "coo":
        return HEADER_BYTES + (INDEX_BYTES + value_bytes) * entries
    if form == "bitmap":
        return HEADER_BYTES + mask_bytes(dimension) + value_bytes * entries
    return HEADER_BYTES + value_bytes * (entries if form == "values" else dimension)


def form_in_use(form: str, entries: int, dimension: int, value_type: str = "float32") -> str:
    """``form``, or the one that ``auto`` takes for such a message."""
    if form != "auto":
        return form
    size = message_bytes(form, entries, dimension, value_type)
    forms = (each for each in _CODED_FORMS if each != "values")
    return next(each for each in forms if message_bytes(each, entries, dimension, value_type) == size)


def bytes_by_dimension(
    form: str, entries: int, dimension: int, value_type: str = "float32"
) -> tuple[float, float]:
    """``message_bytes`` as a part that does not depend on ``dimension``, and bytes for each coordinate.

    In the form that is in use at this dimension; bits are not rounded up to bytes.
    """
    value_bytes = VALUE_BYTES[value_type]
    used = form_in_use(form, entries, dimension, value_type)
    if used == "bitmap":
        return HEADER_BYTES + value_bytes * entries, 1 / 8
    if used == "dense":
        return HEADER_BYTES, value_bytes
    return message_bytes(used, entries, dimension, value_type), 0.0


def mask_bytes(dimension: int) -> int:
    """Bytes of one bit for every coordinate, without a header."""
    return -(-dimension // 8)


def encode(
    form: str,
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    dimension: int,
    *,
    value_type: str = "float32",
    tail: NDArray[np.float32] = NO_TAIL,
) -> Message:
    """The message of ``values`` (n,), finite, at ``indices`` (n,), rising, among ``dimension`` coordinates.

    Its length is ``message_bytes`` and 4 bytes for each value of the tail. Raises ValueError as that does, and
    for float16 values that are not finite.
    """
    entries = len(indices)
    size = message_bytes(form, entries, dimension, value_type)
    form = form_in_use(form, entries, dimension, value_type)
    packed, exponent = _pack(values, value_type)
    data = np.empty(size + tail.nbytes, np.uint8)
    codes = _CODED_FORMS.index(form), _CODED_TYPES.index(value_type)
    _HEADER.pack_into(data.data, 0, _MAGIC, *codes, exponent, entries, dimension)
    body = data[HEADER_BYTES:size]
    if form == "coo":
        body[: INDEX_BYTES * entries] = indices.view(np.uint8)
    elif form == "bitmap":
        flags = np.zeros(dimension, np.bool_)
        flags[indices] = True
        body[: mask_bytes(dimension)] = np.packbits(flags)
    elif form == "dense":
        vector = np.zeros(dimension, packed.dtype)
        # What was not sent is +0, an entry of value 0 is sent as -0.
        vector[indices] = np.where(packed == 0, packed.dtype.type(-0.0), packed)
        body[:] = vector.view(np.uint8)
    if form != "dense":
        body[body.size - packed.nbytes :] = packed.view(np.uint8)
    data[size:] = tail.view(np.uint8)
    return Message(data, values if value_type == "float32" else _unpack(packed, exponent))


def encode_rows(
    form: str,
    indices: NDArray[np.int32],
    values: NDArray[np.float32],
    dimension: int,
) -> NDArray[np.uint8] | None:
    """Messages of float32 ``values`` (m, n) at ``indices`` (m, n), the bytes of ``encode`` in rows (m, bytes).

    None where the form has no such shortcut.
    """
    rows, entries = values.shape
    size = message_bytes(form, entries, dimension)
    form = form_in_use(form, entries, dimension)
    if form not in ("coo", "bitmap") or not entries:
        return None
    data = np.empty((rows, size), np.uint8)
    codes = _CODED_FORMS.index(form), _CODED_TYPES.index("float32")
    data[:, :HEADER_BYTES] = np.frombuffer(_HEADER.pack(_MAGIC, *codes, 0, entries, dimension), np.uint8)
    body = data[:, HEADER_BYTES:]
    if form == "coo":
        body[:, : INDEX_BYTES * entries] = np.ascontiguousarray(indices).view(np.uint8)
    else:
        flags = np.zeros((rows, dimension), np.bool_)
        np.put_along_axis(flags, indices, True, axis=1)
        body[:, : mask_bytes(dimension)] = np.packbits(flags, axis=1)
    body[:, body.shape[1] - 4 * entries :] = np.ascontiguousarray(values).view(np.uint8)
    return data


def decode(
    data: NDArray[np.uint8],
    dimension: int,
    *,
    tail_length: int = 0,
    positions: NDArray[np.int32] | None = None,
) -> Entries:
    """Read one message over ``dimension`` coordinates that has a tail of ``tail_length`` values.

    ``positions`` are those of the form ``values``. What needs no conversion is not copied: the arrays are views of
    ``data`` or ``positions`` then, and not to be written to. Raises WireError when these bytes cannot be such a
    message.
    """
    header = _read_header(data, dimension, tail_length)
    indices, values = _read_entries(data, header, positions)
    return Entries(indices, values, _aligned(data[header.size :].view(np.float32)))


def decode_rows(data: NDArray[np.uint8], dimension: int, *, tail_length: int = 0) -> list[Entries] | None:
    """``decode`` of every row of ``data`` (m, bytes), m > 0, views of common arrays.

    None where the rows are not alike, or their form has no such shortcut: each is to be read by itself then.
    """
    header = _read_header(data[0], dimension, tail_length)
    alike = (data[:, :HEADER_BYTES] == data[0, :HEADER_BYTES]).all()
    if not alike or header.value_type != "float32" or header.form not in ("coo", "bitmap"):
        return None
    body = data[:, HEADER_BYTES : header.size]
    packed = np.ascontiguousarray(body[:, body.shape[1] - 4 * header.entries :]).view(np.float32)
    if header.form == "coo":
        indices = np.ascontiguousarray(body[:, : INDEX_BYTES * header.entries]).view(np.int32)
    else:
        indices = np.empty((len(data), header.entries), np.int32)
        for start in range(0, len(data), _ROWS_AT_A_TIME):
            bits = body[start : start + _ROWS_AT_A_TIME, : mask_bytes(dimension)]
            flags = np.unpackbits(bits, axis=1).view(np.bool_)
            if (np.count_nonzero(flags, axis=1) != header.entries).any():
                return None
            found = np.flatnonzero(flags).reshape(len(bits), header.entries)
            found -= flags.shape[1] * np.arange(len(bits))[:, None]
            indices[start : start + len(bits)] = found
    tails = np.ascontiguousarray(data[:, header.size :]).view(np.float32)
    return [Entries(*each) for each in zip(indices, packed, tails, strict=True)]


class _Header(NamedTuple):
    """``size``: bytes without the tail."""

    form: str
    value_type: str
    exponent: int
    entries: int
    dimension: int
    size: int


def _read_header(data: NDArray[np.uint8], dimension: int, tail_length: int) -> _Header:
    if data.size < HEADER_BYTES:
        raise WireError(f"a message of {data.size} bytes is shorter than its header")
    magic, form, value_type, exponent, entries, found = _HEADER.unpack_from(data.data)
    if magic != _MAGIC or form >= len(_CODED_FORMS) or value_type >= len(_CODED_TYPES):
        raise WireError(f"no message begins with {data[:HEADER_BYTES].tobytes().hex()}")
    if found != dimension or entries > dimension:
        raise WireError(
            f"a message of {entries} among {found} coordinates was found, {dimension} are expected"
        )
    names = _CODED_FORMS[form], _CODED_TYPES[value_type]
    size = message_bytes(names[0], entries, dimension, names[1])
    if data.size != size + 4 * tail_length:
        raise WireError(
            f"{data.size} bytes were found, {size} and {tail_length} values of a tail are expected"
        )
    return _Header(*names, exponent, entries, dimension, size)


def _read_entries(
    data: NDArray[np.uint8], header: _Header, positions: NDArray[np.int32] | None
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The indices and values that a message holds."""
    body = data[HEADER_BYTES : header.size]
    packed = body[body.size - VALUE_BYTES[header.value_type] * _values_sent(header) :].view(header.value_type)
    if header.form == "coo":
        indices = _aligned(body[: INDEX_BYTES * header.entries].view(np.int32))
    elif header.form == "bitmap":
        indices = _checked(_set_bits(body[: mask_bytes(header.dimension)]), header).astype(np.int32)
    elif header.form == "dense":
        sent = _checked(np.flatnonzero(packed.view(f"u{packed.itemsize}") != 0), header)
        indices = sent.astype(np.int32)
        packed = packed[sent]
        packed += packed.dtype.type(0)  # -0, an entry that was sent, is 0 again
    elif positions is None:
        raise WireError("values came without positions, and none are known")
    else:
        indices = _checked(positions, header)
    return indices, _aligned(packed) if header.value_type == "float32" else _unpack(packed, header.exponent)


def _aligned(view: NDArray[Any]) -> NDArray[Any]:
    """The ``view``, or its copy where it does not begin at an address that is a multiple of its item's size."""
    return view if view.flags.aligned else view.copy()


def _values_sent(header: _Header) -> int:
    return header.dimension if header.form == "dense" else header.entries


def _checked(found: NDArray[_Integer], header: _Header) -> NDArray[_Integer]:
    if found.size != header.entries:
        raise WireError(f"{header.entries} entries were announced, and there are {found.size} positions")
    return found


def _set_bits(bits: NDArray[np.uint8]) -> NDArray[np.integer]:
    """The positions of the bits that are set, rising. Few are, so whole bytes are looked for first."""
    occupied = np.flatnonzero(bits != 0)
    inside = np.flatnonzero(np.unpackbits(bits.take(occupied)).view(np.bool_))
    return 8 * occupied.take(inside >> 3) + (inside & 7)


def _pack(values: NDArray[np.float32], value_type: str) -> tuple[NDArray[np.floating], int]:
    """Values as they travel, and the exponent by which they were scaled."""
    if value_type == "float32" or not values.size:
        return values.astype(value_type, copy=False), 0
    largest = float(np.abs(values).max())
    if not isfinite(largest):
        raise ValueError("float16 can carry finite values only")
    exponent = _TOP_EXPONENT - frexp(largest)[1]
    return np.ldexp(values, exponent).astype(np.float16), exponent


def _unpack(packed: NDArray[np.floating], exponent: int) -> NDArray[np.float32]:
    return np.ldexp(packed.astype(np.float32), -exponent)
