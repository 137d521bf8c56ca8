"""The checks accept every built-in part, and find each kind of fault in parts that were broken on purpose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from fedmpi import k_control, pruning
from fedmpi.config import parts
from fedmpi.k_control import Controller
from fedmpi.numerics.topk import top_k
from fedmpi.pruning import Change, Mask, Needs
from fedmpi.pruning.interface import Method
from fedmpi.sparsification import Selection, SparseMethod, union_of
from fedmpi.testing import check_k_control, check_pruning, check_sparsification


@pytest.mark.parametrize("name", k_control.BUILT_IN)
def test_controllers_pass(name: str) -> None:
    check_k_control(parts.build("k_control.method", name, {}, Controller))


@pytest.mark.parametrize("name", pruning.BUILT_IN)
def test_pruning_methods_pass(name: str) -> None:
    check_pruning(parts.build("pruning.method", name, {}, Method))


def select_all(uploads: Any, k: int) -> Selection:
    return union_of(uploads)


def unused(uploads: Any, k: int) -> Selection:
    selection = union_of(uploads)
    return replace(selection, used=np.zeros_like(selection.used))


def unsent(uploads: Any, k: int) -> Selection:
    everything = np.arange(uploads.dimension, dtype=np.int32)
    return Selection(everything, np.zeros(uploads.dimension), union_of(uploads).used)


def infinite(uploads: Any, k: int) -> Selection:
    selection = union_of(uploads)
    return replace(selection, values=np.full(len(selection.indices), np.inf))


_STATE = np.random.default_rng(1)

BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "int64": ({"choose": lambda a, k, c: top_k(a, k).astype(np.int64)}, "not int32"),
    "falling": ({"choose": lambda a, k, c: top_k(a, min(a.size, 3))[::-1]}, "do not rise"),
    "outside": ({"choose": lambda a, k, c: np.array([a.size], np.int32)}, "out of range"),
    "moody": (
        {"choose": lambda a, k, c: np.sort(_STATE.permutation(a.size)[: a.size // 2]).astype(np.int32)},
        "differs when it is made again",
    ),
    "unused": ({"select": unused}, "confirm_used must be set"),
    "unsent": ({"select": unsent}, "that nobody sent"),
    "infinite": ({"select": infinite}, "not finite"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_method_is_found(name: str) -> None:
    changes, message = BROKEN[name]
    sound = SparseMethod(summary="all", select=select_all, at_most_k_down=False)
    check_sparsification(sound)
    with pytest.raises(AssertionError, match=message):
        check_sparsification(replace(sound, **changes))


def test_a_choice_that_changes_its_argument_is_found() -> None:
    def spoil(accumulated: np.ndarray, k: int, choice: Any) -> np.ndarray:
        accumulated[:] = 0.0
        return np.arange(min(k, accumulated.size), dtype=np.int32)

    with pytest.raises(AssertionError, match="changed its argument"):
        check_sparsification(
            SparseMethod(summary="spoils", select=select_all, choose=spoil, at_most_k_down=False)
        )


@dataclass(frozen=True)
class Wild(k_control.State):
    """Keeps nothing more."""


CONTROLLERS: dict[str, tuple[Callable[..., Any], str]] = {
    "beyond": (lambda state, seen, draw: Wild(state.k + 10_000, 0), "allowed"),
    "probe": (lambda state, seen, draw: Wild(state.k, state.k), "k_probe is"),
    "type": (lambda state, seen, draw: k_control.State(state.k, 0), "announced is"),
    "moody": (lambda state, seen, draw: Wild(state.k, int(_STATE.random() * state.k)), "same draws"),
}


@pytest.mark.parametrize("name", CONTROLLERS)
def test_a_broken_controller_is_found(name: str) -> None:
    step, message = CONTROLLERS[name]
    with pytest.raises(AssertionError, match=message):
        check_k_control(
            Controller(summary=name, init=lambda setup, draw: Wild(setup.k_initial, 0), step=step, state=Wild)
        )


def _broken_pruning(step: Callable[..., Any], needs: Needs = Needs.WEIGHTS) -> Method:
    return replace(pruning.NONE, needs=lambda setup, state, index: needs, step=step)


def _pruned(state: Any, count: int) -> Any:
    flags = np.ones(state.mask.dimension, np.bool_)
    flags[:count] = False
    return replace(state, mask=Mask.of(flags))


PRUNINGS: dict[str, tuple[Method, str]] = {
    "silent": (_broken_pruning(lambda s, state, o, d: (_pruned(state, 3), None)), "without a change"),
    "unprunable": (
        _broken_pruning(lambda s, state, o, d: (_pruned(state, 42), Change(_pruned(state, 42).mask, {}))),
        "that cannot be",
    ),
    "other mask": (
        _broken_pruning(lambda s, state, o, d: (_pruned(state, 3), Change(_pruned(state, 4).mask, {}))),
        "not that of the state",
    ),
    "unasked": (
        _broken_pruning(
            lambda s, state, o, d: (_pruned(state, 3), Change(_pruned(state, 3).mask, {})), Needs.NOTHING
        ),
        "nothing was asked",
    ),
}


def _voting(own_mask: Any) -> Method:
    broken = _broken_pruning(lambda s, state, o, d: (state, None), Needs.VOTES)
    return replace(broken, own_mask=own_mask)


def _spoiling(setup: Any, index: int, weights: np.ndarray, gradient: np.ndarray, mask: Mask) -> Mask:
    gradient[3] = 0.0
    return mask


PRUNINGS |= {
    "votes": (_voting(None), "without an own_mask"),
    "spoiling": (_voting(_spoiling), "changed what it was given"),
    "own mask": (
        _voting(lambda s, i, w, g, mask: Mask.of(np.arange(110) != 41)),
        "that cannot be",
    ),
    "first mask": (
        replace(pruning.NONE, first_mask=lambda setup, weights: Mask.of(np.arange(110) != 41)),
        "that cannot be",
    ),
}


@pytest.mark.parametrize("name", PRUNINGS)
def test_a_broken_pruning_method_is_found(name: str) -> None:
    method, message = PRUNINGS[name]
    with pytest.raises(AssertionError, match=message):
        check_pruning(method)
