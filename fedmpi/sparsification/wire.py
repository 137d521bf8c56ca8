"""Bytes of a message in the wire forms that a device would choose from."""

from __future__ import annotations

HEADER_BYTES = 16
INDEX_BYTES = 4
VALUE_BYTES = 4
FORMS = ("auto", "coo", "bitmap", "values", "dense")


def message_bytes(form: str, entries: int, dimension: int) -> int:
    """Bytes of ``entries`` values among ``dimension`` coordinates, header included.

    ``coo`` sends an index with every value, ``bitmap`` one bit for every coordinate, ``values`` no positions
    (both sides know them), ``dense`` all coordinates, zeros too; ``auto`` is the smallest of ``coo``,
    ``bitmap`` and ``dense``. Under a mask that both sides know, ``dimension`` counts the active coordinates.
    Raises ValueError for another form, or unless 0 <= entries <= dimension.
    """
    if not 0 <= entries <= dimension:
        raise ValueError(f"entries is {entries}, allowed are 0 to {dimension}")
    if form not in FORMS:
        raise ValueError(f"wire form {form!r}, allowed are {', '.join(FORMS)}")
    if form == "auto":
        return min(message_bytes(each, entries, dimension) for each in ("coo", "bitmap", "dense"))
    if form == "coo":
        return HEADER_BYTES + (INDEX_BYTES + VALUE_BYTES) * entries
    if form == "bitmap":
        return HEADER_BYTES + mask_bytes(dimension) + VALUE_BYTES * entries
    return HEADER_BYTES + VALUE_BYTES * (entries if form == "values" else dimension)


def mask_bytes(dimension: int) -> int:
    """Bytes of one bit for every coordinate, without a header."""
    return -(-dimension // 8)
