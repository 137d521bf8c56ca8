"""A user's compute or availability model under watch: seconds, moments and flags are checked as they are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from typing import Any

import numpy as np

from fedmpi.config.guarding import Guard, read_only, shown
from fedmpi.emulation.availability import AvailabilityModel, Available, Leaves, Next
from fedmpi.emulation.availability import Setup as AvailabilitySetup
from fedmpi.emulation.compute import ComputeModel, FloatArray, LocalTraining
from fedmpi.emulation.contents import ALLOWED, add_to, protect
from fedmpi.emulation.errors import EmulationError

_MOST_S = 1e18
"""Rounds of so long can be added up; it is the longest emulated time that a configuration can name, too."""


def guarded_compute(model: ComputeModel, guard: Guard) -> ComputeModel:
    """``model``, whose functions raise PartError where they break a rule of ``ComputeModel``."""
    seconds_, coefficients_, costs_ = model.seconds, model.coefficients, model.costs
    check_ = model.check

    def seconds(costs: Any, training: LocalTraining) -> FloatArray:
        seen = _unwritable(training)
        taken = guard.call("seconds", seconds_, costs, seen)
        _check_seconds(guard, "seconds", taken, training.clients.shape)
        if guard.is_first("seconds"):
            guard.must_agree("seconds", taken, guard.call("seconds", seconds_, costs, seen))
        return np.asarray(taken, np.float64)

    def coefficients(costs: Any, training: LocalTraining) -> tuple[FloatArray, FloatArray]:
        assert coefficients_ is not None
        name = "coefficients"
        seen = _unwritable(training)
        given = guard.pair(name, guard.call(name, coefficients_, costs, seen))
        constant_s, each_s = given
        _check_seconds(guard, name, constant_s, training.clients.shape)
        _check_seconds(guard, name, each_s, (len(training.clients), len(training.active)))
        if guard.is_first(name):
            guard.must_agree(name, given, guard.call(name, coefficients_, costs, seen))
        return constant_s, each_s

    def refusal(costs: Any, prunable_layers: int) -> EmulationError | None:
        assert check_ is not None
        try:
            check_(costs, prunable_layers)
        except EmulationError as error:  # that is what it is for
            return error
        return None

    def check(costs: Any, prunable_layers: int) -> None:
        error = guard.call("check", refusal, costs, prunable_layers)
        if error is not None:
            raise error

    return replace(
        model,
        costs=lambda setup: _prepared(guard, "costs", guard.call("costs", costs_, setup)),
        seconds=seconds,
        coefficients=None if coefficients_ is None else coefficients,
        check=None if check_ is None else check,
    )


def guarded_availability(model: AvailabilityModel, guard: Guard) -> AvailabilityModel:
    """``model``, whose functions raise PartError where they break a rule of ``AvailabilityModel``."""
    return replace(
        model,
        available=_available(guard, model.available),
        next_s=None if model.next_s is None else _next_s(guard, model.next_s),
        leaves_s=None if model.leaves_s is None else _leaves_s(guard, model.leaves_s),
        prepare=None if model.prepare is None else _prepare(guard, model.prepare),
    )


def _available(guard: Guard, available: Available) -> Available:
    def checked(setup: AvailabilitySetup, round_index: int, start_s: float) -> np.ndarray:
        flags = guard.call("available", available, setup, round_index, start_s)
        guard.array("available", flags, "b", (setup.clients,))
        if guard.is_first("available"):
            again = guard.call("available", available, setup, round_index, start_s)
            guard.must_agree("available", flags, again)
        return np.asarray(flags)

    return checked


def _next_s(guard: Guard, next_s: Next) -> Next:
    def checked(setup: AvailabilitySetup, round_index: int, start_s: float) -> float:
        moment = guard.call("next_s", next_s, setup, round_index, start_s)
        if not isinstance(moment, (int, float, np.number)) or isnan(moment) or not moment > start_s:
            guard.refuse("next_s", f"gave {shown(moment)}", f"a moment after {start_s:g}, or inf for never")
        if guard.is_first("next_s"):
            guard.must_agree("next_s", moment, guard.call("next_s", next_s, setup, round_index, start_s))
        return float(moment)

    return checked


def _leaves_s(guard: Guard, leaves_s: Leaves) -> Leaves:
    def checked(setup: AvailabilitySetup, round_index: int, start_s: float) -> FloatArray:
        moments = guard.call("leaves_s", leaves_s, setup, round_index, start_s)
        guard.array("leaves_s", moments, "float64", (setup.clients,))
        if np.isnan(moments).any():
            client = int(np.isnan(moments).argmax())
            guard.refuse("leaves_s", f"gave nan for client {client}", "a moment, or inf for never")
        if guard.is_first("leaves_s"):
            again = guard.call("leaves_s", leaves_s, setup, round_index, start_s)
            guard.must_agree("leaves_s", moments, again)
        return np.asarray(moments)

    return checked


def _prepare(guard: Guard, prepare: Callable[..., object]) -> Callable[..., object]:
    return lambda section, clients: _prepared(
        guard, "prepare", guard.call("prepare", prepare, section, clients)
    )


def _prepared(guard: Guard, function: str, value: Any) -> Any:
    """What ``function`` gave for the whole run: of what a resumed run can be compared by, and never changed."""
    try:
        add_to(lambda content: None, value)
    except TypeError as error:
        guard.refuse(function, f"gave {error}", ALLOWED)
    protect(value)
    return value


def _check_seconds(guard: Guard, function: str, value: Any, shape: tuple[int, ...]) -> None:
    guard.array(function, value, "fiub", shape, "seconds")
    wrong = ~((value >= 0) & (value <= _MOST_S))
    if wrong.any():
        at = int(wrong.ravel().argmax())
        allowed = f"finite seconds from 0 on, at most {_MOST_S:g}"
        guard.refuse(function, f"gave {value.ravel()[at]} s at {at}", allowed)


def _unwritable(training: LocalTraining) -> LocalTraining:
    arrays: dict[str, Any] = {
        name: read_only(getattr(training, name)) for name in ("clients", "steps", "active", "host_s")
    }
    return replace(training, **arrays)
