"""What somebody who knows b needs for b' of a probe: which of its entries are the same, and all others.

One message with the others, in the wire form of the run, followed by one bit for every entry of b. (In FAB-top-k
clients ask for w'(m) as well; Han, Wang, Leung, ICDCS 2020, section IV.)
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.codec import Codec
from fedmpi.sparsification.uploads import Selection
from fedmpi.sparsification.wire import Entries, mask_bytes


def encode_probe(
    codec: Codec,
    selection: Selection,
    probe: Selection,
    probe_values: NDArray[np.float32],
    dimension: int,
) -> NDArray[np.uint8]:
    """The bytes for ``probe``, whose values are sent as ``probe_values``, after those of ``selection``."""
    kept = np.zeros(selection.indices.size, np.bool_)
    differs = np.ones(probe.indices.size, np.bool_)
    if kept.size:
        place = np.minimum(np.searchsorted(selection.indices, probe.indices), kept.size - 1)
        differs = (selection.indices[place] != probe.indices) | (selection.values[place] != probe.values)
        kept[place[~differs]] = True
    others = codec.encode(probe.indices[differs], probe_values[differs], dimension)
    return np.concatenate((others.data, np.packbits(kept)))


def decode_probe(codec: Codec, data: NDArray[np.uint8], known: Entries, dimension: int) -> Entries:
    """The probe's entries, from its bytes and the entries that are ``known`` already."""
    bits = mask_bytes(known.indices.size)
    kept = np.unpackbits(data[data.size - bits :], count=known.indices.size).view(np.bool_)
    others = codec.decode(data[: data.size - bits], dimension)
    indices = np.concatenate((known.indices[kept], others.indices))
    order = np.argsort(indices)
    values = np.concatenate((known.values[kept], others.values))
    return Entries(indices[order], values[order], others.tail)
