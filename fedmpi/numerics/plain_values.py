"""Plain values that come from a file, against the types that a dataclass gives its fields."""

from __future__ import annotations

from collections.abc import Mapping
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

_LONGEST = 60
_LARGEST = 2**63 - 1


def check_plain(kind: type, values: Mapping[str, Any]) -> None:
    """Raise ValueError for the first of ``values`` that is not of the type of that field of the dataclass ``kind``.

    Known are bool, int (of 64 bits), float (which an integer is too), str, None, lists and tuples of them, unions, and
    tables of anything; a list stands for a tuple, as in JSON. Whatever has another type, or cannot be resolved, is let
    through.
    """
    try:
        hints = get_type_hints(kind)
    except Exception:  # of a user's class: names that are known to a type checker alone
        return
    for name, value in values.items():
        if name in hints and not _fits(value, hints[name]):
            shown = getattr(hints[name], "__name__", None) if not get_args(hints[name]) else None
            raise ValueError(f"{name} is {repr(value)[:_LONGEST]}, expected is {shown or hints[name]}")


def _fits(value: Any, kind: Any) -> bool:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in arguments)
    if type(value) is int and abs(value) > _LARGEST:
        return False
    if kind in (bool, int, str, NoneType):
        return type(value) is kind
    if kind is float:
        return type(value) in (int, float)
    if origin in (list, tuple):
        if not isinstance(value, list | tuple):
            return False
        if origin is tuple and arguments[-1:] != (Ellipsis,):
            return len(value) == len(arguments) and all(map(_fits, value, arguments))
        return all(_fits(each, arguments[0]) for each in value)
    return origin is not dict or isinstance(value, dict)
