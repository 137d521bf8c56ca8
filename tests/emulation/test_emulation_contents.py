"""What parts prepare for a run is told apart by its contents, in whatever it lies, and is not written to."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from fedmpi.config.guarding import Guard, PartError
from fedmpi.emulation.availability import AvailabilityModel
from fedmpi.emulation.compute import ComputeModel
from fedmpi.emulation.contents import add_to, protect
from fedmpi.emulation.guarded import guarded_availability, guarded_compute

MANY = 5000  # NumPy shows the ends of so long an array


def contents(value: object) -> bytes:
    found = bytearray()
    add_to(found.extend, value)
    return bytes(found)


class Table:
    def __init__(self, values: Any) -> None:
        self.values = values
        self.itself = self

    def of(self, client: int) -> Any:
        return self.values[client]


@dataclass
class Record:
    values: Any
    made_by: str = field(default="", compare=False)


def closure(values: Any) -> Callable[[int], Any]:
    def of(client: int) -> Any:
        return values[client]

    return of


def with_default(values: Any) -> Callable[[int], Any]:
    def of(client: int, table: Any = values) -> Any:
        return table[client]

    return of


HOLDERS: dict[str, Callable[[Any], Any]] = {
    "array": lambda values: values,
    "list": lambda values: [1, values],
    "dictionary": lambda values: {"a": {"b": values}},
    "dataclass": Record,
    "dataclass in a dictionary": lambda values: {1: Record(values)},
    "object": Table,
    "objects in an array": lambda values: np.array([Table(values), None], object),
    "closure": closure,
    "default": with_default,
    "method": lambda values: Table(values).of,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_every_value_counts_wherever_it_lies_and_nothing_else(holder: Callable[[Any], Any]) -> None:
    one, same, other = np.arange(MANY), np.arange(MANY), np.arange(MANY)
    other[MANY // 2] = 0
    assert contents(holder(one)) == contents(holder(same)) != contents(holder(other))


def test_what_a_dataclass_is_not_compared_by_does_not_count() -> None:
    assert contents(Record(1, "me")) == contents(Record(1, "you")) != contents(Record(2, "me"))


@pytest.mark.parametrize("value", [object(), threading.Lock(), np.random.default_rng(1)])
def test_what_says_nothing_of_itself_is_refused(value: object) -> None:
    kind = type(value).__name__
    for held in (value, [value], Table(value)):
        with pytest.raises(TypeError, match=f"a {kind}, by which no two runs can be compared"):
            contents(held)
    model = ComputeModel(
        summary="x", costs=lambda setup: [value], seconds=lambda costs, training: training.steps
    )
    message = (
        f'"mine:MODEL": costs gave a {kind}, by which no two runs can be compared; allowed: arrays, numbers'
    )
    with pytest.raises(PartError, match=message):
        guarded_compute(model, Guard("emulation.compute.model", "mine:MODEL")).costs(None)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["array", "list", "dictionary", "dataclass", "object"])
def test_prepared_arrays_cannot_be_written_to(name: str) -> None:
    def everybody(setup: Any, round_index: int, start_s: float) -> Any:
        return np.ones(setup.clients, np.bool_)

    values = np.arange(3)
    model = AvailabilityModel(
        summary="x", available=everybody, prepare=lambda section, clients: HOLDERS[name](values)
    )
    guarded = guarded_availability(model, Guard("emulation.availability.model", "mine:MODEL"))
    assert guarded.prepare is not None
    guarded.prepare(None, 3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_an_object_that_holds_itself_is_protected_once() -> None:
    table = Table([np.arange(2)])
    protect(table)
    assert not table.values[0].flags.writeable
