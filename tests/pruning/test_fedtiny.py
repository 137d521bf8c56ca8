"""FedTiny's progressive pruning: the vectors of its group's program, and masks whose layers keep their size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi.config.schema import PruningConfig
from fedmpi.pruning import Mask, Needs, Observation, Setup, State
from fedmpi.pruning.fedtiny import (
    adjusted,
    erk_densities,
    exchange_entries,
    fedtiny,
    prunable_density,
)
from fedmpi.testing import check_pruning

VECTORS = np.load(Path(__file__).parents[1] / "golden" / "fedtiny.npz")
META = json.loads(str(VECTORS["meta"]))


def no_draw() -> float:
    raise AssertionError("fedtiny draws nothing")


@pytest.mark.parametrize("case", META["erk"], ids=lambda case: f"density{case['density']}")
def test_densities_of_layers_are_those_of_the_program(case: dict[str, Any]) -> None:
    found = erk_densities(list(case["shapes"].values()), case["density"])
    np.testing.assert_allclose(found, list(case["layer_density"].values()), rtol=1e-12)


def test_where_all_is_active_every_layer_is_dense() -> None:
    assert erk_densities([[16, 7], [23, 12]], 1.0) == [1.0, 1.0]


@pytest.mark.parametrize("case", META["cases"], ids=lambda case: f"case{case['case']}")
def test_the_first_masks_are_as_large_as_the_programs(case: dict[str, Any]) -> None:
    sizes = {name: int(np.prod(shape)) for name, shape in case["shapes"].items()}
    total, prunable = sum(sizes.values()), sum(sizes[name] for name in case["prunable"])
    density = prunable_density(total, total - prunable, case["density"])
    found = erk_densities([case["shapes"][name] for name in case["prunable"]], density)
    np.testing.assert_allclose(found, [case["layer_density"][name] for name in case["prunable"]], rtol=1e-12)
    kept = [int(sizes[name] * part) for name, part in zip(case["prunable"], found, strict=True)]
    assert kept == [case["kept_initial"][name] for name in case["prunable"]]


@pytest.mark.parametrize("case", META["cases"], ids=lambda case: f"case{case['case']}")
def test_adjustments_are_those_of_the_program(case: dict[str, Any]) -> None:
    samples = np.array(case["samples"], np.float64)
    shares = samples / samples.sum()
    for name in case["prunable"]:
        label, size = f"{case['case']}_{name}", int(np.prod(case["shapes"][name]))
        before = np.unpackbits(VECTORS[f"{label}_mask_before"], count=size).view(np.bool_)
        after = np.unpackbits(VECTORS[f"{label}_mask_after"], count=size).view(np.bool_)
        weights, gradient = (
            np.tensordot(shares, VECTORS[f"{label}_{what}"].astype(np.float64), axes=1).ravel()
            for what in ("local", "gradient")
        )
        np.testing.assert_allclose(weights, VECTORS[f"{label}_weight"].ravel(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(gradient, VECTORS[f"{label}_mean_gradient"].ravel(), rtol=1e-4, atol=1e-6)
        count = adjusted(int(before.sum()), size, case["alpha"], case["t"], case["t_end"])
        assert count == case["k"][name]
        mine = exchange_entries(
            VECTORS[f"{label}_weight"].astype(np.float32).ravel(),
            VECTORS[f"{label}_mean_gradient"].astype(np.float32).ravel(),
            before,
            count,
        )
        np.testing.assert_array_equal(mine, after)


def test_an_adjustment_by_hand() -> None:
    """The least of 3, -1, 2 goes; of what is inactive then, the largest gradient comes in."""
    weights = np.array([3, -1, 2, 0, 0], np.float32)
    active = np.array([True, True, True, False, False])
    gradient = np.array([100, 1, 100, -5, 4], np.float32)
    assert exchange_entries(weights, gradient, active, 1).tolist() == [True, False, True, True, False]
    back = np.array([0, 9, 0, -5, 4], np.float32)
    assert exchange_entries(weights, back, active, 1).tolist() == active.tolist()
    assert exchange_entries(weights, gradient, active, 2).tolist() == [True, False, True, True, False]


def test_ties_go_to_the_lowest_index() -> None:
    weights, active = np.array([1, 1, 0, 0], np.float32), np.array([True, True, False, False])
    assert exchange_entries(weights, np.zeros(4, np.float32), active, 1).tolist() == active.tolist()
    gradient = np.array([0, 0, 7, 7], np.float32)
    assert exchange_entries(weights, gradient, active, 1).tolist() == [False, True, True, False]


def test_what_changes_falls_to_nothing() -> None:
    assert [adjusted(100, 1000, 0.3, t, 100) for t in (0, 50, 100)] == [30, 15, 0]
    assert adjusted(90, 100, 0.3, 0, 100) == 10


def test_round_0_begins_with_the_largest_weights_of_every_layer(setup_of: Callable[..., Setup]) -> None:
    setup, method = setup_of([40, -4, 60], target_density=0.5), fedtiny()
    weights = np.random.default_rng(0).standard_normal(104).astype(np.float32)
    assert method.first_mask is not None
    flags = method.first_mask(setup, weights).flags()
    # int(0.48 x 40) + int(0.48 x 60) = 47 of 100 are shared out in proportion, and rounded down again.
    for layer, count in zip(setup.layers, (18, 4, 28), strict=True):
        inside = np.arange(layer.start, layer.stop)
        largest = inside[np.argsort(-np.abs(weights[inside]))[:count]]
        assert inside[flags[inside]].tolist() == sorted(largest.tolist())


def test_rounds_that_are_multiples_exchange_up_to_the_last(setup_of: Callable[..., Setup]) -> None:
    setup = setup_of([40, -4, 60], target_density=0.5, reconfigure_every=2)
    method = fedtiny(alpha=0.5, last_round=6)
    rng = np.random.default_rng(0)
    weights = rng.standard_normal(104).astype(np.float32)
    assert method.first_mask is not None
    state = method.init(setup, method.first_mask(setup, weights))
    wanted = [method.needs(setup, state, index) for index in range(9)]
    both, nothing = Needs.WEIGHTS | Needs.IMPORTANCE, Needs.NOTHING
    assert wanted == [nothing, nothing, both, nothing, both, nothing, both, nothing, nothing]
    seen = Observation(2, weights=weights, importance=rng.standard_normal(104))
    later, change = method.step(setup, state, seen, no_draw)
    assert change is not None
    assert later.mask is change.mask
    layers = setup.prunable
    counts = state.mask.active_per_layer(layers).tolist()
    assert change.mask.active_per_layer(layers).tolist() == counts
    most = [adjusted(*each, 0.5, 2, 6) for each in zip(counts, (40, 60), strict=True)]
    assert most == [int(0.375 * 18), int(0.375 * 28)]  # 0.25 (1 + cos(pi / 3))
    assert 0 < change.facts["put_back"] <= sum(most)
    nobodys = Observation(2, weights=weights, importance=np.zeros(104))
    assert method.step(setup, state, nobodys, no_draw) == (state, None)
    assert method.step(setup, state, Observation(3), no_draw) == (state, None)


def test_the_method_passes_the_checks() -> None:
    check_pruning(fedtiny(last_round=8), PruningConfig(reconfigure_every=2, target_density=0.4))


def test_largest_gradients_of_pruned_ones_give_the_mask_of_all_gradients(
    setup_of: Callable[..., Setup],
) -> None:
    """With one client, and weights that fall away having the smallest gradients."""
    setup = setup_of([40, -4, 60], target_density=0.5, reconfigure_every=2)
    method = fedtiny(alpha=0.5, last_round=6, gradients="topk")
    assert fedtiny(alpha=0.5, last_round=6).gradient_entries is None
    assert method.gradient_entries is not None
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(104).astype(np.float32)
    assert method.first_mask is not None
    state = method.init(setup, method.first_mask(setup, weights))
    gradient = rng.standard_normal(104)
    gradient[state.mask.flags()] = 0.0
    sent = np.zeros(104)
    counts = method.gradient_entries(setup, state.mask, 2)
    assert len(counts) == 2
    for layer, count in zip(setup.prunable, counts, strict=True):
        inside = np.arange(layer.start, layer.stop)
        pruned = inside[~state.mask.flags()[inside]]
        largest = pruned[np.argsort(-np.abs(gradient[pruned]))[:count]]
        sent[largest] = gradient[largest]
    masks = [
        method.step(setup, state, Observation(2, weights=weights, importance=each), no_draw)[0].mask
        for each in (gradient, sent)
    ]
    np.testing.assert_array_equal(masks[0].flags(), masks[1].flags())
    assert np.count_nonzero(masks[0].flags() & ~state.mask.flags()) == sum(counts)


def test_a_density_that_leaves_nothing_is_refused(setup_of: Callable[..., Setup]) -> None:
    with pytest.raises(
        ValueError, match=r"60 of 100 parameters are never pruned and count as active; allowed: above 0\.61"
    ):
        fedtiny().init(setup_of([40, -60], target_density=0.5), Mask(100))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"alpha": 0.0}, r"alpha is 0\.0"),
        ({"last_round": 0}, "last_round is 0"),
        ({"gradients": "sparse"}, "gradients is 'sparse', allowed are dense, topk"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        fedtiny(**options)


def test_an_alpha_of_one_is_allowed_and_more_is_not() -> None:
    fedtiny(alpha=1.0, last_round=1)
    with pytest.raises(ValueError, match=r"alpha is 1\.1"):
        fedtiny(alpha=1.1)


def test_what_is_not_said_is_three_tenths_up_to_round_300(setup_of: Callable[..., Setup]) -> None:
    setup = setup_of([40, -4, 60], target_density=0.5, reconfigure_every=100)
    method = fedtiny()
    state = State(Mask(104))
    due = [index for index in range(500) if method.needs(setup, state, index) is not Needs.NOTHING]
    assert due == [100, 200, 300]
    assert method.gradient_entries is None
    entries = fedtiny(gradients="topk").gradient_entries
    assert entries is not None
    half = Mask.of(np.arange(104) % 2 == 0)
    assert list(entries(setup, half, 150)) == [int(0.15 * 20), int(0.15 * 30)]


def test_a_density_just_above_what_is_never_pruned_is_allowed() -> None:
    """int(0.5 x 10) = 5 of 10 parameters: one of the six that can be pruned is active beside four others."""
    assert prunable_density(10, 4, 0.5) == pytest.approx(1 / 6)
    with pytest.raises(ValueError, match=r"allowed: above 0\.5"):
        prunable_density(10, 4, 0.49)
