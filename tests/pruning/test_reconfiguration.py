"""The reconfiguration against the authors' vectors, the rule in exact fractions, and a full sort."""

import json
from collections.abc import Callable, Sequence
from fractions import Fraction
from math import floor, inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmpi.pruning import reconfiguration
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import Reconfiguration, reconfigure

CASES = ("case0", "case1", "case2", "case3", "case6", "case7")


@pytest.mark.parametrize("name", CASES)
def test_golden(golden_dir: Path, layers_of: Callable, name: str) -> None:
    vectors = np.load(golden_dir / "prunefl_reconfigure.npz")
    case = next(each for each in json.loads(str(vectors["meta"])) if each["case"] == name)
    sizes: list[int] = []
    weights, importance, before, after = [], [], [], []
    for layer in case["layers"]:
        weight = vectors[f"{name}/{layer}/weight"].reshape(-1)
        bias = vectors[f"{name}/{layer}/bias_squared_gradient"]
        prunable = layer in case["prunable"]
        sizes += [weight.size if prunable else -weight.size, -bias.size]
        weights += [weight, np.zeros(bias.size, np.float32)]
        importance += [vectors[f"{name}/{layer}/squared_gradient"].reshape(-1), bias]
        for masks, which in ((before, "mask_before"), (after, "mask_after")):
            flags = np.ones(weight.size, np.uint8)
            if prunable:
                flags = np.unpackbits(vectors[f"{name}/{layer}/{which}"], count=weight.size)
            masks += [flags, np.ones(bias.size, np.uint8)]
    max_density = 1.0 if case["max_density"] is None else case["max_density"]
    seconds = np.array(case["compute_seconds_per_parameter"]) + case["communication_seconds_per_parameter"]
    layers = layers_of(sizes)
    result = reconfigure(
        np.concatenate(weights),
        np.concatenate(importance).astype(np.float32),
        Mask.of(np.concatenate(before).view(np.bool_)),
        layers,
        seconds,
        case["constant_seconds"],
        case["max_decrease_fraction"],
        max_density,
    )
    expected = np.concatenate(after).view(np.bool_)
    assert result.mask.density(layers) <= max_density
    if Mask.of(expected).density(layers) <= max_density:
        np.testing.assert_array_equal(result.mask.flags(), expected)
    else:
        differing = np.flatnonzero(result.mask.flags() != expected)
        assert len(differing) == 1
        assert expected[differing[0]]


