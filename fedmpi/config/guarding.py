"""Guards of parts that a user wrote: what a function of such a part raises or gives is checked where it is called.

A fault is one line that names the key, the part and its function, what was found, and what is allowed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.errors import ConfigError
from fedmpi.config.failures import ANY_FAILURE, described

PURE = "a pure function: the same arguments give the same result, and nothing is kept elsewhere"
_NO_GLOBALS = "the source of randomness that it is given, or a generator with a seed of its own"
_UNCHANGED = "a function that leaves its arguments as they are"
_MOST_SHOWN = 80


class PartError(ConfigError):
    """A part that broke a rule of its interface while it was used."""


@dataclass(frozen=True)
class Guard:
    """The part that ``name`` stands for at ``key``, whose functions are called under watch.

    ``thorough``: what is looked at in the first call of a function in a run is looked at in all. ``may_draw``: from the
    global generators of NumPy and Python, which somebody seeds around a call.
    """

    key: str
    name: str
    thorough: bool = False
    may_draw: bool = False
    _called: set[str] = field(default_factory=set, compare=False)

    def refuse(self, function: str, problem: str, allowed: str) -> NoReturn:
        """Raise PartError: ``function`` of the part did what ``problem`` says."""
        raise PartError(self.key, f'"{self.name}": {function} {problem}', allowed)

    def call(self, function: str, to_call: Callable[..., Any], *arguments: Any) -> Any:
        """What ``to_call`` gives for ``arguments``.

        Raises PartError for what it raises, and unless it ``may_draw`` where it draws from a global generator of NumPy
        or Python.
        """
        try:
            with self.no_global_draws(function):
                return to_call(*arguments)
        except ConfigError:
            raise
        except ANY_FAILURE as error:
            allowed = _UNCHANGED if "read-only" in str(error) else "a function without errors"
            problem = f'"{self.name}": {function} failed: {described(error)}'
            raise PartError(self.key, problem, allowed) from error

    @contextmanager
    def no_global_draws(self, function: str) -> Iterator[None]:
        """Raise PartError where what happens inside draws from a global generator of NumPy or Python."""
        before = _global_generators()
        yield
        if not self.may_draw and _global_generators() != before:
            self.refuse(function, "draws from a global generator of random numbers", _NO_GLOBALS)

    def is_first(self, function: str) -> bool:
        """Whether nobody has asked about ``function`` before; always where the guard is ``thorough``."""
        first = self.thorough or function not in self._called
        self._called.add(function)
        return first

    def must_agree(self, function: str, given: Any, again: Any) -> None:
        """Raise PartError unless two results for the same arguments are the same."""
        if not same(given, again):
            self.refuse(function, "gave another result for the same arguments", PURE)

    def array(self, function: str, value: Any, kinds: str, shape: tuple[int, ...], what: str = "") -> None:
        """Raise PartError unless ``value`` is an array of ``shape`` (-1: any length), its type of one of ``kinds``.

        ``kinds``: letters of ``numpy.dtype.kind``, or the name of a type.
        """
        allowed = f"{_KINDS.get(kinds, kinds)} of shape {shown_shape(shape)}"
        gave = f"gave {what or 'its result'} as"
        if not isinstance(value, np.ndarray):
            self.refuse(function, f"{gave} {shown(value)}", allowed)
        fits = len(value.shape) == len(shape) and all(
            w in (-1, f) for f, w in zip(value.shape, shape, strict=True)
        )
        typed = value.dtype.kind in kinds if kinds in _KINDS else value.dtype.name == kinds
        if not (fits and typed):
            self.refuse(function, f"{gave} {value.dtype} of shape {shown_shape(value.shape)}", allowed)

    def finite(self, function: str, value: np.ndarray, what: str = "") -> None:
        """Raise PartError at the first number of ``value`` that is not finite."""
        found = np.isfinite(value)
        if not found.all():
            at = int(found.ravel().argmin())
            self.refuse(
                function, f"gave {what or 'its result'} with {value.ravel()[at]} at {at}", "finite numbers"
            )

    def rising(self, function: str, indices: Any, dimension: int, what: str = "indices") -> NDArray[np.int32]:
        """``indices`` (n,) as int32. Raises PartError unless they rise strictly, integers in [0, ``dimension``)."""
        self.array(function, indices, "iu", (-1,), what)
        rises = indices[1:] > indices[:-1]
        if not rises.all():
            at = int(rises.argmin()) + 1
            problem = f"gave {what} that do not rise: {indices[at]} after {indices[at - 1]}"
            self.refuse(function, problem, f"distinct {what} in rising order")
        for extreme in (*indices[:1], *indices[-1:]):
            if not 0 <= extreme < dimension:
                self.refuse(
                    function,
                    f"gave {extreme} among {what}, out of range",
                    f"{what} from 0 to {dimension - 1}",
                )
        return np.asarray(indices, np.int32)

    def integer(self, function: str, value: Any, low: int, high: int, what: str) -> None:
        """Raise PartError unless ``value`` is an int from ``low`` to ``high``."""
        if type(value) is not int or not low <= value <= high:
            kind = "" if type(value) is int else f" ({type(value).__name__})"
            self.refuse(function, f"gave {what} = {shown(value)}{kind}", f"an int from {low} to {high}")

    def instance(self, function: str, value: Any, kind: type) -> None:
        """Raise PartError unless ``value`` is a ``kind``."""
        if not isinstance(value, kind):
            self.refuse(function, f"gave {shown(value)}", f"a {kind.__module__}.{kind.__qualname__}")

    def pair(self, function: str, value: Any) -> tuple[Any, Any]:
        """``value``, which must be a tuple of two."""
        if not isinstance(value, tuple) or len(value) != 2:
            self.refuse(function, f"gave {shown(value)}", "two values: return state, result")
        return value


_KINDS = {"f": "floating-point numbers", "b": "bool", "iu": "integers", "fiub": "numbers"}


def read_only(array: Any) -> Any:
    """A view of the array that cannot be written through."""
    view = array.view()
    view.flags.writeable = False
    return view


def shown(value: Any) -> str:
    """A value in a message: arrays and objects by their type, plain values as they are."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} of shape {shown_shape(value.shape)}"
    if value is None or isinstance(value, (bool, int, float, str, np.number)):
        text = str(value) if not isinstance(value, str) else f'"{value}"'
        return text if len(text) <= _MOST_SHOWN else text[: _MOST_SHOWN - 3] + "..."
    return f"a {type(value).__name__}"


def shown_shape(shape: tuple[int, ...]) -> str:
    """``(3, n)``: -1 is any length."""
    inner = ", ".join("n" if length < 0 else str(length) for length in shape)
    return f"({inner},)" if len(shape) == 1 else f"({inner})"


def same(one: Any, other: Any) -> bool:
    """Whether two results are equal, bit for bit in their arrays; NaN is NaN."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype.kind == "f")
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(map(same, one, other))
    if is_dataclass(one):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in fields(one))
    return bool(one == other) or (one != one and other != other)


class Replayed:
    """Draws of a generator that can be given again in the same order, for a call that is repeated."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._drawn: list[float] = []

    def __call__(self) -> float:
        """The next draw."""
        self._drawn.append(self._draw())
        return self._drawn[-1]

    def again(self) -> Callable[[], float]:
        """The same draws from the first; where they do not suffice, 0.5."""
        left = iter(self._drawn)
        return lambda: next(left, 0.5)


def _global_generators() -> tuple[Any, ...]:
    """What changes when somebody draws from the global generators of NumPy or Python."""
    theirs: Any = np.random.get_state(legacy=True)  # noqa: NPY002 (theirs is looked at, none is drawn)
    return theirs[1][:2].tolist(), *theirs[2:], random.getstate()
