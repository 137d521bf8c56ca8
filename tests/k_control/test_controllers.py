"""Controllers of k: against the authors' vectors, and what all of them keep to."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import parts
from fedmpi.k_control import BUILT_IN, Controller, Observation, Setup
from fedmpi.k_control.exp3 import arm_values, probabilities

CONTROLLERS = {name: parts.build("k_control.method", name, {}, Controller) for name in BUILT_IN}


@pytest.fixture(scope="module")
def golden(golden_dir: Path) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = json.loads((golden_dir / "k_control.json").read_text())
    return found


@pytest.mark.parametrize(("method", "name"), [("ogd_sign", "sign"), ("ogd_value", "value")])
def test_descent_equals_the_published_program(golden: dict[str, Any], method: str, name: str) -> None:
    controller = CONTROLLERS[method]
    for run in golden[name]:
        draw = lambda uniform=run["uniform_draw"]: uniform  # noqa: E731
        state: Any = controller.init(Setup(run["k_min"], run["k_max"], run["k_initial"]), draw)
        assert state.k_probe == run["k_probe_initial"]
        for step in run["steps"]:
            assert (state.round_number, state.k, state.k_probe) == (step["round"], step["k"], step["k_probe"])
            state = controller.step(state, Observation(step["cost"], step["cost_probe"]), draw)
            assert (state.k, state.k_probe) == (step["next_k"], step["next_k_probe"])
            assert (state.k_min, state.k_max) == (step["k_min"], step["k_max"])


def test_exp3_equals_the_published_program(golden: dict[str, Any]) -> None:
    controller = CONTROLLERS["exp3"]
    for run in golden["exp3"]:
        draw = iter(run["uniforms"]).__next__
        choices = run["choices"]
        setup = Setup(choices[0], choices[-1], choices[0], run["horizon"])
        state: Any = controller.init(setup, draw)
        assert arm_values(state.k_min, state.k_max, state.arms).tolist() == choices
        assert state.gamma == pytest.approx(run["gamma"])
        assert state.k == run["first_choice"]
        for step in run["steps"]:
            assert state.k == step["choice"]
            state = controller.step(state, Observation(1.0, None, step["reward"], 0.0), draw)
            assert state.k == step["next_choice"]
            if "probabilities" in step:
                np.testing.assert_allclose(probabilities(state), step["probabilities"], rtol=1e-9)


def test_continuous_bandit_equals_the_published_program(golden: dict[str, Any]) -> None:
    controller = CONTROLLERS["continuous_bandit"]
    for run in golden["continuous_bandit"]:
        directions = iter(run["direction_uniforms"])

        def both(rounding: float = run["rounding_uniform"], after: Iterator[float] = directions) -> Any:
            """The draws of a step with a cost: the direction, then the rounding."""
            return iter((next(after), rounding)).__next__

        state: Any = controller.init(Setup(run["k_min"], run["k_max"], run["k_min"], run["horizon"]), both())
        assert state.action == pytest.approx(run["first_action"])
        assert (state.direction, state.k) == (run["first_direction"], run["first_k"])
        for step in run["steps"]:
            assert state.k == step["k"]
            if step["cost"] is None:
                observation, draw = Observation(1.0, None, 1.0, 1.0), lambda: 0.5
            else:
                observation, draw = Observation(step["cost"], None, 1.0, 0.0), both()
            state = controller.step(state, observation, draw)
            assert (state.k, state.direction) == (step["next_k"], step["direction"])
            assert state.action == pytest.approx(step["action"], rel=1e-12)


@st.composite
def setups(draw: st.DrawFn) -> Setup:
    k_min, k_initial, k_max = sorted(draw(st.lists(st.integers(1, 3000), min_size=3, max_size=3)))
    return Setup(k_min, k_max, k_initial, draw(st.integers(1, 6000)), draw(st.sampled_from([0, 1, 7, 40])))


LOSSES = st.one_of(st.none(), st.floats(0, 5))
OBSERVATIONS = st.builds(
    Observation, st.floats(0.1, 50), st.one_of(st.none(), st.floats(0, 100)), loss_prev=LOSSES, loss=LOSSES
)


@pytest.mark.parametrize("method", CONTROLLERS)
@given(
    setup=setups(),
    observations=st.lists(OBSERVATIONS, min_size=1, max_size=60),
    seed=st.integers(0, 2**32 - 1),
)
def test_k_stays_within_bounds_and_a_state_survives_json(
    method: str, setup: Setup, observations: list[Observation], seed: int
) -> None:
    controller = CONTROLLERS[method]
    rng = np.random.default_rng(seed)
    state = controller.init(setup, rng.random)
    for observation in observations:
        assert setup.k_min <= state.k <= setup.k_max
        assert 0 <= state.k_probe < state.k
        assert type(state) is controller.state
        restored = controller.state.from_dict(json.loads(json.dumps(state.to_dict())))
        assert restored == state
        seen = observation if state.k_probe else replace(observation, cost_probe=None)
        state = controller.step(restored, seen, rng.random)


@pytest.mark.parametrize("method", CONTROLLERS)
def test_the_same_draws_give_the_same_run(method: str) -> None:
    controller = CONTROLLERS[method]

    def run() -> list[int]:
        rng = np.random.default_rng(8)
        state = controller.init(Setup(5, 900, 450, 100), rng.random)
        found = []
        for _ in range(50):
            cost = 1 + state.k / 100
            cost_probe = 1 + state.k_probe / 90 if state.k_probe else None
            state = controller.step(state, Observation(cost, cost_probe, 1.0, 0.9), rng.random)
            found.append(state.k)
        return found

    assert run() == run()


def test_a_state_of_other_keys_is_refused() -> None:
    state = CONTROLLERS["ogd_value"].init(Setup(1, 9, 5), lambda: 0.5)
    with pytest.raises(ValueError, match=r"ogd_sign keeps .*window.*found .*slope"):
        CONTROLLERS["ogd_sign"].state.from_dict(state.to_dict())


def test_fixed_keeps_k_and_never_draws() -> None:
    controller = CONTROLLERS["fixed"]
    draw = iter(()).__next__
    state = controller.init(Setup(3, 9, 4), draw)
    assert (state.k, state.k_probe) == (4, 0)
    assert controller.step(state, Observation(1.0), draw) == state


@pytest.mark.parametrize("method", ["ogd_sign", "ogd_value"])
def test_k_grows_after_more_than_ten_rounds_running_without_an_estimate(method: str) -> None:
    controller = CONTROLLERS[method]
    state: Any = controller.init(Setup(10, 5000, 100), lambda: 0.5)
    for _ in range(10):
        state = controller.step(state, Observation(1.0), lambda: 0.5)
        assert state.k == 100
    step = round((5000 - 10) / np.sqrt(2 * state.round_number))
    state = controller.step(state, Observation(1.0), lambda: 0.5)
    assert state.k == 100 + step
    state = controller.step(state, Observation(2.0, 1.0), lambda: 0.5)
    before = state.k
    assert controller.step(state, Observation(1.0), lambda: 0.5).k == before


@pytest.mark.parametrize("method", ["ogd_sign", "ogd_value"])
def test_descent_finds_the_cheapest_k(method: str) -> None:
    controller = CONTROLLERS[method]
    rng = np.random.default_rng(2)

    def cost(k: int) -> float:
        return 1000 * (k / 2000 + 500 / k)  # least at k = 1000

    state = controller.init(Setup(10, 5000, 2500), rng.random)
    for _ in range(400):
        probe = cost(state.k_probe) if state.k_probe else None
        state = controller.step(state, Observation(cost(state.k), probe), rng.random)
    assert 700 < state.k < 1400


def test_exp3_comes_to_prefer_the_best_arm() -> None:
    rng = np.random.default_rng(3)
    controller = CONTROLLERS["exp3"]
    state: Any = controller.init(Setup(10, 100, 10, horizon_rounds=3000, arms=5), rng.random)
    best = int(arm_values(10, 100, 5)[3])
    for _ in range(3000):
        decrease = 1.0 if state.k == best else 0.1
        state = controller.step(state, Observation(1.0, None, decrease, 0.0), rng.random)
    assert int(np.argmax(probabilities(state))) == 3
    assert probabilities(state).sum() == pytest.approx(1)


def test_exp3_stays_finite_under_enormous_rewards() -> None:
    rng = np.random.default_rng(3)
    controller = CONTROLLERS["exp3"]
    state: Any = controller.init(Setup(1, 4, 1), rng.random)
    for _ in range(50):
        state = controller.step(state, Observation(1e-9, None, 1.0, 0.0), rng.random)
    assert np.isfinite(probabilities(state)).all()


def test_arms_on_a_grid_hold_both_ends_once() -> None:
    arms = arm_values(888, 444062, 64)
    assert (arms[0], arms[-1], arms.size) == (888, 444062, 64)
    assert (np.diff(arms) > 0).all()
    assert arm_values(1, 5, 50).tolist() == [1, 2, 3, 4, 5]


def test_bounds_of_the_published_experiments() -> None:
    assert Setup.for_dimension(444062) == Setup(888, 444062, 222031, 5780) == Setup(888, 444062, 222031)
    assert Setup.for_dimension(100).k_min == 1


@pytest.mark.parametrize("bounds", [(0, 5, 3), (4, 5, 3), (1, 5, 6)])
def test_bounds_that_k_cannot_keep_are_refused(bounds: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="k starts at"):
        Setup(*bounds)
    with pytest.raises(ValueError, match="horizon_rounds is 0"):
        Setup(1, 2, 1, horizon_rounds=0)


@pytest.mark.parametrize("name", CONTROLLERS)
def test_states_of_other_types_are_refused(name: str) -> None:
    controller = CONTROLLERS[name]
    sizes = {"layer_sizes": (6, 3), "layer_compressed": (True, False)}
    state = controller.init(Setup(2, 9, 5, arms=3, **sizes), lambda: 0.5).to_dict()
    assert controller.state.from_dict(state).to_dict() == state
    for field, value in state.items():
        for wrong in ("x", None, {}, [["x"]], 2**70):
            with pytest.raises(ValueError, match=rf"^{field} is "):
                controller.state.from_dict({**state, field: wrong})
        if isinstance(value, list):
            with pytest.raises(ValueError, match=rf"^{field} is "):
                controller.state.from_dict({**state, field: 3})
    for k, k_probe in ((0, 0), (-1, 0), (3, 3), (3, -1)):
        with pytest.raises(ValueError, match="expected is 0 <= k_probe < k"):
            controller.state.from_dict({**state, "k": k, "k_probe": k_probe})
    if "k_max" in state:
        for k_min in (0, 10):
            with pytest.raises(ValueError, match=f"k_min is {k_min} and k_max 9"):
                controller.state.from_dict({**state, "k_min": k_min, "k_max": 9})
