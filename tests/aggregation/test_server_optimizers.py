"""Server optimizers: against the published programs and formulas, and their invariants."""

import json
from collections.abc import Callable
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.aggregation.interface import Aggregator, State
from fedmpi.aggregation.server_optimizers import fedadam, fedavgm, fedyogi

ADAPTIVE = {"fedadam": fedadam, "fedyogi": fedyogi}
SOURCES = [
    *(("fedadam", source) for source in ("paper", "google", "flower", "flsim")),
    *(("fedyogi", source) for source in ("paper", "google", "flower")),
    *(("fedavgm", source) for source in ("flower", "flsim")),
]
EVERY = [
    fedavgm(),
    fedavgm(learning_rate=0.3, momentum=0.0),
    fedadam(),
    fedadam(bias_correction=True),
    fedyogi(),
    fedyogi(learning_rate=0.5, beta1=0.0, tau=0.1, bias_correction=True),
]


def optimizer_of(run: dict[str, Any], step: int) -> Aggregator:
    """The optimizer of one step of a run; forms that are not options are put together here."""
    method, source = run["method"], run["source"]
    if method == "fedavgm":
        return fedavgm(run["eta"], run["momentum"])
    tau = run["tau"]
    if source == "flsim":  # torch's Adam adds tau to the square root after its bias is taken out
        tau *= sqrt(1 - run["beta2"] ** step)
    corrected = source in ("google", "flsim") or (method, source) == ("fedadam", "flower")
    return ADAPTIVE[method](run["eta"], run["beta1"], run["beta2"], tau, bias_correction=corrected)


def initial_state(run: dict[str, Any]) -> State:
    state = optimizer_of(run, 1).init(len(run["initial"]))
    if run["source"] == "flower" and run["method"] == "fedadam":
        state["t"] = 1  # that program counts from 2
    if run["source"] == "flower" and run["method"] == "fedyogi":
        state["v"][:] = 0.0
    return state


@pytest.mark.parametrize(("method", "source"), SOURCES)
def test_weights_equal_those_of_the_published_forms(method: str, source: str, golden_dir: Path) -> None:
    content = json.loads((golden_dir / "server_optimizers.json").read_text())
    runs = [run for run in content["runs"] if (run["method"], run["source"]) == (method, source)]
    assert len(runs) == 4
    for run in runs:
        weights, state = np.array(run["initial"]), initial_state(run)
        if source == "paper":
            np.testing.assert_allclose(state["v"], run["v0"], rtol=1e-12)
        for number, (difference, expected) in enumerate(
            zip(run["updates"], run["weights"], strict=True), start=1
        ):
            update = -np.array(difference)  # published differences are W_local - W_global
            state, change = optimizer_of(run, number).step(state, update, None)
            weights = weights - change
            np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-9)


def test_the_vectors_are_all_used(golden_dir: Path) -> None:
    content = json.loads((golden_dir / "server_optimizers.json").read_text())
    assert {(run["method"], run["source"]) for run in content["runs"]} == set(SOURCES)


means = st.lists(
    st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4), min_size=1, max_size=4
).map(lambda rows: np.array(rows, np.float32))


def stepped(optimizer: Aggregator, state: State, mean: np.ndarray, indices: np.ndarray | None = None):
    return optimizer.step(state, mean.copy(), indices)


def assert_same_state(one: State, other: State) -> None:
    assert one.keys() == other.keys()
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


@pytest.mark.parametrize("optimizer", EVERY)
@settings(max_examples=25)
@given(steps=means)
def test_a_step_is_odd_in_the_updates(optimizer: Aggregator, steps: np.ndarray) -> None:
    one, other = optimizer.init(4), optimizer.init(4)
    for mean in steps:
        one, change = stepped(optimizer, one, mean)
        other, opposite = stepped(optimizer, other, -mean)
        np.testing.assert_array_equal(change, -opposite)


@pytest.mark.parametrize("optimizer", EVERY)
@settings(max_examples=25)
@given(steps=means)
def test_all_coordinates_by_their_indices_are_all(optimizer: Aggregator, steps: np.ndarray) -> None:
    one, other = optimizer.init(4), optimizer.init(4)
    for mean in steps:
        one, change = stepped(optimizer, one, mean)
        other, by_indices = stepped(optimizer, other, mean, np.arange(4, dtype=np.int32))
        np.testing.assert_array_equal(change, by_indices)
        assert_same_state(one, other)


