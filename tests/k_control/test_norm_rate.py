"""The controller by the rate of the norm: its rule against a search over all k, and what changes nothing."""

from __future__ import annotations

from dataclasses import replace
from math import exp, inf, log
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.k_control import Magnitudes, Observation, Setup
from fedmpi.k_control.norm_rate import best_k, candidates, energy_at, norm_rate
from fedmpi.testing.controllers import check_k_control

COUNTS = np.unique(np.rint(np.geomspace(2, 1000, 30)).astype(np.int64))


def never() -> float:
    raise AssertionError("a draw was taken")


def magnitudes(exponent: float, fixed_s: float, each_s: float, most_s: float = inf) -> Magnitudes:
    """Energies c^exponent, and rounds of ``fixed_s`` and ``each_s`` for each entry."""
    return Magnitudes(COUNTS, COUNTS**exponent, lambda k: fixed_s + each_s * k, most_s)


def after(controller: Any, state: Any, seen: Magnitudes | None) -> Any:
    return controller.step(state, Observation(1.0, magnitudes=seen), never)


@given(st.floats(0.05, 1.0), st.floats(0.1, 100.0), st.floats(0.001, 1.0), st.sampled_from([0.5, 1.0, 2.0]))
def test_the_best_of_all_k(exponent: float, fixed_s: float, each_s: float, power: float) -> None:
    """For norms k^(exponent / 2) and rounds of a + b k seconds calculus knows the best k."""
    controller = norm_rate(power, smoothing=0.0)
    state = after(
        controller, controller.init(Setup(2, 1000, 500), never), magnitudes(exponent, fixed_s, each_s)
    )
    gain = exponent * power / 2
    best = min(max(gain / (1 - gain) * fixed_s / each_s, 2), 1000) if gain < 1 else 1000
    assert state.k == pytest.approx(best, rel=0.1, abs=1)  # between counts energies are interpolated


def test_more_power_means_more_entries() -> None:
    found = []
    for power in (0.3, 0.5, 1.0):
        controller = norm_rate(power, smoothing=0.0)
        found.append(after(controller, controller.init(Setup(2, 1000, 9), never), magnitudes(0.9, 10, 0.1)).k)
    assert found[0] < found[1] < found[2]


def test_dearer_entries_are_fewer() -> None:
    controller = norm_rate(smoothing=0.0)
    start = controller.init(Setup(2, 1000, 9), never)
    found = [after(controller, start, magnitudes(0.9, 10.0, each_s)).k for each_s in (0.001, 0.1, 10.0)]
    assert found[0] > found[1] > found[2]


def test_the_first_round_is_cheap() -> None:
    controller = norm_rate()
    assert controller.init(Setup(2, 1000, 500), never).k == 10
    assert controller.init(Setup(20, 1000, 500), never).k == 20
    assert controller.init(Setup(2, 1000, 4), never).k == 4


def test_smoothing_is_between_logarithms() -> None:
    controller = norm_rate(smoothing=0.75)
    first = after(controller, controller.init(Setup(2, 1000, 500), never), magnitudes(0.9, 10, 0.1))
    target = norm_rate(smoothing=0.0)
    best = after(target, target.init(Setup(2, 1000, 500), never), magnitudes(0.9, 10, 10.0)).k
    assert first.k > 10 * best
    second = after(controller, first, magnitudes(0.9, 10, 10.0))
    assert second.k == round(exp(0.75 * log(first.k) + 0.25 * log(best)))
    assert after(controller, second, magnitudes(0.9, 10, 10.0)).k < second.k


def test_what_shows_nothing_changes_nothing() -> None:
    controller = norm_rate()
    state = controller.init(Setup(2, 1000, 500), never)
    assert after(controller, state, None) == state
    assert after(controller, state, Magnitudes(COUNTS, 0.0 * COUNTS, lambda k: 1.0 * k)) == state


