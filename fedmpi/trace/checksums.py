"""The checksums of a trace: HDF5's own of every full chunk, and one of the whole of a finished file.

HDF5's library checks Fletcher-32 for every reader, but only the rows of a chunk: in this oldest form of the format
neither attributes, extents nor the lists of chunks have a checksum. So a finished trace carries one more, the root
attribute ``checksum``, of all rows and of all attributes that fedmpi writes, from schema version 2 on also of units and
descriptions of columns; ``fedmpi.trace.read`` compares it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fedmpi.trace.schema import CHECKED_ATTRIBUTES, SCHEMA_VERSION, tables

CHECKSUM_CHARACTERS = 32

ColumnTexts = Mapping[str, Mapping[str, Sequence[str]]]
"""Of each table the attributes ``unit`` and ``description``, which have a text for each column in order."""

_MODULUS = 65_535


def fletcher32(data: bytes) -> int:
    """The checksum of HDF5's filter ``fletcher32`` over ``data``, of less than 2**20 bytes.

    HDF5 adds words of 16 bits, most significant byte first, in ones' complement: a sum of nothing but zeros is 0, any
    other multiple of 65535 is 65535.
    """
    words = np.frombuffer(data + b"\0" * (len(data) % 2), ">u2").astype(np.int64)
    plain = _ones_complement(int(words.sum()))
    weighted = _ones_complement(int(words @ np.arange(len(words), 0, -1)))
    return weighted << 16 | plain


class RowDigests:
    """Running digests of the rows of each table of a schema version, in their order in the file."""

    def __init__(self, version: int = SCHEMA_VERSION) -> None:
        self._digests = {name: hashlib.blake2b() for name in tables(version)}

    def update(self, table: str, rows: bytes | memoryview) -> None:
        """Take the next rows of ``table``, as they lie in the file."""
        self._digests[table].update(rows)

    def checksum(self, attributes: Mapping[str, Any], columns: ColumnTexts | None = None) -> str:
        """The checksum, in hexadecimal digits, of these rows, of the root ``attributes`` (plain values), and of the
        texts on columns (None: of version 1, which has none).
        """
        checked = {name: attributes[name] for name in CHECKED_ATTRIBUTES if name in attributes}
        rows = {name: digest.hexdigest() for name, digest in self._digests.items()}
        text = json.dumps([checked, rows, *([] if columns is None else [columns])], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=CHECKSUM_CHARACTERS // 2).hexdigest()


def _ones_complement(total: int) -> int:
    return (total - 1) % _MODULUS + 1 if total else 0
