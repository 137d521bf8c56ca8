"""TOML as every part of fedmpi reads it: whatever is wrong with text or file is one error of one line.

Numbers beyond the range of float64 are refused: as an integer none could follow it, as a float it would silently
be inf. Values nested deeper than any key of fedmpi takes are refused too, so that nobody's recursion fails on them.
"""

from __future__ import annotations

import re
import tomllib
from math import isinf
from pathlib import Path
from typing import Any

_MOST_BYTES = 2**28
"""No configuration is as long; a file without an end, such as /dev/zero, is."""
_MOST_DEPTH = 32
_MOST_BITS = 1023
"""Integers below 2^1023 are floats too."""

_MOST_PARTS = 1000
_KEY_PART = re.compile(r"""\s*[\["']*[\w -]*["'\]]*\s*""")

_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")


class TomlError(ValueError):
    """Text that is not TOML, or a file that cannot be read; the text is one line and does not name the file.

    ``is_syntax`` is false where the text is TOML, with a value that nothing can take.
    """

    def __init__(self, problem: str, *, is_syntax: bool = False) -> None:
        super().__init__(problem)
        self.is_syntax = is_syntax


def parse(text: str) -> dict[str, Any]:
    """The content of TOML text. Raises TomlError."""
    _check_keys(text)
    try:
        content = tomllib.loads(text, parse_float=_float)
    except tomllib.TOMLDecodeError as error:
        raise TomlError(f"not TOML: {error}", is_syntax=True) from None
    except RecursionError:
        raise _too_deep() from None
    except TomlError:
        raise
    except ValueError as error:  # Python reads no integers of more than 4300 digits
        raise TomlError(
            "found a number of thousands of digits, which is beyond the range of numbers"
        ) from error
    _check(content)
    return content


def read_text(path: Path) -> str:
    """The text of a TOML file: UTF-8, with or without a byte order mark.

    Raises FileNotFoundError, and TomlError for whatever else is wrong with it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise TomlError(f"cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise TomlError("cannot be read: no file name holds a NUL character") from error
    if len(content) > _MOST_BYTES:
        raise TomlError(f"cannot be read: it has more than {_MOST_BYTES:,} bytes")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        found = "UTF-16" if content.startswith(_UTF16_MARKS) else "not UTF-8 text"
        raise TomlError(f"cannot be read: {found}") from error


def _float(text: str) -> float:
    value = float(text)
    if isinf(value) and "inf" not in text:
        raise _beyond(text)
    return value


def _check_keys(text: str) -> None:
    """Refuse keys of more than ``_MOST_PARTS`` parts, on which tomllib takes a time that grows with their square."""
    for line in text.split("\n"):
        if line.count(".") <= _MOST_PARTS:
            continue
        parts = 0
        for part in line.split("."):
            parts = parts + 1 if _KEY_PART.fullmatch(part) else 0
            if parts > _MOST_PARTS:
                raise _too_deep()


def _check(content: dict[str, Any]) -> None:
    """Refuse what is nested too deep, and integers that no float is near to; not by recursion."""
    left: list[tuple[Any, int]] = [(content, 1)]
    while left:
        value, depth = left.pop()
        if isinstance(value, int) and value.bit_length() > _MOST_BITS:
            raise _beyond(hex(value))
        if not isinstance(value, (dict, list)):
            continue
        if depth > _MOST_DEPTH:
            raise _too_deep()
        items = value.values() if isinstance(value, dict) else value
        left += ((item, depth + 1) for item in items)


def _beyond(text: str) -> TomlError:
    shown = text if len(text) <= 20 else text[:17] + "..."
    return TomlError(f"found the number {shown}, which is beyond the range of numbers")


def _too_deep() -> TomlError:
    return TomlError(f"values are nested more than {_MOST_DEPTH} deep")