@pytest.mark.parametrize("optimizer", EVERY)
@settings(max_examples=25)
@given(steps=means, where=st.sets(st.integers(0, 3)).map(sorted))
def test_only_the_coordinates_that_arrived_move(
    optimizer: Aggregator, steps: np.ndarray, where: list[int]
) -> None:
    """They move as if there were no others; the state of the others stays, but for the number of the step."""
    indices = np.array(where, np.int32)
    whole, alone = optimizer.init(4), optimizer.init(len(where))
    whole, _ = stepped(optimizer, whole, steps[0])
    alone, _ = stepped(optimizer, alone, steps[0][indices])
    before = {name: np.array(value) for name, value in whole.items()}
    others = np.setdiff1d(np.arange(4), indices)
    for mean in steps:
        whole, change = stepped(optimizer, whole, mean[indices], indices)
        alone, expected = stepped(optimizer, alone, mean[indices])
        np.testing.assert_array_equal(change, expected)
    for name, value in whole.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value[others], before[name][others])
            np.testing.assert_array_equal(value[indices], alone[name])


@pytest.mark.parametrize("optimizer", EVERY)
def test_long_vectors_are_stepped_like_short_ones(optimizer: Aggregator) -> None:
    """Also with indices, across the blocks in which coordinates are taken."""
    draw = np.random.default_rng(1)
    mean = draw.standard_normal(30_001).astype(np.float32)
    kept = np.flatnonzero(draw.random(30_001) < 0.7).astype(np.int32)
    state, sparse = optimizer.init(mean.size), optimizer.init(mean.size)
    pieces = [optimizer.init(piece.size) for piece in np.array_split(mean, 17)]
    for _ in range(2):
        state, change = stepped(optimizer, state, mean)
        sparse, sparse_change = stepped(optimizer, sparse, mean[kept], kept)
        expected = []
        for number, piece in enumerate(np.array_split(mean, 17)):
            pieces[number], part = stepped(optimizer, pieces[number], piece)
            expected.append(part)
        np.testing.assert_array_equal(change, np.concatenate(expected))
        np.testing.assert_array_equal(sparse_change, change[kept])
    assert change.dtype == np.float32


@pytest.mark.parametrize("make", [fedadam, fedyogi])
def test_tiny_updates_move_the_model(make: Callable[..., Aggregator]) -> None:
    """Their squares are no float32 any more, but with a small tau their signs are what counts."""
    optimizer = make(learning_rate=1.0, tau=1e-32, bias_correction=True)
    _, change = optimizer.step(optimizer.init(2), np.array([1e-30, -1e-30], np.float32), None)
    np.testing.assert_allclose(change, [1 / 1.1, -1 / 1.1], rtol=1e-5)


@pytest.mark.parametrize("make", [fedadam, fedyogi])
def test_without_any_update_nothing_moves(make: Callable[..., Aggregator]) -> None:
    optimizer = make()
    state = optimizer.init(3)
    state["v"][0] = 0.0  # as of a pruned parameter that is active again
    _, change = optimizer.step(state, np.zeros(3, np.float32), None)
    np.testing.assert_array_equal(change, np.zeros(3))


@pytest.mark.parametrize(
    ("make", "options", "message"),
    [
        (fedavgm, {"learning_rate": 0.0}, r"learning_rate is 0.0; allowed: a finite number above 0"),
        (fedavgm, {"learning_rate": float("inf")}, "learning_rate is inf"),
        (fedavgm, {"momentum": 1.0}, r"momentum is 1.0; allowed: a number from 0 to below 1"),
        (fedavgm, {"momentum": -0.1}, "momentum is -0.1"),
        (fedadam, {"learning_rate": float("nan")}, "learning_rate is nan"),
        (fedadam, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (fedyogi, {"learning_rate": float("inf")}, "learning_rate is inf"),
        (fedadam, {"beta1": 1.0}, "beta1 is 1.0"),
        (fedadam, {"beta2": -1.0}, "beta2 is -1.0"),
        (fedyogi, {"beta2": 1.0}, "beta2 is 1.0"),
        (fedyogi, {"tau": 0.0}, r"tau is 0.0; allowed: a finite number above 0"),
        (fedadam, {"tau": float("inf")}, "tau is inf"),
    ],
)
def test_options_out_of_their_range_are_refused(
    make: Callable[..., Aggregator], options: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**options)
