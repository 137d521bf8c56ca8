"""Model size by ogd_sign."""

import json
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fedmpi.k_control import Observation as Cost
from fedmpi.k_control import ogd_sign
from fedmpi.numerics.apportionment import largest_remainder
from fedmpi.pruning import online
from fedmpi.pruning.interface import Losses, Needs, Observation
from fedmpi.pruning.magnitude import keep_largest
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.round_time import RoundTime

TIME = RoundTime(1.0, np.array([0.01, 0.02]))


def half() -> float:
    return 0.5


def observation(index: int, losses: Losses) -> Observation:
    weights = np.random.default_rng(index).standard_normal(330).astype(np.float32)
    return Observation(index, weights, time=TIME, losses=losses)


def test_it_follows_the_controller(setup_of: Callable) -> None:
    """Against ogd_sign by hand, with T(M) of the present and of the probed size."""
    setup = setup_of([100, -30, 200], reconfigure_every=2)
    state = online.init(setup, Mask(330))
    assert (state.controller.k, state.controller.k_probe) == (300, 270)
    assert (state.controller.k_min, state.controller.k_max) == (1, 300)
    for index in range(12):
        losses = Losses(2.0, 1.5, 1.4 if index % 4 == 1 else 2.5)
        if index % 2 == 0:
            assert online.needs(setup, state, index) is Needs.NOTHING
            before = state
            state, change = online.step(setup, state, Observation(index), half)
            assert change is None
            assert state == replace(before, rounds_since=1)
            continue
        assert online.needs(setup, state, index) is Needs.WEIGHTS | Needs.TIME | Needs.LOSSES
        seen = observation(index, losses)
        counts = state.mask.active_per_layer(setup.prunable)
        cost_probe = None
        if losses.probe < 2.0:
            probe_counts = largest_remainder(np.array([100, 200]), state.controller.k_probe)
            cost_probe = TIME.seconds(probe_counts) * 0.5 / (2.0 - losses.probe)
        expected = ogd_sign.step(state.controller, Cost(TIME.seconds(counts), cost_probe), half)
        state, change = online.step(setup, state, seen, half)
        assert state.controller == expected
        assert change is not None
        assert state.mask.active_per_layer(setup.layers).tolist() == [
            largest_remainder(np.array([100, 200]), expected.k)[0],
            30,
            largest_remainder(np.array([100, 200]), expected.k)[1],
        ]
        assert seen.weights is not None
        kept = keep_largest(
            seen.weights, Mask(330), setup.layers, largest_remainder(np.array([100, 200]), expected.k)
        )
        np.testing.assert_array_equal(state.mask.flags(), kept.flags())
    assert state.controller.k < 300


def test_without_losses_there_is_no_estimate(setup_of: Callable) -> None:
    """As in a round of which no update was taken."""
    setup = setup_of([100, -30, 200], reconfigure_every=1)
    state, change = online.step(
        setup, online.init(setup, Mask(330)), replace(observation(0, Losses(2, 1, 1.5)), losses=None), half
    )
    assert (state.controller.k, state.controller.misses) == (300, 1)
    assert change is not None


def test_the_probe_is_the_smaller_model(setup_of: Callable) -> None:
    setup = setup_of([100, -30, 200])
    state = online.init(setup, Mask(330))
    weights = np.random.default_rng(0).standard_normal(330).astype(np.float32)
    probe = online.probe_mask(setup, state, weights)
    assert probe is not None
    assert probe.active_per_layer(setup.layers).tolist() == [90, 30, 180]
    no_probe = replace(state, controller=replace(state.controller, k=1, k_probe=0))
    assert online.probe_mask(setup, no_probe, weights) is None


def test_a_state_continues_from_its_dict(setup_of: Callable) -> None:
    setup = setup_of([100, -30, 200], reconfigure_every=1)
    state, _ = online.step(setup, online.init(setup, Mask(330)), observation(0, Losses(2, 1, 1.5)), half)
    values = state.to_dict()
    bits = values.pop("mask")
    again = online.OnlineState.from_dict({**json.loads(json.dumps(values)), "mask": bits})
    assert again.controller == state.controller
    assert again.rounds_since == state.rounds_since
    np.testing.assert_array_equal(again.mask.flags(), state.mask.flags())