def test_k_is_halved_until_somebody_is_in_time() -> None:
    """And what is seen then is taken as if it had been seen at once."""
    controller = norm_rate()
    state = controller.init(Setup(2, 1000, 500), never)
    found = []
    for _ in range(4):
        state = controller.step(state, Observation(1.0, too_late=True), never)
        found.append(state.k)
    assert found == [5, 2, 2, 2]
    at_once = after(controller, controller.init(Setup(2, 1000, 500), never), magnitudes(0.9, 10, 0.1))
    first = after(controller, state, magnitudes(0.9, 10, 0.1))
    assert first == at_once
    later = controller.step(first, Observation(1.0, too_late=True), never)
    assert (later.k, exp(later.log_k)) == (first.k // 2, pytest.approx(first.k // 2))
    assert later.seen


def test_k_stays_among_the_active() -> None:
    """Under a mask the sketch ends at the active coordinates."""
    few = Magnitudes(np.array([2, 5, 40]), np.array([1.0, 4.0, 1000.0]), lambda k: 1.0 + 0.0 * k)
    controller = norm_rate(smoothing=0.0)
    assert after(controller, controller.init(Setup(2, 1000, 500), never), few).k == 40
    fewer = Magnitudes(np.array([1]), np.array([1.0]), lambda k: 1.0 * k)
    assert after(controller, controller.init(Setup(2, 1000, 500), never), fewer).k == 2


def test_more_than_can_travel_is_no_choice() -> None:
    """Fewer than the smallest k, or than the first count, may be all that can."""
    controller = norm_rate(smoothing=0.0)
    start = controller.init(Setup(2, 1000, 500), never)
    free = magnitudes(0.9, 10.0, 0.0)
    assert after(controller, start, free).k == 1000
    assert after(controller, start, replace(free, most_k=37)).k == 37
    fewest = controller.init(Setup(50, 1000, 500), never)
    assert controller.decide is not None
    assert controller.decide(fewest, replace(free, most_k=37)).k == 50


def test_rounds_that_would_be_too_late_are_no_choice() -> None:
    controller = norm_rate(smoothing=0.0)
    start = controller.init(Setup(2, 1000, 500), never)
    free = after(controller, start, magnitudes(0.9, 10.0, 0.1)).k
    limited = after(controller, start, magnitudes(0.9, 10.0, 0.1, most_s=10.0 + 0.1 * free / 2)).k
    assert free / 2 / 1.2 < limited <= free / 2
    assert after(controller, start, magnitudes(0.9, 10.0, 0.1, most_s=9.0)).k == 2


def test_candidates() -> None:
    assert candidates(7, 7).tolist() == [7]
    found = candidates(2, 1000)
    assert (found[0], found[-1]) == (2, 1000)
    assert (np.diff(found) > 0).all()
    assert (found[1:] / found[:-1])[found[:-1] > 20].max() < 1.15


def test_energy_between_counts() -> None:
    at = energy_at(np.array([1, 10, 100]), np.array([10, 1000]), np.array([3.0, 300.0]))
    np.testing.assert_allclose(at, [3.0, 3.0, 30.0])


def test_the_smallest_of_equals() -> None:
    assert best_k(np.array([3, 4]), np.array([1.0, 16.0]), np.array([1.0, 2.0]), power=0.5) == 3
    assert best_k(np.array([3, 4]), np.array([1.0, 16.1]), np.array([1.0, 2.0]), power=0.5) == 4


@pytest.mark.parametrize("power", [0.0, -1.0, 2.1])
def test_powers(power: float) -> None:
    with pytest.raises(ValueError, match=rf"power is {power}, allowed are numbers above 0 and at most 2"):
        norm_rate(power)


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothings(smoothing: float) -> None:
    with pytest.raises(
        ValueError, match=rf"smoothing is {smoothing}, allowed are numbers from 0 on, below 1"
    ):
        norm_rate(smoothing=smoothing)


def test_any_run() -> None:
    check_k_control(norm_rate())
    check_k_control(norm_rate(1.0, smoothing=0.0))


def test_candidates_are_eight_an_octave() -> None:
    """100 x 2^(i / 8), rounded; both ends always."""
    assert candidates(100, 200).tolist() == [100, 109, 119, 130, 141, 154, 168, 183, 200]
    assert candidates(100, 101).tolist() == [100, 101]


def test_where_the_largest_entries_are_zero_there_is_no_energy() -> None:
    assert energy_at(np.array([10, 1000]), np.array([10, 1000]), np.array([0.0, 4.0])).tolist() == [
        0.0,
        pytest.approx(4.0),
    ]


def test_a_round_may_last_just_as_long_as_allowed() -> None:
    """Gains of 1 and 2 in 2 s each; then one of 0.01 in 10 s against one of 100 that comes too late."""
    two, late = np.array([2.0, 2.0]), np.array([10.0, 11.0])
    assert best_k(np.array([3, 4]), np.array([1.0, 16.0]), two, power=0.5, most_s=2.0) == 4
    assert best_k(np.array([3, 4]), np.array([1e-8, 1e8]), late, power=0.5, most_s=10.0) == 3


def test_the_first_round_that_shows_something_is_taken_whole() -> None:
    """And so is what is decided together with a mask, whenever that is."""
    seen = magnitudes(0.9, 10, 10.0)
    at_once = norm_rate(smoothing=0.0)
    best = after(at_once, at_once.init(Setup(2, 1000, 500), never), seen).k
    controller = norm_rate(smoothing=0.75)
    start: Any = controller.init(Setup(2, 1000, 500), never)
    assert (start.k_probe, start.seen, start.k_min, start.k_max) == (0, False, 2, 1000)
    first = after(controller, start, seen)
    assert (first.k, first.seen) == (best, True)
    later = after(controller, first, magnitudes(0.9, 10, 0.001))
    assert later.k > 2 * best
    assert controller.decide is not None
    assert controller.decide(later, seen).k == best


def test_what_is_not_said_is_the_root_of_the_norm_smoothed_by_half() -> None:
    seen, more = magnitudes(0.9, 10, 1.0), magnitudes(0.9, 10, 0.01)
    found = []
    for controller in (norm_rate(), norm_rate(power=0.5, smoothing=0.5)):
        state = after(controller, controller.init(Setup(2, 1000, 500), never), seen)
        found.append((state.k, after(controller, state, more).k))
    assert found[0] == found[1]


def test_it_asks_for_magnitudes_and_for_no_losses() -> None:
    controller = norm_rate()
    assert controller.measures_magnitudes
    assert not controller.measures_losses
