"""What all pruning methods have in common: what they announce, and what goes wrong with what they ask for."""

from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest

from fedmpi.config import parts
from fedmpi.pruning import BUILT_IN, NONE, Mask, Method, Needs, Observation, Setup, State
from fedmpi.pruning.interface import required

ANNOUNCED = {
    "none": set(),
    "prunefl": {"importance", "adapts_interval", "time_by_parameter", "by_time", "starts_pruned"},
    "snip": {"by_gradient", "needs_target_density"},
    "iterative": {"needs_target_density"},
    "online": {"by_time"},
    "fedtiny": {"importance", "needs_target_density", "signed_gradient"},
    "feddst": {"needs_target_density"},
    "lottery_reinit": {"takes_ticket"},
    "lottery_random": {"takes_ticket"},
}


@pytest.mark.parametrize("name", BUILT_IN)
def test_what_each_method_announces(name: str) -> None:
    method = parts.build("pruning.method", name, {}, Method)
    flags = {field.name for field in fields(Method) if getattr(method, field.name) is True}
    assert flags == ANNOUNCED[name]


def test_methods_announce_nothing_by_themselves() -> None:
    plain = Method(summary="mine", init=NONE.init, needs=NONE.needs, step=NONE.step)
    assert replace(plain, changes="never", summary=NONE.summary) == NONE
    assert (plain.changes, plain.state, plain.source) == ("every", State, "")


def test_without_pruning_nothing_is_asked_for_and_the_mask_stays(setup_of: Callable[..., Setup]) -> None:
    setup, mask = setup_of([3]), Mask.of(np.array([True, False, True]))
    state = NONE.init(setup, mask)
    assert state == State(mask)
    assert NONE.needs(setup, state, 5) is Needs.NOTHING
    assert NONE.step(setup, state, Observation(5), lambda: 0.5) == (state, None)


def test_a_setup_knows_the_prunable_layers(setup_of: Callable[..., Setup]) -> None:
    setup = setup_of([3, -2, 5], target_density=0.25)
    assert [(layer.start, layer.stop) for layer in setup.prunable] == [(0, 3), (5, 10)]
    assert setup.sizes.tolist() == [3, 5]
    assert setup.shapes == [(3,), (5,)]
    assert setup.density() == 0.25
    with pytest.raises(ValueError, match=r"target_density is not set; pruning.method = snip needs"):
        setup_of([3], method="snip").density()


def test_what_a_method_asked_for_must_be_there() -> None:
    assert required(0, "importance", "mine") == 0
    with pytest.raises(ValueError, match="mine did not get the importance of the round, which it asked for"):
        required(None, "importance", "mine")


def test_masks_of_clients_do_not_go_with_importance() -> None:
    with pytest.raises(ValueError, match="importance or gives clients masks of their own, not both"):
        replace(NONE, importance=True, own_mask=lambda *arguments: Mask(3))
    replace(NONE, by_gradient=True, own_mask=lambda *arguments: Mask(3))
