"""A user's compute and availability model under watch: what keeps to the rules goes through, each fault is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from math import inf
from typing import Any

import numpy as np
import pytest

from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.config.guarding import Guard, PartError
from fedmpi.emulation.availability import AvailabilityModel, Setup
from fedmpi.emulation.compute import ComputeModel, LocalTraining
from fedmpi.emulation.guarded import guarded_availability, guarded_compute

TRAINING = LocalTraining.of(np.array([0, 2]), 5, np.array([30.0, 4.0, 6.0]), density=1.0)
SETUP = Setup(AvailabilityConfig(), 3, 0)
HERE = np.ones(3, np.bool_)


def compute(**functions: Callable[..., Any]) -> ComputeModel:
    given = {"costs": lambda setup: "costs", "seconds": lambda costs, training: np.array([1.0, 0.0])}
    return guarded_compute(ComputeModel(summary="mine", **{**given, **functions}), Guard("a.b", "mine:X"))


def availability(**functions: Callable[..., Any]) -> AvailabilityModel:
    given = {"available": lambda setup, round_index, start_s: HERE}
    return guarded_availability(
        AvailabilityModel(summary="mine", **{**given, **functions}), Guard("a.b", "mine:X")
    )


def giving(value: Any) -> Callable[..., Any]:
    return lambda *arguments: value


def refused(message: str, function: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(PartError, match=re.escape(message)) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def counting(values: list[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """A function that gives the next of ``values`` at each call, and those that are left."""
    left = list(values)
    return lambda *arguments: left.pop(0), left


def test_what_keeps_to_the_rules_is_as_without_watch():
    model = compute(seconds=giving(np.array([1, 2])), coefficients=giving((np.zeros(2), np.ones((2, 3)))))
    assert model.costs(None) == "costs"
    seconds = model.seconds("costs", TRAINING)
    assert (seconds.dtype, seconds.tolist()) == (np.float64, [1.0, 2.0])
    assert [each.tolist() for each in model.coefficients("costs", TRAINING)] == [[0, 0], [[1, 1, 1]] * 2]
    assert compute().coefficients is None
    moments = np.array([1.0, inf, 5.0])
    there = availability(next_s=giving(2), leaves_s=giving(moments), prepare=giving("prepared"))
    assert there.available(SETUP, 0, 1.0).tolist() == [True] * 3
    assert there.next_s(SETUP, 0, 1.0) == 2.0
    assert there.leaves_s(SETUP, 0, 1.0).tolist() == moments.tolist()
    assert there.prepare(None, 3) == "prepared"
    assert (availability().next_s, availability().leaves_s, availability().prepare) == (None,) * 3
    assert availability(next_s=giving(inf)).next_s(SETUP, 0, 1.0) == inf


def test_the_first_seconds_and_flags_are_asked_for_twice():
    once, again, later = np.array([1.0, 2.0]), np.array([1.0, 2.5]), np.array([0.0, 3.0])
    seconds, left = counting([once, once, later])
    model = compute(seconds=seconds)
    assert model.seconds("costs", TRAINING).tolist() == [1.0, 2.0]
    assert len(left) == 1
    assert model.seconds("costs", TRAINING).tolist() == [0.0, 3.0]
    refused("gave another result", compute(seconds=counting([once, again])[0]).seconds, "costs", TRAINING)
    flags, left = counting([HERE, HERE, ~HERE])
    model = availability(available=flags)
    assert model.available(SETUP, 0, 1.0).all()
    assert len(left) == 1
    assert not model.available(SETUP, 0, 1.0).any()
    refused(
        "gave another result", availability(available=counting([HERE, ~HERE])[0]).available, SETUP, 0, 1.0
    )


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (np.array([1.0, -0.5]), "seconds gave -0.5 s at 1"),
        (np.array([inf, 1.0]), "seconds gave inf s at 0"),
        (np.array([1.0, np.nan]), "seconds gave nan s at 1"),
        (np.ones(3), "of shape (3,)"),
        ([1.0, 1.0], "seconds gave seconds as "),
    ],
)
def test_impossible_seconds_are_refused(seconds, message):
    refused(message, compute(seconds=giving(seconds)).seconds, "costs", TRAINING)


@pytest.mark.parametrize(
    ("coefficients", "message"),
    [
        ((np.array([0.0, -1.0]), np.ones((2, 3))), "coefficients gave -1.0 s at 1"),
        ((np.ones(2), np.array([[0, 0, 0], [0, 0, inf]])), "coefficients gave inf s at 5"),
        ((np.ones(3), np.ones((2, 3))), "of shape (3,)"),
        ((np.ones(2), np.ones((3, 2))), "of shape (3, 2)"),
        (np.ones(2), "coefficients gave"),
    ],
)
def test_impossible_coefficients_are_refused(coefficients, message):
    refused(message, compute(coefficients=giving(coefficients)).coefficients, "costs", TRAINING)


@pytest.mark.parametrize("function", ["seconds", "coefficients"])
@pytest.mark.parametrize("name", ["clients", "steps", "active", "host_s"])
def test_what_a_model_is_given_cannot_be_written_to(function, name):
    def writing(costs: Any, training: LocalTraining) -> Any:
        getattr(training, name)[...] = 0

    refused("read-only", getattr(compute(**{function: writing}), function), "costs", TRAINING)


@pytest.mark.parametrize(
    ("function", "value", "message"),
    [
        ("available", np.ones(2, np.bool_), "available gave its result as bool of shape (2,)"),
        ("available", np.ones(3), "available gave its result as float64"),
        ("next_s", 1.0, "next_s gave 1.0"),  # not after the moment of the question
        ("next_s", np.nan, "next_s gave nan"),
        ("next_s", "2", 'next_s gave "2"'),
        ("leaves_s", np.array([1.0, np.nan, np.nan]), "leaves_s gave nan for client 1"),
        ("leaves_s", np.ones(2), "leaves_s gave its result as float64 of shape (2,)"),
        ("leaves_s", np.ones(3, np.float32), "leaves_s gave its result as float32"),
    ],
)
def test_impossible_answers_of_an_availability_model_are_refused(function, value, message):
    refused(message, getattr(availability(**{function: giving(value)}), function), SETUP, 0, 1.0)
