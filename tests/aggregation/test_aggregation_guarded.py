"""A user's aggregator under watch: what keeps to the rules goes through unchanged, each fault is one line."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedmpi.aggregation import Aggregator
from fedmpi.aggregation.guarded import guarded
from fedmpi.aggregation.server_optimizers import fedadam
from fedmpi.config.guarding import Guard, PartError

MEAN = np.array([1.0, -2.0, 3.0, 0.5], np.float32)
SOME = np.array([0, 2], np.int32)


def watched(**functions: Any) -> Aggregator:
    """An aggregator that keeps the sum of the means as m, but for the ``functions`` that are given."""

    def step(state: Any, mean: np.ndarray, indices: np.ndarray | None) -> Any:
        state["m"][slice(None) if indices is None else indices] += mean
        return state, mean

    given = {"init": lambda count: {"m": np.zeros(count)}, "step": step, "bytes_per_parameter": 8}
    return guarded(
        Aggregator(summary="mine", **{**given, **functions}), Guard("federation.aggregator", "mine:X")
    )


def refused(message: str, call: Callable[[], Any]) -> None:
    with pytest.raises(PartError, match=re.escape(message)) as caught:
        call()
    assert str(caught.value).startswith('[federation] aggregator: "mine:X": ')
    assert "\n" not in str(caught.value)


def test_what_keeps_to_the_rules_is_as_without_watch() -> None:
    plain, under_watch = fedadam(), guarded(fedadam(), Guard("federation.aggregator", "mine:X"))
    states = [plain.init(4), under_watch.init(4)]
    for indices in (None, SOME, None, SOME):
        mean = MEAN if indices is None else MEAN[indices]
        (states[0], one), (states[1], other) = (
            aggregator.step(state, mean.copy(), indices)
            for aggregator, state in zip((plain, under_watch), states, strict=True)
        )
        np.testing.assert_array_equal(one, other)
        assert states[0].keys() == states[1].keys()
        for name, value in states[0].items():
            np.testing.assert_array_equal(states[1][name], value)


def test_an_aggregator_without_functions_keeps_to_the_mean() -> None:
    plain = guarded(Aggregator(summary="mine"), Guard("federation.aggregator", "mine:X"))
    assert plain.is_mean
    assert plain.init(3) == {}


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"m": np.zeros(3)}, "gave state m as float64 of shape (3,); allowed: numbers of shape (4,)"),
        ({"m": np.zeros((4, 1))}, "gave state m as float64 of shape (4, 1); allowed: numbers of shape (4,)"),
        ({"m": np.zeros(())}, "gave state m as float64 of shape (); allowed: numbers of shape (4,)"),
        (
            {"m": np.zeros(4, complex)},
            "gave state m as complex128 of shape (4,); allowed: numbers of shape (4,)",
        ),
        ({"m": "zero"}, "gave state m = str; allowed: arrays (D,) and plain numbers"),
        ([], "gave a list; allowed: a builtins.dict"),
        (
            {"m": np.zeros(4), "v": np.zeros(4, np.float32)},
            "gave a state of 12 bytes for each parameter; allowed: bytes_per_parameter, which is 8; it must be 12",
        ),
    ],
)
def test_states_that_cannot_be_kept_are_refused(state: Any, message: str) -> None:
    refused(f"init {message}", lambda: watched(init=lambda count: state).init(4))


def test_numbers_and_arrays_of_any_numbers_are_kept() -> None:
    state = {"t": 3, "on": True, "rate": 0.5, "n": np.zeros(4, np.int32), "seen": np.zeros(4, np.bool_)}
    assert watched(init=lambda count: state).init(4) == state


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda s, m, i: m, "gave float32 of shape"),
        (lambda s, m, i: (s, m[:1]), "gave the change as float32 of shape (1,)"),
        (lambda s, m, i: (s, m * np.inf), "gave the change with inf at 0"),
        (lambda s, m, i: ([], m), "gave a list; allowed: a builtins.dict"),
        (lambda s, m, i: ({}, m), "gave a state of nothing; allowed: that of m"),
        (lambda s, m, i: ({**s, "a": 1}, m), "gave a state of a, m; allowed: that of m"),
        (
            lambda s, m, i: ({"m": s["m"][1:]}, m),
            "gave state m as float64 of shape (3,); allowed: numbers of shape (4,)",
        ),
        (lambda s, m, i: ({"m": "none"}, m), "gave state m = str"),
        (lambda s, m, i: (s, m // 0), "failed: "),
    ],
)
@pytest.mark.parametrize("indices", [None, SOME])
@pytest.mark.parametrize("sound_before", [0, 2])
def test_steps_that_break_a_rule_are_refused(
    step: Any, message: str, indices: np.ndarray | None, sound_before: int
) -> None:
    """In the first step, and in any later one."""
    steps = 0

    def turning(state: Any, mean: np.ndarray, indices: np.ndarray | None) -> Any:
        nonlocal steps
        steps += 1
        return step(state, mean, indices) if steps > sound_before + bool(sound_before) else (state, mean)

    with np.errstate(all="raise"):
        aggregator = watched(step=turning)
        state = aggregator.init(4)
        mean = MEAN if indices is None else MEAN[indices]
        for _ in range(sound_before):
            state, _ = aggregator.step(state, mean.copy(), indices)
        refused(f"step {message}", lambda: aggregator.step(state, mean.copy(), indices))


def test_a_key_that_a_later_step_adds_in_place_is_refused() -> None:
    def adding(state: Any, mean: np.ndarray, indices: np.ndarray | None) -> Any:
        state["m"] += 1.0
        if state["m"][0] > 1.0:
            state["new"] = 1
        return state, mean

    aggregator = watched(step=adding)
    state, _ = aggregator.step(aggregator.init(4), MEAN.copy(), None)
    refused(
        "step gave a state of m, new; allowed: that of m", lambda: aggregator.step(state, MEAN.copy(), None)
    )


def test_a_step_that_remembers_elsewhere_is_refused() -> None:
    kept = []

    def hoarding(state: Any, mean: np.ndarray, indices: np.ndarray | None) -> Any:
        kept.append(mean)
        return state, np.float32(len(kept)) * mean

    aggregator = watched(step=hoarding)
    refused("gave another result", lambda: aggregator.step(aggregator.init(4), MEAN.copy(), None))


@pytest.mark.parametrize("whole_before", [0, 1, 3])
def test_what_moves_where_nothing_arrived_is_found_in_the_first_step_of_some(whole_before: int) -> None:
    """However many steps of all coordinates came before, as those do that are only tried."""
    aggregator = watched(step=lambda s, m, i: ({"m": s["m"] + 1}, m))
    state = aggregator.init(4)
    for _ in range(whole_before):
        state, _ = aggregator.step(state, MEAN.copy(), None)
    refused(
        "step changed state m at coordinates of which nothing arrived; allowed: changes at indices alone, or",
        lambda: aggregator.step(state, MEAN[SOME], SOME),
    )


def test_numbers_may_change_where_some_arrived() -> None:
    aggregator = watched(
        init=lambda count: {"t": 0, "m": np.zeros(count)}, step=lambda s, m, i: ({**s, "t": s["t"] + 1}, m)
    )
    state, change = aggregator.step(aggregator.init(4), MEAN[SOME], SOME)
    assert state["t"] == 1
    np.testing.assert_array_equal(change, MEAN[SOME])


UPDATES = np.arange(12, dtype=np.float32).reshape(3, 4)
SAMPLES = np.array([1, 2, 3])


def test_what_is_combined_is_float32_and_the_users_own() -> None:
    combine = watched(combine=lambda u, n: (u * n[:, None]).sum(axis=0) / n.sum()).combine
    assert combine is not None
    for _ in range(2):
        found = combine(UPDATES, SAMPLES)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.average(UPDATES, axis=0, weights=SAMPLES), rtol=1e-6)


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        (
            lambda u, n: u,
            "gave its result as float32 of shape (3, 4); allowed: floating-point numbers of shape (4,)",
        ),
        (lambda u, n: u[:, 0], "gave its result as float32 of shape (3,); allowed: floating-point numbers"),
        (lambda u, n: u[0].astype(int), "gave its result as int64 of shape (4,)"),
        (lambda u, n: np.where(u[0] == 2, np.nan, u[0]), "gave its result with nan at 2"),
        (lambda u, n: u.sort(), "failed: ValueError"),
        (lambda u, n: n.sort(), "failed: ValueError"),
    ],
)
def test_combinations_that_break_a_rule_are_refused(combine: Any, message: str) -> None:
    made = watched(combine=combine).combine
    assert made is not None
    refused(f"combine {message}", lambda: made(UPDATES, SAMPLES))


def test_a_combination_that_differs_from_call_to_call_is_refused() -> None:
    calls = []

    def counting(updates: np.ndarray, samples: np.ndarray) -> np.ndarray:
        calls.append(1)
        return updates[0] * np.float32(len(calls))

    combine = watched(combine=counting).combine
    assert combine is not None
    refused("combine gave another result for the same arguments", lambda: combine(UPDATES, SAMPLES))
