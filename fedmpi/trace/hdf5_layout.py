"""Where the few words lie that change while a trace grows, and the B-tree that lists a data set's chunks.

HDF5 itself writes a new trace (superblock 0, object headers 1, chunk B-trees 1: the oldest and simplest form
of the format, without flags of an open file). From then on only five kinds of words change: the extent of a
data set, the address of its B-tree, the value of a numeric attribute, the announced end of the file, and, once
for each chunk, whether it has a checksum. Reference: HDF5 File Format Specification, version 3.0, sections II.A
(superblock), III.A.1 (version 1 B-trees), IV.A.1.a (object headers), IV.A.2 (messages).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from fedmpi.trace.checksums import fletcher32
from fedmpi.trace.growing_file import GrowingFile

END_OF_FILE_WORD = 40
"""Offset in a version 0 superblock of the address behind the last used byte."""

_DATASPACE, _LAYOUT, _ATTRIBUTE, _CONTINUATION = 0x01, 0x08, 0x0C, 0x10
_UNDEFINED = 2**64 - 1
_HEAP = b"GCOL\1\0\0\0"  # signature and version, which no text holds: it is without NULs
_NODE_ENTRIES = 64
_CHECKSUM = struct.Struct("<I")
_ENTRY = struct.Struct(
    "<IIQQQ"
)  # key (bytes of the chunk, filters left out, first row, 0) and address of a child
_STORED = struct.Struct("<II")  # the first two of a key, one aligned word
_NONE_LEFT_OUT, _CHECKSUM_LEFT_OUT = 0, 1  # bit 0: the data set's first and only filter, fletcher32
_BOUND = struct.Struct("<IIQQ")  # the key behind the last child
_HEADER = struct.Struct("<4sBBH")  # signature, 1 = chunks, level, entries
_SIBLINGS = struct.Struct("<QQ")
_ENTRIES_START = _HEADER.size + _SIBLINGS.size
_NODE_BYTES = _ENTRIES_START + _NODE_ENTRIES * _ENTRY.size + _BOUND.size


def _messages(image: bytes, header: int) -> Iterator[tuple[int, int]]:
    """Type and offset of the data of each message of the version 1 object header at ``header``."""
    if image[header] != 1:
        raise ValueError(f"object header version {image[header]} at {header}, expected 1")
    (size,) = struct.unpack_from("<I", image, header + 8)
    blocks = [(header + 16, size)]
    while blocks:
        start, size = blocks.pop(0)
        position = start
        while position < start + size:
            kind, length = struct.unpack_from("<HH", image, position)
            if kind == _CONTINUATION:
                blocks.append(struct.unpack_from("<QQ", image, position + 8))
            yield kind, position + 8
            position += 8 + length


def heap_ends(image: bytes) -> bool:
    """Whether each heap of texts in the beginning of a file comes to an end.

    HDF5 2.0 reads for ever in a heap (III.E of the specification) with an object of no size, as zeros are.
    """
    start = image.find(_HEAP)
    while 0 <= start <= len(image) - 16:
        if not _heap_ends(image, start):
            return False
        start = image.find(_HEAP, start + 1)
    return True


def _heap_ends(image: bytes, start: int) -> bool:
    (size,) = struct.unpack_from("<Q", image, start + 8)
    position = start + 16
    while position + 16 <= min(start + size, len(image)):
        index, length = struct.unpack_from("<H6xQ", image, position)
        if index == 0:
            return bool(length)
        position += 16 + _padded(length)
    return True


def _padded(length: int) -> int:
    return (length + 7) // 8 * 8


def attribute_value(image: bytes, header: int, name: str) -> int:
    """Offset of the value of an attribute of the object whose header lies at ``header``."""
    for kind, data in _messages(image, header):
        if kind != _ATTRIBUTE or image[data] != 1:
            continue
        name_bytes, type_bytes, space_bytes = struct.unpack_from("<HHH", image, data + 2)
        if image[data + 8 : data + 8 + name_bytes].rstrip(b"\0") == name.encode():
            return data + 8 + _padded(name_bytes) + _padded(type_bytes) + _padded(space_bytes)
    raise ValueError(f"no attribute {name} in the object header at {header}")


def dataset_words(image: bytes, header: int) -> tuple[int, int]:
    """Offsets of the extent and of the B-tree address of the one-dimensional data set at ``header``."""
    found = dict(_messages(image, header))
    space, layout = found[_DATASPACE], found[_LAYOUT]
    if image[space : space + 2] != b"\1\1" or image[layout : layout + 3] != b"\3\2\2":
        raise ValueError(f"the data set at {header} is not chunked with one dimension in the oldest form")
    return space + 8, layout + 3


@dataclass
class _Node:
    address: int
    entries: int


@dataclass(frozen=True)
class Chunk:
    """Where the rows of a chunk lie, and the key by which its leaf of the B-tree lists it."""

    address: int
    key: int


class ChunkIndex:
    """The chunks of one data set as a version 1 B-tree that grows at its right end only.

    Nothing that a reader may reach is ever moved: a chunk or node is written where nobody looks, and becomes
    reachable by one word (a node's entry count, or the address of a new root). Any moment between two writes
    shows a valid tree that holds at least the chunks of the rows announced so far.

    A chunk is listed as one from which the filter was left out, for as long as rows are added to it. Its checksum is
    written behind the rows, and then counts from one aligned word on; the rows stay where they are.
    """

    def __init__(self, file: GrowingFile, root_word: int, rows_per_chunk: int, row_bytes: int) -> None:
        self._file = file
        self._root_word = root_word
        self._rows_per_chunk = rows_per_chunk
        self._row_bytes = row_bytes
        self._chunk_bytes = rows_per_chunk * row_bytes
        self._spine: list[_Node] = []  # the rightmost node of each level, leaves first
        self._chunks = 0

    def append_chunk(self) -> Chunk:
        """Allocate the next chunk and list it, without a checksum."""
        address = child = self._file.allocate(self._chunk_bytes + _CHECKSUM.size)
        row = self._chunks * self._rows_per_chunk
        replaced: list[_Node] = []
        for node in self._spine:
            if node.entries < _NODE_ENTRIES:
                break
            replaced.append(self._new_node(len(replaced), [(row, child)], left=node))
            child = replaced[-1].address
        level = len(replaced)
        if level < len(self._spine):
            self._add_entry(level, row, child)
        else:
            first = [(0, self._spine[-1].address)] if self._spine else []
            root = self._new_node(level, [*first, (row, child)])
            self._file.write(self._root_word, struct.pack("<Q", root.address))
            self._spine.append(root)
        self._spine[:level] = replaced
        self._chunks += 1
        leaf = self._spine[0]
        return Chunk(address, leaf.address + _ENTRIES_START + (leaf.entries - 1) * _ENTRY.size)

    def write_checksum(self, chunk: Chunk) -> None:
        """Write the checksum of the rows of a chunk behind them, where no reader looks before it is announced."""
        rows = self._file.read(chunk.address, self._chunk_bytes)
        self._file.write(chunk.address + self._chunk_bytes, _CHECKSUM.pack(fletcher32(rows)))

    def announce_checksum(self, chunk: Chunk) -> None:
        """Let readers compare the checksum of a chunk, which never changes from now on: one aligned word."""
        self._file.write(chunk.key, _STORED.pack(self._chunk_bytes + _CHECKSUM.size, _NONE_LEFT_OUT))

    def _add_entry(self, level: int, row: int, child: int) -> None:
        """Write the entry behind the last one of the level's last node, then count it."""
        node = self._spine[level]
        place = node.address + _ENTRIES_START + node.entries * _ENTRY.size
        self._file.write(place, self._entry(row, child) + self._bound(row))
        node.entries += 1
        self._file.write(node.address, _HEADER.pack(b"TREE", 1, level, node.entries))
        for above in self._spine[level + 1 :]:
            place = above.address + _ENTRIES_START + above.entries * _ENTRY.size
            self._file.write(place, self._bound(row))

    def _new_node(self, level: int, entries: list[tuple[int, int]], left: _Node | None = None) -> _Node:
        node = _Node(self._file.allocate(_NODE_BYTES), len(entries))
        siblings = _SIBLINGS.pack(left.address if left else _UNDEFINED, _UNDEFINED)
        keys = b"".join(self._entry(row, child) for row, child in entries) + self._bound(entries[-1][0])
        self._file.write(node.address, _HEADER.pack(b"TREE", 1, level, len(entries)) + siblings + keys)
        if left:
            self._file.write(left.address + _HEADER.size + 8, struct.pack("<Q", node.address))
        return node

    def _entry(self, row: int, child: int) -> bytes:
        return _ENTRY.pack(self._chunk_bytes, _CHECKSUM_LEFT_OUT, row, 0, child)

    def _bound(self, last_row: int) -> bytes:
        """The key behind the last chunk, which starts at ``last_row``, in the form that HDF5 gives it."""
        return _BOUND.pack(0, 0, last_row, self._row_bytes)
