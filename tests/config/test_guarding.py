"""Guards of users' parts: what is found in the first call, equality of results, and draws that can be repeated."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fedmpi.config.guarding import Guard, PartError, Replayed, read_only, same


def test_a_fault_names_key_part_function_and_what_is_allowed() -> None:
    with pytest.raises(PartError) as caught:
        Guard("k_control.method", "mine:X").call("step", lambda: 1 // 0)
    assert str(caught.value).startswith(
        '[k_control] method: "mine:X": step failed: ZeroDivisionError: integer division or'
    )
    assert str(caught.value).endswith("; allowed: a function without errors")


@pytest.mark.parametrize("draw", [np.random.random, random.random, lambda: np.random.normal(size=3)])  # noqa: NPY002
def test_global_generators_are_not_drawn_from(draw: Any) -> None:
    guard = Guard("key", "mine:X")
    assert guard.call("f", np.random.default_rng(0).integers, 1) == 0
    with pytest.raises(PartError, match="f draws from a global generator"):
        guard.call("f", draw)


def test_the_first_call_is_that_of_each_function_unless_thorough() -> None:
    guard = Guard("key", "mine:X")
    assert [guard.is_first("f"), guard.is_first("f"), guard.is_first("g")] == [True, False, True]
    thorough = Guard("key", "mine:X", thorough=True)
    assert [thorough.is_first("f"), thorough.is_first("f")] == [True, True]


def test_arguments_cannot_be_written_to() -> None:
    values = np.zeros(3)
    with pytest.raises(PartError, match="allowed: a function that leaves its arguments as they are"):
        Guard("key", "mine:X").call("f", lambda array: array.sort(), read_only(values))
    values[0] = 1.0  # the owner's own array can still be


@dataclass(frozen=True)
class Pair:
    number: float
    array: np.ndarray


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        (Pair(1.0, np.arange(3)), Pair(1.0, np.arange(3)), True),
        (Pair(1.0, np.arange(3)), Pair(1.0, np.arange(4)), False),
        (Pair(1.0, np.arange(3)), Pair(2.0, np.arange(3)), False),
        (np.arange(3), np.arange(3.0), False),
        (np.array([np.nan]), np.array([np.nan]), True),
        (float("nan"), float("nan"), True),
        ({"a": [1, (2,)]}, {"a": [1, (2,)]}, True),
        ({"a": 1}, {"b": 1}, False),
        (1, True, False),
    ],
)
def test_results_are_the_same_bit_for_bit(one: Any, other: Any, expected: bool) -> None:
    assert same(one, other) is expected


def test_draws_can_be_given_again() -> None:
    draw = Replayed(np.random.default_rng(3).random)
    drawn = [draw(), draw()]
    again = draw.again()
    assert [again(), again(), again()] == [*drawn, 0.5]
