"""A mask as it travels: the flags of the prunable parameters as bits, or the indices of the active ones.

Whichever is smaller, after a header of 16 bytes (magic, form, numbers of active and of all prunable parameters).
Indices are int32 among the prunable parameters, one layer after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.sparsification.wire import HEADER_BYTES, INDEX_BYTES, WireError, mask_bytes

_HEADER = Struct("<4sIII")
_MAGIC = b"fmpm"
_BITS, _INDICES = 0, 1


def encode_mask(mask: Mask, layers: Sequence[LayerSlice]) -> NDArray[np.uint8]:
    """The message with ``mask`` over a model of ``layers``, uint8; what is never pruned is not in it."""
    flags = mask.flags()
    prunable = np.concatenate([np.empty(0, np.bool_), *(flags[part] for part in _slices(layers))])
    active = np.flatnonzero(prunable).astype("<i4")
    form = _BITS if mask_bytes(prunable.size) <= INDEX_BYTES * active.size else _INDICES
    body = np.packbits(prunable) if form == _BITS else active.view(np.uint8)
    header = np.frombuffer(_HEADER.pack(_MAGIC, form, active.size, prunable.size), np.uint8)
    return np.concatenate([header, body])


def decode_mask(data: NDArray[np.uint8], layers: Sequence[LayerSlice]) -> Mask:
    """The inverse of ``encode_mask``. Raises WireError for bytes that are no mask over ``layers``."""
    parts = _slices(layers)
    size = sum(part.stop - part.start for part in parts)
    magic, form, active, prunable = b"", 0, 0, -1
    if len(data) >= HEADER_BYTES:
        magic, form, active, prunable = _HEADER.unpack(data[:HEADER_BYTES].tobytes())
    body = data[HEADER_BYTES:]
    expected = mask_bytes(size) if form == _BITS else INDEX_BYTES * active
    if magic != _MAGIC or prunable != size or len(body) != expected:
        raise WireError(f"{len(data)} bytes that are no mask over {size} prunable parameters")
    if form == _BITS:
        flags = np.unpackbits(body, count=size).view(np.bool_)
    else:
        flags = np.zeros(size, np.bool_)
        flags[body.view("<i4")] = True
    whole = np.ones(max(layer.stop for layer in layers), np.bool_)
    start = 0
    for part in parts:
        whole[part] = flags[start : (start := start + part.stop - part.start)]
    return Mask.of(whole)


def _slices(layers: Sequence[LayerSlice]) -> list[slice]:
    return [slice(layer.start, layer.stop) for layer in layers if layer.prunable]
