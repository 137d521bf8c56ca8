"""What a round would cost with another k, as a controller sees it that weighs magnitudes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedmpi.federation.exchange import Exchanged, Roster
from fedmpi.pruning import Needs
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch

ENERGIES = np.array([1.0, 2.0, 3.0, 4.0])


def seen_after(given: Any, exchanged: Exchanged, **columns: Any) -> Any:
    """The magnitudes of a closed round of which all clients sent 3 of 10 values."""
    plan = given.server.plan()
    judged = given.server.judge(plan, given.records(**columns))
    return given.server.prices.magnitudes(plan, judged, exchanged)


def exchanged_of(k_down: int, energies: np.ndarray | None = ENERGIES) -> Exchanged:
    return Exchanged(np.arange(k_down, dtype=np.int32), k_down, 0, np.zeros(4, np.int64), 200, 0, energies)


def test_a_round_with_another_k(world: Callable) -> None:
    """Training takes 1 s, links carry 1000 bytes/s; messages have 100 and 200 bytes and 4 for each value."""
    given = world()
    given.exchange.sketch = MagnitudeSketch(10, 2)
    seen = seen_after(given, exchanged_of(k_down=6))
    assert seen.counts.tolist() == MagnitudeSketch(10, 2).counts.tolist()
    assert seen.energies is ENERGIES
    assert seen.most_s == np.inf
    k = np.array([1, 3, 8])
    expected = 1.0 + (100 + 4 * k) / 1000 + (200 + 4 * np.minimum(2 * k, 10)) / 1000
    np.testing.assert_allclose(seen.round_s(k), expected, rtol=1e-12)


def test_who_was_late_does_not_count(world: Callable) -> None:
    """The slowest of those in time: client 0's link is a tenth of the others'."""
    given = world(
        "emulation.network.uplink_mbit_per_s=[0.0008,0.008,0.008,0.008]", "federation.deadline_s=1.5"
    )
    given.exchange.sketch = MagnitudeSketch(10, 2)
    seen = seen_after(given, exchanged_of(k_down=3))
    assert seen.most_s == 1.5
    np.testing.assert_allclose(seen.round_s(np.array([3])), 1.0 + 0.112 + 0.212, rtol=1e-12)
    whole = world("emulation.network.uplink_mbit_per_s=[0.0008,0.008,0.008,0.008]")
    whole.exchange.sketch = MagnitudeSketch(10, 2)
    np.testing.assert_allclose(
        seen_after(whole, exchanged_of(k_down=3)).round_s(np.array([3])), 1.0 + 1.12 + 0.212, rtol=1e-12
    )


def test_nothing_is_seen_where_no_energies_were_stated(world: Callable) -> None:
    """As without a sketch, and where nobody was accepted."""
    given = world()
    assert seen_after(given, exchanged_of(k_down=0, energies=None)) is None


def test_the_controller_sees_it(world: Callable) -> None:
    given = world()
    given.exchange.sketch = MagnitudeSketch(10, 2)
    server = given.server
    plan = server.plan()
    judged = server.judge(plan, given.records())
    yes, each = np.ones(4, np.bool_), np.ones(4, np.int64)
    roster = Roster(plan.participants, yes, each, 112 * each, 4.0, [], yes)
    server.close(plan, judged, roster, exchanged_of(k_down=3), None)
    (observation,) = given.costs.seen
    assert observation.magnitudes.energies is ENERGIES
    assert observation.magnitudes.round_s(np.array([3]))[0] == pytest.approx(1.0 + 0.112 + 0.212)


def test_where_all_values_come_down_they_do_with_every_k(world: Callable) -> None:
    """As from a server optimizer that moves all coordinates; in the published cost model values are what is charged."""
    given = world("emulation.compute.model=normalized", "emulation.compute.beta=1.0")
    given.exchange.sketch = MagnitudeSketch(10, 2)
    few, k = np.array([0], np.int32), np.array([1, 3, 8])
    for changed, k_down in ((None, np.array([10, 10, 10])), (few, np.array([3, 10, 10]))):
        seen = seen_after(given, replace(exchanged_of(k_down=10), changed=changed))
        expected = 1.0 + 1 / 20 * (2 * k + 2 * k_down + given.exchange.sketch.bytes / 4)
        np.testing.assert_allclose(seen.round_s(k), expected, rtol=1e-12)


def test_a_second_model_that_is_tried_lengthens_rounds_with_every_k(world: Callable) -> None:
    """By a tenth, one sample of a batch of ten."""
    given = world("emulation.compute.model=normalized", "emulation.compute.beta=1.0")
    given.exchange.sketch = MagnitudeSketch(10, 2)
    plan = given.server.plan()
    judged = given.server.judge(plan, given.records())
    once, twice = (
        given.server.prices.magnitudes(replace(plan, needs=needs), judged, exchanged_of(3))
        for needs in (Needs.NOTHING, Needs.LOSSES)
    )
    k = np.array([1, 8])
    np.testing.assert_allclose(twice.round_s(k) - once.round_s(k), 0.1, rtol=1e-9)
