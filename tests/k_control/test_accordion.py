"""Accordion: the decisions of its authors' program, and k as the sum over layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fedmpi.k_control import Observation, Setup
from fedmpi.k_control.accordion import accordion, regimes
from fedmpi.testing import check_k_control

RUNS = json.loads((Path(__file__).parents[1] / "golden" / "accordion.json").read_text())["runs"]


def no_draw() -> float:
    raise AssertionError("accordion draws nothing")


@pytest.mark.parametrize("run", RUNS, ids=lambda run: f"every{run['interval']}")
def test_decisions_are_those_of_the_authors_program(run: dict[str, Any]) -> None:
    low, high = run["k_fraction_low"], run["k_fraction_high"]
    controller = accordion(low, high, run["interval"], run["threshold"], start_high=run["start"] == high)
    size = 100_000
    setup = Setup(1, size * run["layers"], 1, layer_sizes=(size,) * run["layers"])
    state = controller.init(setup, no_draw)
    for step in run["steps"]:
        assert [high if critical else low for critical in state.critical] == step["used"]
        assert state.k == sum(int(fraction * size) for fraction in step["used"])
        seen = Observation(
            1.0,
            update_norms=tuple(step["norms"]),
            learning_rate_falls=step["learning_rate_falls_after"],
        )
        state = controller.step(state, seen, no_draw)
        assert [high if critical else low for critical in state.critical] == step["next"]


def test_a_change_by_exactly_the_threshold_is_critical() -> None:
    assert regimes([1.0, 1.0, 1.0, 0.0], [0.5, 1.5, 1.4, 0.0], 0.5) == (True, True, False, True)
    assert regimes([], [1.0, 0.0], 0.5) == (True, True)


@pytest.mark.parametrize(
    ("k_min", "shares"),
    [(1, (10, 9, 2)), (21, (10, 9, 2)), (30, (19, 9, 2)), (119, (105, 9, 5)), (134, (105, 9, 20))],
)
def test_layers_send_their_share_and_biases_all(k_min: int, shares: tuple[int, ...]) -> None:
    controller = accordion(low=0.1, high=0.5, start_high=False)
    assert controller.layer_k is not None
    setup = Setup(k_min, 134, 134, layer_sizes=(105, 9, 20), layer_compressed=(True, False, True))
    state = controller.init(setup, no_draw)
    assert controller.layer_k(state) == shares
    assert state.k == sum(shares)
    falls = controller.step(state, Observation(1.0, learning_rate_falls=True), no_draw)
    assert controller.layer_k(falls)[1:] == (9, max(10, shares[2]))


def test_a_round_without_an_update_decides_nothing() -> None:
    controller = accordion(interval=1)
    setup = Setup(1, 200, 1, layer_sizes=(100, 100))
    state = controller.init(setup, no_draw)
    for norms in ((1.0, 1.0), (1.1, 3.0)):
        state = controller.step(state, Observation(1.0, update_norms=norms), no_draw)
    assert state.critical == (False, True)
    idle = controller.step(state, Observation(1.0), no_draw)
    assert (idle.critical, idle.norms, idle.k) == (state.critical, state.norms, state.k)


@pytest.mark.parametrize("options", [{}, {"low": 0.01, "high": 1.0, "interval": 2, "start_high": False}])
def test_the_controller_keeps_its_bounds(options: dict[str, Any]) -> None:
    check_k_control(accordion(**options))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"low": 0.0}, "low is 0.0 and high is 0.99"),
        ({"low": 0.5, "high": 0.4}, "low is 0.5 and high is 0.4"),
        ({"interval": 0}, "interval is 0, allowed are numbers from 1 on"),
        ({"threshold": 0.0}, "threshold is 0.0, allowed are numbers above 0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        accordion(**options)


def test_what_is_not_said_is_as_published() -> None:
    """A tenth or 99 % of a layer, decided every tenth round by a change of half; all of it at first."""
    setup = Setup(1, 2000, 1, layer_sizes=(1000, 1000))
    controller = accordion()
    state = controller.init(setup, no_draw)
    assert (state.k, state.k_probe) == (1980, 0)
    found = []
    for norms in [(4.0, 4.0)] * 10 + [(2.0, 2.1)] * 10:
        state = controller.step(state, Observation(1.0, update_norms=norms), no_draw)
        found.append(state.k)
    assert found == [1980] * 10 + [990 + 100] * 10


def test_a_model_without_layers_is_one() -> None:
    controller = accordion(low=0.5, high=0.5)
    assert controller.init(Setup(1, 200, 1), no_draw).k == 100


def test_it_asks_for_updates_and_for_no_losses() -> None:
    controller = accordion()
    assert controller.measures_update
    assert not controller.measures_losses
    assert not controller.by_time


def test_a_part_above_the_whole_is_refused() -> None:
    with pytest.raises(ValueError, match=r"low is 0\.1 and high is 1\.01"):
        accordion(high=1.01)
