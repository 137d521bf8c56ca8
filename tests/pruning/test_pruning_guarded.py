"""A user's pruning method under watch: what keeps to the rules goes through, each fault is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from fedmpi.config.guarding import Guard, PartError
from fedmpi.pruning import Change, Mask, Method, Needs, Observation, Setup, State
from fedmpi.pruning.guarded import guarded

FULL, HALF = Mask(6), Mask.of(np.array([1, 0, 1, 0, 1, 1], np.bool_))
OF_BIAS = Mask.of(np.array([1, 1, 1, 1, 1, 0], np.bool_))
SEEN = Observation(3, weights=np.ones(6, np.float32))


@dataclass(frozen=True)
class Kept(State):
    own: Any = 0


def watched(**given: Any) -> Method:
    functions = {
        "init": lambda setup, mask: Kept(mask),
        "needs": lambda setup, state, round_index: Needs.WEIGHTS,
        "step": lambda setup, state, seen, draw: (state, None),
    }
    return guarded(
        Method(summary="mine", **{"state": Kept, **functions, **given}), Guard("pruning.method", "mine:X")
    )


def giving(value: Any) -> Callable[..., Any]:
    return lambda *arguments: value


def refused(message: str, function: Callable[..., Any], *arguments: Any) -> None:
    with pytest.raises(PartError, match=re.escape(message)) as caught:
        function(*arguments)
    assert str(caught.value).startswith('[pruning] method: "mine:X": ')
    assert "\n" not in str(caught.value)


@pytest.fixture
def setup(setup_of: Callable[..., Setup]) -> Setup:
    """Four prunable parameters and a bias of two."""
    return setup_of([4, -2])


def test_what_keeps_to_the_rules_goes_through_unchanged(setup: Setup) -> None:
    change = Change(HALF, {"dropped": 2})
    method = watched(step=lambda setup, state, seen, draw: (Kept(HALF, own=draw()), change))
    assert method.init(setup, FULL) == Kept(FULL)
    own = Kept(FULL, own={"a": [(1, 2.5), {"b": None}]})
    assert watched(init=giving(own)).init(setup, FULL) is own
    assert method.needs(setup, Kept(FULL), 3) is Needs.WEIGHTS
    draw = np.random.default_rng(5).random
    steps = [method.step(setup, Kept(FULL), SEEN, draw) for _ in range(2)]  # the first is made twice
    expected = np.random.default_rng(5).random(2).tolist()
    assert [state.own for state, _ in steps] == expected
    assert all(made is change for _, made in steps)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (State(FULL), "init gave a State; allowed: a Kept"),
        (Kept(Mask(5)), "init gave a mask over 5 parameters; allowed: one over 6"),
        (Kept(OF_BIAS), "init pruned parameters from 4 on that cannot be"),
        (Kept(FULL, own=np.ones(2)), "init gave a state that a checkpoint cannot keep"),
        (
            Kept(FULL, own=[{"a": {1: 2}}]),
            "init gave a state that a checkpoint changes",
        ),  # 1 comes back as "1"
    ],
)
def test_impossible_states_are_refused(setup: Setup, state: State, message: str) -> None:
    refused(message, watched(init=giving(state)).init, setup, FULL)
    refused(
        message.replace("init", "step"),
        watched(step=giving((state, None))).step,
        setup,
        Kept(FULL),
        SEEN,
        None,
    )


@pytest.mark.parametrize("need", [Needs.TIME, Needs.GRADIENT, Needs.IMPORTANCE, Needs.VOTES])
def test_what_was_not_announced_cannot_be_asked_for(setup: Setup, need: Needs) -> None:
    field, announced = {
        Needs.TIME: ("by_time", True),
        Needs.GRADIENT: ("by_gradient", True),
        Needs.IMPORTANCE: ("importance", True),
        Needs.VOTES: ("own_mask", giving(HALF)),
    }[need]
    wanted = giving(need | Needs.WEIGHTS)
    refused(f"needs asks for {need.name}, without {field}", watched(needs=wanted).needs, setup, Kept(FULL), 3)
    assert watched(needs=wanted, **{field: announced}).needs(setup, Kept(FULL), 3) == need | Needs.WEIGHTS


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ((Kept(HALF), None), "step changed the mask without a change"),
        ((Kept(HALF), "a change"), "step gave "),
        ((Kept(HALF), Change(FULL, {})), "step gave a change whose mask is not that of the state"),
        ((Kept(HALF), Change(HALF, {"kept": np.ones(2)})), "step gave facts that a trace cannot keep"),
        ((Kept(FULL), Change(OF_BIAS, {})), "step pruned parameters from 4 on that cannot be"),
    ],
)
def test_a_step_whose_parts_do_not_go_together_is_refused(setup: Setup, step: Any, message: str) -> None:
    refused(message, watched(step=giving(step)).step, setup, Kept(FULL), SEEN, None)


def test_a_round_of_which_nothing_is_asked_changes_nothing(setup: Setup) -> None:
    method = watched(needs=giving(Needs.NOTHING), step=giving((Kept(HALF), Change(HALF, {}))))
    refused(
        "step changed the mask after a round of which nothing was asked",
        method.step,
        setup,
        Kept(FULL),
        SEEN,
        None,
    )


def test_a_step_gives_the_same_for_the_same(setup: Setup) -> None:
    numbers = iter(range(9))
    method = watched(step=lambda setup, state, seen, draw: (Kept(FULL, own=next(numbers)), None))
    refused("step gave another result for the same arguments", method.step, setup, Kept(FULL), SEEN, None)


@pytest.mark.parametrize("name", ["weights", "gradient", "importance", "votes"])
def test_what_a_step_sees_cannot_be_written_to(setup: Setup, name: str) -> None:
    def writing(setup: Setup, state: Kept, seen: Observation, draw: Any) -> Any:
        getattr(seen, name)[0] = 0

    seen = Observation(3, **{name: np.ones(6, np.float32)})
    refused("read-only", watched(step=writing).step, setup, Kept(FULL), seen, None)


@pytest.mark.parametrize("name", ["first_mask", "own_mask", "own_kept", "probe"])
def test_masks_must_fit_and_only_a_probe_may_be_none(setup: Setup, name: str) -> None:
    def given(mask: Any) -> Callable[..., Any]:
        return getattr(watched(**{name: giving(mask)}), name)

    def writing(setup: Setup, weights: np.ndarray) -> None:
        weights[0] = 0.0

    weights = np.ones(6, np.float32)
    assert given(HALF)(setup, weights) is HALF
    refused(f"{name} pruned parameters from 4 on", given(OF_BIAS), setup, weights)
    refused("read-only", getattr(watched(**{name: writing}), name), setup, weights)
    if name == "probe":
        assert given(None)(setup, weights) is None
    else:
        refused(f"{name} gave ", given(None), setup, weights)
    assert getattr(watched(), name) is None


def test_a_state_must_be_a_kind_of_state() -> None:
    with pytest.raises(
        PartError, match=r"state is <class 'dict'>; allowed: a subclass of fedmpi.pruning.State"
    ):
        watched(state=dict)
