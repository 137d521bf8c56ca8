"""What a module holds besides tensors and modules of its own: remembered, and put back in place.

A list of what was seen, a dictionary of counts, an array, a tensor that is no buffer, a generator: what forward passes
leave there must not reach another client (``fedmpi.learning.own_state``).
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from types import CellType, FunctionType, MethodType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

PutBack = Callable[[], object]


def put_back_of(roots: Iterable[object], known: Iterable[object], tensors: Iterable[Tensor]) -> list[PutBack]:
    """Functions that together give ``roots``, and all that is reached from them, what they hold now.

    Reached are what lists, dictionaries, sets, deques, tuples, closures, bound methods and namespaces hold, arrays,
    tensors, generators, modules, and objects of the classes that are defined where those of the modules among
    ``known`` are. Left as they are: ``known`` itself, tensors in the memory of ``tensors``, and what others' objects
    hold.
    """
    kept = list(known)
    packages = {_package(type(one)) for one in kept if isinstance(one, nn.Module)} - {"torch", "fedmpi"}
    seen = {id(one) for one in kept}
    memory = {t.untyped_storage().data_ptr() for t in tensors if t.layout == torch.strided}
    found: list[PutBack] = []
    waiting = list(roots)
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        kept.append(value)  # an id must not be used again
        if isinstance(value, Tensor):
            if value.layout != torch.strided or value.untyped_storage().data_ptr() in memory:
                continue
            memory.add(value.untyped_storage().data_ptr())
        put_back, inside = _held(value, packages)
        if put_back is not None:
            found.append(put_back)
        waiting += inside
    return found


def memory_of(tensor: Tensor) -> Tensor:
    """All memory behind ``tensor``, which may be a view of a part of it or show an entry many times, as bytes."""
    storage = tensor.untyped_storage()
    return torch.empty(0, dtype=torch.uint8, device=tensor.device).set_(storage)


def _held(value: Any, packages: set[str]) -> tuple[PutBack | None, list[object]]:
    """How to give ``value`` what it holds now, None where that cannot change, and the objects that it holds."""
    if isinstance(value, Tensor):
        memory = memory_of(value)
        return partial(memory.copy_, memory.clone()), []
    if isinstance(value, np.ndarray):
        inside = value.ravel().tolist() if value.dtype.hasobject else []
        return (partial(np.copyto, value, value.copy()) if value.flags.writeable else None), inside
    if isinstance(value, tuple | frozenset):
        return None, list(value)
    if isinstance(value, dict):
        return partial(_refill, value, value.update, dict(value)), list(value.values())
    if isinstance(value, set):
        return partial(_refill, value, value.update, set(value)), list(value)
    if isinstance(value, list | deque | bytearray):
        return partial(_refill, value, value.extend, type(value)(value)), list(value)
    if isinstance(value, torch.Generator):
        return partial(value.set_state, value.get_state()), []
    if isinstance(value, random.Random):
        return partial(value.setstate, value.getstate()), []
    if isinstance(value, np.random.RandomState):
        return partial(value.set_state, value.get_state()), []
    if isinstance(value, np.random.Generator):
        return partial(setattr, value.bit_generator, "state", value.bit_generator.state), []
    if isinstance(value, CellType):
        content = _content(value)
        return (None, []) if not content else (partial(setattr, value, "cell_contents", content[0]), content)
    if isinstance(value, FunctionType):
        return None, [*(value.__closure__ or ()), *(value.__defaults__ or ())]
    if isinstance(value, MethodType):
        return None, [value.__self__, value.__func__]
    if isinstance(value, partial):
        return None, [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, nn.Module | SimpleNamespace) or _is_instance_of(value, packages):
        return None, [vars(value)]
    return None, []


def _is_instance_of(value: object, packages: set[str]) -> bool:
    return not isinstance(value, type) and hasattr(value, "__dict__") and _package(type(value)) in packages


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


def _content(cell: CellType) -> list[object]:
    """What a variable of a closure is bound to; nothing before it is bound."""
    try:
        return [cell.cell_contents]
    except ValueError:
        return []


def _refill(container: Any, fill: Callable[[Any], None], first: Any) -> None:
    container.clear()
    fill(first)
