"""A user's controller under watch: what keeps to the rules goes through unchanged, each fault is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fedmpi.config import parts
from fedmpi.config.guarding import Guard, PartError
from fedmpi.k_control import Controller, Magnitudes, Observation, Setup
from fedmpi.k_control.guarded import guarded
from fedmpi.k_control.interface import State

SETUP = Setup(3, 20, 10)
SEEN = Observation(1.0, 0.5)
MAGNITUDES = Magnitudes(np.array([1, 20]), np.array([1.0, 4.0]), lambda k: 1.0 * k)


@dataclass(frozen=True)
class Kept(State):
    """A state with something of its own."""

    own: Any = ()


def watched(**functions: Any) -> Controller:
    given = {
        "init": lambda setup, draw: Kept(setup.k_initial, 0),
        "step": lambda state, seen, draw: state,
        "state": Kept,
    }
    return guarded(Controller(summary="mine", **{**given, **functions}), Guard("k_control.method", "mine:X"))


def refused(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(PartError, match=re.escape(message)) as caught:
        call()
    assert str(caught.value).startswith('[k_control] method: "mine:X": ')
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ogd_sign", "continuous_bandit"])
def test_what_keeps_to_the_rules_is_as_without_watch(name: str) -> None:
    """The first step is made twice, with the same draws, and takes them once."""
    plain = parts.build("k_control.method", name, {}, Controller)
    under_watch = guarded(plain, Guard("k_control.method", "mine:X"))
    found = []
    for controller in (plain, under_watch):
        draw = np.random.default_rng(5).random
        states = [controller.init(SETUP, draw)]
        for _ in range(6):
            states.append(controller.step(states[-1], replace(SEEN, loss_prev=2.0, loss=1.0), draw))
        found.append((states, draw()))
    assert found[0] == found[1]


FAULTS = [
    (State(5, 0), "gave a State; allowed: a Kept, the state it announces"),
    (None, "gave a NoneType; allowed: a Kept, the state it announces"),
    (Kept(2, 0), "gave k = 2; allowed: an int from 3 to 20"),
    (Kept(21, 0), "gave k = 21; allowed: an int from 3 to 20"),
    (Kept(5.0, 0), "gave k = 5.0 (float); allowed: an int from 3 to 20"),
    (Kept(5, 5), "gave k_probe = 5; allowed: an int from 0 to 4"),
    (Kept(5, -1), "gave k_probe = -1; allowed: an int from 0 to 4"),
    (Kept(5, 0, {1, 2}), "gave a state that a checkpoint cannot keep (Object of type set"),
    (
        Kept(5, 0, ((1, 2),)),
        "gave a state that a checkpoint changes; allowed: numbers, strings and tuples of them",
    ),
]


@pytest.mark.parametrize(("state", "message"), FAULTS)
def test_states_that_break_a_rule_are_refused(state: Any, message: str) -> None:
    """By whichever function, and in any round."""
    refused(f"init {message}", lambda: watched(init=lambda setup, draw: state).init(SETUP, lambda: 0.5))

    controller = watched(step=lambda before, seen, draw: state if before.own else replace(before, own=(1,)))
    first = controller.init(SETUP, lambda: 0.5)
    second = controller.step(first, SEEN, lambda: 0.5)
    refused(f"step {message}", lambda: controller.step(second, SEEN, lambda: 0.5))

    controller = watched(decide=lambda before, magnitudes: state)
    assert controller.decide is not None
    first = controller.init(SETUP, lambda: 0.5)
    refused(f"decide {message}", lambda: controller.decide(first, MAGNITUDES))


@pytest.mark.parametrize("k", [3, 20])
@pytest.mark.parametrize("lower", [1, 3])
def test_states_at_the_bounds_are_taken(k: int, lower: int) -> None:
    state = Kept(k, k - lower, (1, "x", 0.5))
    assert watched(init=lambda setup, draw: state).init(SETUP, lambda: 0.5) is state


def test_bounds_are_those_of_the_last_setup() -> None:
    """Before any, as in a run that goes on from a checkpoint, k is at least 1."""
    controller = watched(step=lambda state, seen, draw: replace(state, k=state.k - 1))
    assert controller.step(Kept(2, 0), SEEN, lambda: 0.5).k == 1
    refused(
        "step gave k = 0; allowed: an int from 1 to", lambda: controller.step(Kept(1, 0), SEEN, lambda: 0.5)
    )
    controller.init(SETUP, lambda: 0.5)
    controller.init(replace(SETUP, k_min=8), lambda: 0.5)
    assert controller.step(Kept(9, 0), SEEN, lambda: 0.5).k == 8
    refused(
        "step gave k = 7; allowed: an int from 8 to 20",
        lambda: controller.step(Kept(8, 0), SEEN, lambda: 0.5),
    )


def test_a_step_that_remembers_elsewhere_is_refused() -> None:
    calls = iter(range(4, 9))
    controller = watched(step=lambda state, seen, draw: replace(state, k=next(calls)))
    refused(
        "step gave another result for the same arguments",
        lambda: controller.step(controller.init(SETUP, lambda: 0.5), SEEN, lambda: 0.5),
    )


def test_a_state_of_no_class_of_states_is_refused() -> None:
    for wrong in (Kept(1, 0), dict):
        refused("state is ", lambda wrong=wrong: watched(state=wrong))


@pytest.mark.parametrize("shares", [(4, 6), (0, 10), (10, 0)])
def test_shares_of_layers_are_taken(shares: tuple[int, ...]) -> None:
    controller = watched(layer_k=lambda state: shares)
    layered = replace(SETUP, layer_sizes=(10, 10))
    state = controller.init(layered, lambda: 0.5)
    assert controller.step(state, SEEN, lambda: 0.5) is state
    assert controller.layer_k is not None
    assert controller.layer_k(state) == shares


@pytest.mark.parametrize(
    "shares", [(10,), (4, 5), (11, -1), (-1, 11), (4, 6, 0), [4, 6], (4.0, 6), None, (True, 9)]
)
def test_shares_that_are_not_k_in_all_are_refused(shares: Any) -> None:
    controller = watched(layer_k=lambda state: shares)
    layered = replace(SETUP, layer_sizes=(10, 10))
    allowed = "; allowed: a tuple of an int for each of 2 layers, at most its size, 10 in all"
    refused(f"layer_k gave {shares!r}{allowed}", lambda: controller.init(layered, lambda: 0.5))


def test_a_controller_that_cannot_decide_stays_one() -> None:
    assert watched().decide is None
    decided = watched(decide=lambda state, magnitudes: replace(state, k=int(magnitudes.counts[-1]))).decide
    assert decided is not None
    assert decided(Kept(5, 0), MAGNITUDES).k == 20
