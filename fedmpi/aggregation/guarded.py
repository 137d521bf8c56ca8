"""A user's aggregator under watch: what it makes of updates, and its state, are checked where they are made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation.interface import Aggregator, Combine, Init, State, Step
from fedmpi.config.guarding import Guard, read_only, same, shown

_LARGEST = 2**63 - 1


def guarded(aggregator: Aggregator, guard: Guard) -> Aggregator:
    """``aggregator``, whose functions raise PartError where they break a rule of ``Aggregator``."""
    combine, step = aggregator.combine, aggregator.step
    return replace(
        aggregator,
        init=_init(guard, aggregator),
        combine=None if combine is None else _combine(guard, combine),
        step=None if step is None else _step(guard, step),
    )


def _init(guard: Guard, aggregator: Aggregator) -> Init:
    def init(parameters: int) -> State:
        state = guard.call("init", aggregator.init, parameters)
        check_state(guard, "init", state, parameters)
        taken = sum(value.itemsize for value in state.values() if isinstance(value, np.ndarray))
        if taken > aggregator.bytes_per_parameter:
            problem = f"gave a state of {taken} bytes for each parameter"
            declared = aggregator.bytes_per_parameter
            guard.refuse("init", problem, f"bytes_per_parameter, which is {declared}; it must be {taken}")
        return dict(state)

    return init


def _combine(guard: Guard, combine: Combine) -> Combine:
    def checked(updates: NDArray[np.float32], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        seen = read_only(updates), read_only(samples)
        given = guard.call("combine", combine, *seen)
        guard.array("combine", given, "f", (updates.shape[1],))
        single = _single(guard, "combine", given, "its result")
        if guard.is_first("combine"):
            guard.must_agree("combine", given, guard.call("combine", combine, *seen))
        return single

    return checked


def _step(guard: Guard, step: Step) -> Step:
    def checked(
        state: State, mean: NDArray[np.floating], indices: NDArray[np.int32] | None
    ) -> tuple[State, NDArray[np.floating]]:
        first = guard.is_first("step")
        first_alone = indices is not None and guard.is_first("step at indices")
        names, length = _names(state), _length(state)
        before = _copied(state) if first_alone else None
        copies = (_copied(state), mean.copy()) if first else None
        following, change = guard.pair("step", guard.call("step", step, state, mean, indices))
        guard.array("step", change, "f", mean.shape, "the change")
        _single(guard, "step", change, "the change")
        guard.instance("step", following, dict)
        if _names(following) != names:
            guard.refuse("step", f"gave a state of {_names(following)}", f"that of {names}")
        check_state(guard, "step", following, length)
        if copies is not None:
            given = dict(following), change
            again = guard.call("step", step, *copies, indices)
            guard.must_agree("step", given, (dict(again[0]), again[1]))
        if before is not None and indices is not None:
            _check_others(guard, before, following, indices)
        return following, change

    return checked


def _single(guard: Guard, function: str, value: NDArray[np.floating], what: str) -> NDArray[np.float32]:
    """``value`` as float32, the type of the model. Raises PartError where that does not hold it."""
    with np.errstate(over="ignore"):  # is told by name
        single = np.asarray(value, np.float32)
    found = np.isfinite(single)
    if not found.all():
        at = int(found.argmin())
        guard.refuse(function, f"gave {what} with {value[at]} at {at}", "finite numbers of float32")
    return single


def check_state(guard: Guard, function: str, state: Any, parameters: int) -> None:
    """Raise PartError unless ``state`` is a dict of arrays (``parameters``,) and of plain numbers, by names."""
    guard.instance(function, state, dict)
    for name, value in state.items():
        if not isinstance(name, str):
            guard.refuse(function, f"gave a state with the key {name!r}", "texts as names in a state")
        if isinstance(value, int) and abs(value) > _LARGEST:
            guard.refuse(function, f"gave state {name} = {shown(value)}", "integers of 64 bits")
        if isinstance(value, np.ndarray):
            guard.array(function, value, "fiub", (parameters,), f"state {name}")
        elif not isinstance(value, (bool, int, float)):
            guard.refuse(
                function, f"gave state {name} = {type(value).__name__}", "arrays (D,) and plain numbers"
            )


def _check_others(guard: Guard, before: State, after: State, indices: NDArray[np.int32]) -> None:
    """Where entries arrived alone, the state of all other coordinates stays as it was."""
    for name, value in before.items():
        if isinstance(value, np.ndarray):
            others = np.ones(len(value), np.bool_)
            others[indices] = False
            if not same(value[others], after[name][others]):
                problem = f"changed state {name} at coordinates of which nothing arrived"
                guard.refuse("step", problem, "changes at indices alone, or dense=True")


def _copied(state: State) -> State:
    return {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in state.items()}


def _length(state: State) -> int:
    """How many entries the arrays of a state have; 0 where there are none."""
    return next((len(value) for value in state.values() if isinstance(value, np.ndarray)), 0)


def _names(state: State) -> str:
    return ", ".join(sorted(map(str, state))) or "nothing"
