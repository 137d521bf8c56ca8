"""What a part prepares for a run, such as the costs of a compute model: told apart by its contents, and kept as it is.

A resumed run must have in common with the one before what its devices are made of, whatever that lies in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType, NoneType
from typing import Any

import numpy as np

ALLOWED = "arrays, numbers, texts, functions, and lists, dictionaries and objects of them"

_PLAIN = (bool, int, float, complex, str, bytes, NoneType, np.generic)
_NOWHERE = " at 0x"
"""What Python shows of an object that does not say what it holds: where it lies."""


def add_to(update: Callable[[bytes], object], value: object) -> None:
    """Give ``update`` what ``value`` holds, as bytes that are the same in every process.

    Arrays bit by bit, dataclasses (what they are compared by), sequences and dictionaries item by item, functions by
    their names and what they close over, other objects by what they show or hold. TypeError for what cannot be told
    apart so, such as a generator of random numbers.
    """
    _add(update, value, frozenset())


def _add(update: Callable[[bytes], object], value: Any, inside: frozenset[int]) -> None:
    """``inside``: the ids of what ``value`` lies in, as an object may hold itself."""
    text = _text_of(value)
    if isinstance(value, np.ndarray) and value.dtype != object:
        update(value.tobytes())
    elif text is not None:
        update(text.encode())
    elif id(value) not in inside:
        for item in _items(value):
            _add(update, item, inside | {id(value)})


def _text_of(value: Any) -> str | None:
    """The text of a value that says all of itself; None where what it is made of must be looked at."""
    if is_dataclass(value) or isinstance(value, (np.ndarray, FunctionType, MethodType)):
        return None
    if isinstance(value, (tuple, list)):
        return "".join(map(repr, value)) if all(type(item) is str for item in value) else None
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, Mapping):
        return repr(value) if _shows_all(value) else None
    text = repr(value)
    return None if _NOWHERE in text else text


def _shows_all(value: Any) -> bool:
    """Whether the text of a value leaves nothing out, as that of long arrays does."""
    if is_dataclass(value):
        return all(_shows_all(getattr(value, field.name)) for field in fields(value))
    if isinstance(value, Mapping):
        return all(map(_shows_all, value.values()))
    return all(map(_shows_all, value)) if isinstance(value, (tuple, list)) else isinstance(value, _PLAIN)


def _items(value: Any) -> Iterator[object]:
    """What a value is made of that has no text of its own. TypeError where that cannot be seen."""
    if is_dataclass(value):
        yield from (getattr(value, field.name) for field in fields(value) if field.compare)
    elif isinstance(value, np.ndarray):
        yield from value.ravel().tolist()
    elif isinstance(value, (tuple, list)):
        yield from value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from (key, item)
    elif isinstance(value, MethodType):
        yield from (value.__func__.__qualname__, value.__self__)
    elif isinstance(value, FunctionType):
        yield value.__qualname__
        yield from (cell.cell_contents for cell in value.__closure__ or ())
        yield from (*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values())
    elif hasattr(value, "__dict__"):
        yield type(value).__qualname__
        yield from vars(value).values()
    else:
        raise TypeError(f"a {type(value).__name__}, by which no two runs can be compared")


def protect(value: object) -> None:
    """Let nobody write to the arrays that ``value`` holds."""
    waiting, seen = [value], set[int]()
    while waiting:
        one: Any = waiting.pop()
        if id(one) in seen or isinstance(one, (*_PLAIN, FunctionType, MethodType, type)):
            continue
        seen.add(id(one))
        if isinstance(one, np.ndarray):
            one.flags.writeable = False
        elif isinstance(one, Mapping):
            waiting += one.values()
        elif isinstance(one, (tuple, list)):
            waiting += one
        elif is_dataclass(one):
            waiting += [getattr(one, field.name) for field in fields(one)]
        elif hasattr(one, "__dict__"):
            waiting += vars(one).values()
