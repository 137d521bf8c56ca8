"""What in a trace is not as it should be: values, in words that name table, row and column."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]

Named = Callable[[int], str]
"""``named(place)``: the row at a place of a table, in words."""


@dataclass(frozen=True)
class Difference:
    """A value that does not follow: its ``table`` and ``column``, its row in words, what is there and what should."""

    table: str
    row: str
    column: str
    recorded: Any
    computed: Any


def same(recorded: np.ndarray, computed: np.ndarray) -> BoolArray:
    """Equal bit for bit, or both NaN."""
    if recorded.dtype.kind != "f":
        return np.asarray(recorded == computed)
    return np.asarray((recorded == computed) | (np.isnan(recorded) & np.isnan(computed)))


def compared(
    table: str, named: Named, column: str, recorded: np.ndarray, computed: np.ndarray, where: Any = True
) -> Iterator[Difference]:
    """The values of a ``column`` that differ from what was computed, of the rows ``where`` that is true."""
    for place in np.flatnonzero(~same(recorded, computed) & where).tolist():
        yield Difference(table, named(place), column, recorded[place], computed[place])


def round_named(rounds: np.ndarray) -> Named:
    """Names of the rows of a table ``rounds``."""
    return lambda place: f"round {rounds['round'][place]}"


def client_named(clients: np.ndarray) -> Named:
    """Names of the rows of a table ``clients``."""
    return lambda place: f"round {clients['round'][place]} client {clients['client'][place]}"