def by_the_rule(
    weights: Sequence[int],
    importance: Sequence[int],
    active: Sequence[bool],
    layers: Sequence[Any],
    seconds: Sequence[Fraction],
    constant_s: Fraction,
    decrease: Fraction,
    max_density: Fraction,
) -> tuple[list[bool], Fraction, Fraction]:
    """The published description step by step: the mask, Delta and T."""
    kept = list(active)
    prunable = [layer for layer in layers if layer.prunable]
    for layer in prunable:
        inside = [j for j in range(layer.start, layer.stop) if active[j]]
        drop = floor(decrease * len(inside))
        bar = sorted(abs(weights[j]) for j in inside)[drop] if drop < len(inside) else inf
        for j in inside:
            kept[j] = abs(weights[j]) >= bar
    total = sum(layer.stop - layer.start for layer in prunable)
    limit = floor(max_density * total)
    remaining = [[j for j in range(layer.start, layer.stop) if kept[j]] for layer in prunable]
    count = sum(map(len, remaining))
    if count > limit:
        for inside in remaining:
            by_size = sorted(inside, key=lambda j: -abs(weights[j]))
            for j in by_size[limit * len(inside) // count :]:
                kept[j] = False
    gain = Fraction(sum(value for value, keep in zip(importance, kept, strict=True) if keep))
    second_of = {
        j: s for layer, s in zip(prunable, seconds, strict=True) for j in range(layer.start, layer.stop)
    }
    round_s = constant_s + sum(s for j, s in second_of.items() if kept[j])

    def rank(j: int) -> tuple[float | Fraction, int]:
        if second_of[j] == 0:
            return (-inf if importance[j] else 0, -importance[j])
        return -importance[j] / second_of[j], 0

    for j in sorted((j for j in second_of if not kept[j]), key=rank):
        if sum(kept[i] for i in second_of) >= limit or not importance[j] * round_s > gain * second_of[j]:
            break
        kept[j] = True
        gain += importance[j]
        round_s += second_of[j]
    return kept, gain, round_s


@settings(max_examples=300)
@given(data=st.data())
def test_small_models_follow_the_rule_in_fractions(layers_of: Callable, data: st.DataObject) -> None:
    """Few distinct values, so that weights, importances and ratios tie; sums and quotients are exact."""
    sizes = data.draw(st.lists(st.integers(-3, 9), min_size=1, max_size=4))
    layers = layers_of(sizes)
    total = sum(map(abs, sizes))
    draw = data.draw
    weights = draw(st.lists(st.integers(-4, 4), min_size=total, max_size=total))
    importance = draw(
        st.lists(st.integers(0, draw(st.sampled_from([1, 4, 100]))), min_size=total, max_size=total)
    )
    active = draw(st.lists(st.booleans(), min_size=total, max_size=total))
    for layer in layers:
        if not layer.prunable:
            active[layer.start : layer.stop] = [True] * (layer.stop - layer.start)
    prunable = [layer for layer in layers if layer.prunable]
    power = st.sampled_from([Fraction(0), Fraction(1, 1024), Fraction(1, 4), Fraction(1), Fraction(2)])
    seconds = draw(st.lists(power, min_size=len(prunable), max_size=len(prunable)))
    constant_s = draw(st.sampled_from([Fraction(1, 1024), Fraction(1), Fraction(16), Fraction(1000)]))
    decrease = Fraction(draw(st.integers(0, 8)), 8)
    max_density = Fraction(draw(st.sampled_from([0, 1, 4, 6, 8])), 8)
    dtype = draw(st.sampled_from([np.float32, np.float64]))

    result = reconfigure(
        np.array(weights, np.float32),
        np.array(importance, dtype),
        Mask.of(np.array(active, np.bool_)),
        layers,
        [float(s) for s in seconds],
        float(constant_s),
        float(decrease),
        float(max_density),
    )
    kept, gain, round_s = by_the_rule(
        weights, importance, active, layers, seconds, constant_s, decrease, max_density
    )
    assert result.mask.flags().tolist() == kept
    assert result.importance == gain
    assert result.round_s == round_s
    size = sum(layer.stop - layer.start for layer in prunable)
    assert size == 0 or result.mask.density(layers) <= max_density
    change = result.put_back.sum() - result.dropped.sum()
    assert result.mask.count - sum(active) == change


def by_full_sort(
    weights: np.ndarray,
    importance: np.ndarray,
    active: np.ndarray,
    layers: Sequence[Any],
    seconds: Sequence[float],
    constant_s: float,
    decrease: float,
    limit: int,
) -> np.ndarray:
    kept = active.copy()
    second_of = np.zeros(weights.size)
    candidate = np.zeros(weights.size, np.bool_)
    prunable = [layer for layer in layers if layer.prunable]
    for layer, s in zip(prunable, seconds, strict=True):
        inside = kept[layer.start : layer.stop]
        sizes = np.abs(weights[layer.start : layer.stop])
        inside &= sizes >= np.sort(sizes[inside])[int(decrease * inside.sum())]
        second_of[layer.start : layer.stop] = s
        candidate[layer.start : layer.stop] = ~inside
    gain, round_s = importance[kept].sum(dtype=np.float64), constant_s + second_of[kept].sum()
    at = np.flatnonzero(candidate)
    order = at[np.argsort(-(importance[at] / second_of[at]), kind="stable")]
    room = limit - sum(int(kept[layer.start : layer.stop].sum()) for layer in prunable)
    for j in order[:room].tolist():
        if not importance[j] / second_of[j] > gain / round_s:
            break
        kept[j] = True
        gain += float(importance[j])
        round_s += second_of[j]
    return kept


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("spread", [0.05, 1.0, 4.0])
@pytest.mark.parametrize("constant_s", [1e-4, 1.0, 100.0])
@pytest.mark.parametrize("max_density", [1.0, 0.4])
def test_large_models_equal_a_full_sort(
    layers_of: Callable, seed: int, spread: float, constant_s: float, max_density: float
) -> None:
    """Long enough for samples that guess, blocks, and gathered candidates."""
    rng = np.random.default_rng(seed)
    sizes = [500, -10, 9 * reconfiguration._SAMPLE, -7, reconfiguration._BLOCK + 100, 0]
    layers = layers_of(sizes)
    total = sum(map(abs, sizes))
    weights = rng.standard_normal(total).astype(np.float32)
    importance = np.exp(spread * rng.standard_normal(total)).astype(np.float32)
    importance[rng.random(total) < 0.2] = 0.0
    active = rng.random(total) < 0.3
    for layer in layers:
        if not layer.prunable:
            active[layer.start : layer.stop] = True
    seconds = [3e-6, 5.5e-6, 7.1e-6, 1e-6]
    limit = floor(max_density * sum(size for size in sizes if size > 0))
    result = reconfigure(
        weights, importance, Mask.of(active), layers[:5], seconds[:3], constant_s, 0.3, max_density
    )
    expected = by_full_sort(weights, importance, active, layers[:5], seconds[:3], constant_s, 0.3, limit)
    np.testing.assert_array_equal(result.mask.flags(), expected)
    assert result.put_back.sum() > 0
    assert result.importance == pytest.approx(importance[expected].sum(dtype=np.float64), rel=1e-12)
    with_empty = reconfigure(
        weights, importance, Mask.of(active), layers, seconds, constant_s, 0.3, max_density
    )
    np.testing.assert_array_equal(with_empty.mask.flags(), expected)


def reconfigured(layers: Sequence[Any], **changes: Any) -> Reconfiguration:
    """Two prunable layers of three and a bias, everything ordinary but for ``changes``."""
    arguments: dict[str, Any] = {
        "weights": np.arange(7, dtype=np.float32),
        "importance": np.zeros(7, np.float32),
        "mask": Mask(7),
        "layers": layers,
        "seconds_per_parameter": [1.0, 1.0],
        "constant_s": 1.0,
        "decrease_fraction": 0.0,
    }
    return reconfigure(**{**arguments, **changes})


def test_nothing_dropped_and_nothing_important_keeps_the_mask(layers_of: Callable) -> None:
    mask = Mask.of(np.array([1, 0, 0, 1, 0, 1, 1], np.bool_))
    result = reconfigured(layers_of([3, -1, 3]), mask=mask)
    np.testing.assert_array_equal(result.mask.flags(), mask.flags())
    assert result.round_s == 4.0


def test_a_fully_dense_layer_without_importance_loses_its_fraction(layers_of: Callable) -> None:
    result = reconfigured(layers_of([3, -1, 3]), decrease_fraction=0.4)
    assert result.mask.flags().tolist() == [False, True, True, True, False, True, True]
    assert result.dropped.tolist() == [1, 1]


def test_everything_returns_where_it_takes_no_time(layers_of: Callable) -> None:
    result = reconfigured(
        layers_of([3, -1, 3]),
        importance=np.ones(7, np.float32),
        seconds_per_parameter=[0.0, 0.0],
        decrease_fraction=1.0,
    )
    assert result.mask.is_full
    assert result.put_back.tolist() == [3, 3]


def test_weights_that_tie_with_the_threshold_stay(layers_of: Callable) -> None:
    weights = np.array([2, 1, 1, 0, 1, 1, 1], np.float32)
    result = reconfigured(layers_of([3, -1, 3]), weights=weights, decrease_fraction=0.4)
    assert result.mask.is_full


def test_equals_return_from_the_lowest_index(layers_of: Callable) -> None:
    mask = Mask.of(np.array([0, 0, 0, 1, 0, 0, 0], np.bool_))
    importance = np.array([1, 1, 1, 0, 1, 1, 1], np.float32)
    result = reconfigured(
        layers_of([3, -1, 3]), mask=mask, importance=importance, constant_s=100.0, max_density=4 / 6
    )
    assert result.mask.flags().tolist() == [True, True, True, True, True, False, False]


@pytest.mark.parametrize(
    ("max_density", "allowed"), [(0.29, 29), (0.07, 7), (1.0, 100), (0.0, 0), (0.999, 99)]
)
def test_the_limit_is_that_of_exact_quotients(max_density: float, allowed: int) -> None:
    assert reconfiguration.allowed_active(max_density, 100) == allowed


def test_importance_at_the_ends_of_float32(layers_of: Callable) -> None:
    mask = Mask.of(np.array([0, 0, 0, 1, 0, 0, 0], np.bool_))
    tiny, huge = np.finfo(np.float32).smallest_subnormal, np.finfo(np.float32).max
    importance = np.array([tiny, tiny, 0, 0, huge, huge, 0], np.float32)
    result = reconfigured(layers_of([3, -1, 3]), mask=mask, importance=importance, constant_s=1e6)
    assert result.mask.flags().tolist() == [False, False, False, True, True, True, False]
    assert result.importance == 2 * float(huge)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": np.zeros(7)}, "weights are float32"),
        ({"weights": np.zeros(6, np.float32)}, "weights are float32"),
        ({"weights": np.full(7, np.nan, np.float32)}, "weights has entries"),
        ({"importance": np.full(7, -1.0, np.float32)}, "importance has entries"),
        ({"importance": np.full(7, np.nan, np.float32)}, "importance has entries"),
        ({"importance": np.full(7, np.inf, np.float32)}, "importance has entries"),
        ({"importance": np.zeros(7, np.int64)}, "importance is float32 or float64"),
        ({"seconds_per_parameter": [1.0]}, "2 prunable layers"),
        ({"seconds_per_parameter": [1.0, -1.0]}, "2 prunable layers"),
        ({"constant_s": -1.0}, "constant_s"),
        ({"constant_s": inf}, "constant_s"),
        ({"decrease_fraction": 1.5}, "decrease_fraction"),
        ({"max_density": float("nan")}, "max_density"),
        ({"constant_s": 0.0, "seconds_per_parameter": [0.0, 0.0]}, "takes no time"),
    ],
)
def test_bad_arguments_are_named(layers_of: Callable, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        reconfigured(layers_of([3, -1, 3]), **changes)
