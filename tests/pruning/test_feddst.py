"""FedDST: the vectors of its authors' program, where fedmpi differs, and the method's rounds."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmpi.config.schema import PruningConfig
from fedmpi.federation.exchange_votes import mean_of_voters
from fedmpi.pruning import Mask, Needs, Observation, Setup
from fedmpi.pruning.feddst import decayed, feddst, kept_entries, pruned_to, readjusted
from fedmpi.testing import check_pruning

VECTORS = np.load(Path(__file__).parents[1] / "golden" / "feddst.npz")
META = json.loads(str(VECTORS["meta"]))


def flags_of(name: str, size: int) -> NDArray[np.bool_]:
    return np.unpackbits(VECTORS[name], count=size).view(np.bool_)


def readjustments() -> Iterator[tuple[str, dict[str, Any]]]:
    """The arrays' prefix, and the numbers, of every readjustment of a layer."""
    layers = META["cases"][0]["layers"]
    for case in META["direct"]:
        for layer in layers:
            yield f"d{case['case']}_{layer}", {n: case[n][layer] for n in ("keep_prune", "keep_grow")}
    for case in META["cases"]:
        for round_ in case["rounds"]:
            for position, client in enumerate(round_["clients"]):
                if client["readjusted"]:
                    for layer in case["layers"]:
                        prefix = f"{case['case']}_{round_['round']}_{position}_{layer}"
                        yield prefix, {n: client[n][layer] for n in ("keep_prune", "keep_grow")}


@pytest.mark.parametrize(
    ("prefix", "keep"), readjustments(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_readjustments_are_those_of_the_authors_program(prefix: str, keep: dict[str, float]) -> None:
    weights = VECTORS[f"{prefix}_weight_before"].ravel()
    gradient = VECTORS[f"{prefix}_gradient"].ravel()
    before = flags_of(f"{prefix}_mask_before", weights.size)
    numbers = int(keep["keep_prune"]), int(keep["keep_grow"])
    sure = weights != 0  # among zeros the program's choice is arbitrary
    own = readjusted(weights, gradient, before, *numbers)
    theirs = readjusted(weights, gradient, before, *numbers, program=True)
    np.testing.assert_array_equal(own.pruned_to[sure], flags_of(f"{prefix}_mask_pruned", weights.size)[sure])
    if not np.array_equal(own.pruned_to, flags_of(f"{prefix}_mask_pruned", weights.size)):
        return  # what is grown depends on it
    np.testing.assert_array_equal(theirs.active, flags_of(f"{prefix}_mask_grown", weights.size))
    np.testing.assert_array_equal(theirs.reset, flags_of(f"{prefix}_reset", weights.size))
    np.testing.assert_array_equal(own.active, flags_of(f"{prefix}_mask_grown_inactive", weights.size))
    assert not own.reset.any()


@pytest.mark.parametrize("case", META["erk"], ids=lambda case: f"{case['sparsity']}")
def test_entries_to_keep_are_those_of_the_program(case: dict[str, Any]) -> None:
    found = kept_entries(case["shapes"], [shape[0] for shape in case["shapes"]], case["sparsity"])
    assert found == [int(keep) for keep in case["keep"]]


@pytest.mark.parametrize("case", META["decay"], ids=lambda case: f"{case['t']}")
def test_the_decay_is_that_of_the_program(case: dict[str, Any]) -> None:
    assert decayed(case["alpha"], case["t"], case["t_end"]) == pytest.approx(case["value"], abs=1e-12)


@pytest.mark.parametrize("case", META["cases"], ids=lambda case: f"case{case['case']}")
def test_the_servers_rounds_are_those_of_the_program(case: dict[str, Any]) -> None:
    """Weighted by what the program weighs clients by; masks are compared where weights are not 0."""
    for round_ in case["rounds"]:
        samples = np.array([client["train_size"] for client in round_["clients"]])
        prefix = f"{case['case']}_{round_['round']}"
        shapes, biases = ([case[name][layer] for layer in case["layers"]] for name in ("shapes", "biases"))
        keep = dict(zip(case["layers"], kept_entries(shapes, biases, round_["sparsity"]), strict=True))
        assert {layer: int(n) for layer, n in round_.get("server_keep", keep).items()} == keep
        for layer in case["layers"]:
            rows = [f"{prefix}_{position}_{layer}" for position in range(len(samples))]
            weights = np.stack([VECTORS[f"{row}_weight"].ravel() for row in rows])
            masks = np.stack([flags_of(f"{row}_mask", weights.shape[1]) for row in rows])
            votes, total = (samples @ masks).astype(np.int32), int(samples.sum())
            of_all = (samples @ (weights * masks) / total).astype(np.float32)
            mean, kept = mean_of_voters(of_all, votes, total), votes > case["settings"]["min_votes"]
            if round_["server_repruned"]:
                kept = pruned_to(mean, kept, keep[layer])
            sure = mean != 0
            np.testing.assert_array_equal(
                kept[sure], flags_of(f"{prefix}_global_{layer}_mask", kept.size)[sure]
            )
            found = np.where(kept, mean, 0.0)
            theirs = VECTORS[f"{prefix}_global_{layer}_weight"].ravel()
            np.testing.assert_allclose(found, theirs, rtol=1e-5, atol=1e-7)


@given(st.integers(1, 60), st.integers(0, 2**32 - 1), st.integers(-3, 63), st.integers(0, 63))
def test_counts_are_exact(size: int, seed: int, keep_pruned: int, keep_grown: int) -> None:
    rng = np.random.default_rng(seed)
    active = rng.random(size) < 0.5
    weights = np.where(active, rng.integers(-2, 3, size), 0).astype(np.float32)
    gradient = rng.integers(-2, 3, size).astype(np.float32)
    found = readjusted(weights, gradient, active, keep_pruned, keep_grown)
    if 0 <= keep_pruned <= size:
        assert found.pruned_to.sum() == min(keep_pruned, active.sum())
    else:
        assert (found.pruned_to == active).all()
    assert (found.pruned_to <= active).all()
    assert (found.pruned_to <= found.active).all()
    assert found.active.sum() == max(found.pruned_to.sum(), min(keep_grown, size))


def test_a_readjustment_by_hand() -> None:
    weights = np.array([3, -1, 2, 0, 0], np.float32)
    active = np.array([True, True, True, False, False])
    gradient = np.array([9, 2, 1, -5, 0], np.float32)
    own = readjusted(weights, gradient, active, 2, 3)
    assert own.pruned_to.tolist() == [True, False, True, False, False]
    assert own.active.tolist() == [True, False, True, True, False]
    theirs = readjusted(weights, gradient, active, 2, 3, program=True)
    assert theirs.active.tolist() == [True, False, True, False, False]
    assert theirs.reset.tolist() == [True, False, False, False, False]


@dataclass(frozen=True)
class Named:
    name: str
    start: int
    stop: int
    shape: tuple[int, ...]
    prunable: bool


LAYERS = (
    Named("0.weight", 0, 80, (8, 10), True),
    Named("0.bias", 80, 88, (8,), False),
    Named("norm.weight", 88, 96, (8,), False),
    Named("2.weight", 96, 136, (5, 8), True),
)
"""Eight biases stand beside the first layer, none beside the second."""


def setup(**keys: Any) -> Setup:
    return Setup(PruningConfig(**{"target_density": 0.5, "reconfigure_every": 3, **keys}), 20, LAYERS)


def no_draw() -> float:
    raise AssertionError("feddst draws nothing")


def random_vector(seed: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(136).astype(np.float32)


def test_the_first_mask_is_by_magnitude_and_biases_count_in_its_size() -> None:
    weights = random_vector(0)
    method = feddst()
    assert method.first_mask is not None
    mask = method.first_mask(setup(), weights)
    keeps = kept_entries([(8, 10), (5, 8)], [8, 0], 0.5)
    assert mask.active_per_layer(setup().prunable).tolist() == keeps
    flags = mask.flags()
    assert flags[80:96].all()
    for inside in (slice(0, 80), slice(96, 136)):
        magnitude = np.abs(weights[inside])
        assert magnitude[flags[inside]].min() > magnitude[~flags[inside]].max()


def test_masks_are_readjusted_up_to_half_of_the_run() -> None:
    method, votes = feddst(), Needs.WEIGHTS | Needs.VOTES
    state = method.init(setup(), Mask(136))
    due = [index for index in range(20) if method.needs(setup(), state, index)]
    assert due == [1, 4, 7]
    assert {method.needs(setup(), state, index) for index in due} == {votes}
    assert [i for i in range(20) if feddst(last_round=14).needs(setup(), state, i)] == [1, 4, 7, 10, 13]
    often = setup(reconfigure_every=1)
    assert [i for i in range(20) if feddst(last_round=3).needs(often, state, i)] == [0, 1, 2]


@pytest.mark.parametrize("round_index", [1, 4, 7])
def test_own_masks_keep_their_size_and_change_by_a_decaying_part(round_index: int) -> None:
    method, given_setup = feddst(alpha=0.6), setup()
    assert method.first_mask is not None
    assert method.own_mask is not None
    weights = random_vector(1)
    mask = method.first_mask(given_setup, weights)
    mask.apply(weights)
    own = method.own_mask(given_setup, round_index, weights, random_vector(2), mask)
    keeps = kept_entries([(8, 10), (5, 8)], [8, 0], 0.5)
    assert own.active_per_layer(given_setup.prunable).tolist() == keeps
    part = 0.3 * (1 + np.cos(round_index * np.pi / 10))
    left = kept_entries([(8, 10), (5, 8)], [8, 0], 0.5 + 0.5 * part)
    for layer, keep, after in zip(given_setup.prunable, keeps, left, strict=True):
        inside = slice(layer.start, layer.stop)
        gone = np.count_nonzero(mask.flags()[inside] & ~own.flags()[inside])
        assert 0 < gone <= keep - max(after, 0)


def test_what_is_given_up_and_taken_back_at_once_does_not_keep_its_value() -> None:
    """Of every layer the least weights are given up, and the gradients want them all back."""
    method, given_setup = feddst(alpha=0.6), setup()
    assert method.first_mask is not None
    assert method.own_mask is not None
    assert method.own_kept is not None
    weights = random_vector(1)
    mask = method.first_mask(given_setup, weights)
    mask.apply(weights)
    gradient = np.where(mask.flags(), np.float32(1), np.float32(0))
    own, kept = (each(given_setup, 0, weights, gradient, mask) for each in (method.own_mask, method.own_kept))
    np.testing.assert_array_equal(own.flags(), mask.flags())
    for layer in given_setup.prunable:
        inside = slice(layer.start, layer.stop)
        active, left = mask.flags()[inside], kept.flags()[inside]
        least, most = np.abs(weights[inside])[active & ~left], np.abs(weights[inside])[left]
        assert not (left & ~active).any()
        assert least.size > 0
        assert least.max() <= most.min(initial=np.inf)


def test_the_server_keeps_what_was_voted_for_down_to_the_size() -> None:
    method = feddst(min_votes=5.0)
    assert method.first_mask is not None
    before, weights = method.first_mask(setup(), random_vector(3)), random_vector(6)
    votes = np.where(before.flags(), 6, 5).astype(np.int32)
    votes[:90:7] = 20
    votes[80:96] = 0  # biases stay, whatever is said of them
    state = method.init(setup(), before)
    state, change = method.step(setup(), state, Observation(1, weights=weights, votes=votes), no_draw)
    assert change is not None
    keeps = kept_entries([(8, 10), (5, 8)], [8, 0], 0.5)
    flags = change.mask.flags()
    assert change.mask.active_per_layer(setup().prunable).tolist() == keeps
    first = np.flatnonzero(votes[:80] > 5)
    largest = first[np.argsort(-np.abs(weights[:80][first]))[: keeps[0]]]
    assert np.flatnonzero(flags[:80]).tolist() == sorted(largest.tolist())
    assert flags[80:96].all()
    assert (flags[96:] == before.flags()[96:]).all()
    assert change.facts["voted"] > change.facts["active"] == change.facts["active_before"]
    assert state.mask is change.mask


@pytest.mark.parametrize("agreed", [True, False])
def test_the_mask_stays_where_all_or_none_voted(agreed: bool) -> None:
    method = feddst()
    assert method.first_mask is not None
    weights = random_vector(4)
    mask = method.first_mask(setup(), weights)
    votes = mask.flags().astype(np.int32) if agreed else None
    state = method.init(setup(), mask)
    assert method.step(setup(), state, Observation(1, weights=weights, votes=votes), no_draw) == (state, None)


def test_a_density_that_falls_prunes_in_every_round() -> None:
    method = feddst(final_density=0.2, last_round=10)
    assert method.first_mask is not None
    weights = random_vector(5)
    state = method.init(setup(), method.first_mask(setup(), weights))
    for index in range(14):
        needs = method.needs(setup(), state, index)
        seen = Observation(index, weights=weights if needs else None)
        state, change = method.step(setup(), state, seen, no_draw)
        assert Needs.VOTES in needs or (change is None) == (needs is Needs.NOTHING)
        keeps = kept_entries([(8, 10), (5, 8)], [8, 0], 0.5 + 0.3 * min(1.0, index / 10))
        assert state.mask.active_per_layer(setup().prunable).tolist() == keeps


@pytest.mark.parametrize(
    "method", [feddst(alpha=0.5), feddst(alpha=0.5, last_round=8, final_density=0.2, min_votes=10.0)]
)
def test_the_method_passes_the_checks(method: Any) -> None:
    check_pruning(method, PruningConfig(reconfigure_every=2, target_density=0.4))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"alpha": 0.0}, r"alpha is 0\.0"),
        ({"alpha": 1.1}, r"alpha is 1\.1"),
        ({"last_round": -1}, "last_round is -1"),
        ({"final_density": 2.0}, r"final_density is 2\.0"),
        ({"min_votes": -1.0}, r"min_votes is -1\.0"),
    ],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        feddst(**options)


def test_own_masks_and_importance_are_not_had_together() -> None:
    with pytest.raises(ValueError, match="importance or gives clients masks of their own, not both"):
        replace(feddst(), importance=True)


def test_layers_without_a_shape_are_equally_sparse(setup_of: Callable[..., Setup]) -> None:
    given_setup = setup_of([40, -4, 60], target_density=0.25)
    method = feddst()
    assert method.first_mask is not None
    mask = method.first_mask(given_setup, np.arange(104, dtype=np.float32))
    assert mask.active_per_layer(given_setup.prunable).tolist() == [10, 15]


def test_what_is_not_said_gives_up_a_hundredth_and_one_vote_is_enough() -> None:
    given_setup, weights, gradient = setup(), random_vector(7), random_vector(8)
    plain, method = feddst(alpha=0.01, last_round=10, final_density=0.0, min_votes=0.0), feddst()
    assert method.first_mask is not None
    assert method.own_mask is not None
    assert plain.own_mask is not None
    mask = method.first_mask(given_setup, weights)
    own = [each.own_mask(given_setup, 1, weights, gradient, mask) for each in (method, plain)]
    np.testing.assert_array_equal(own[0].flags(), own[1].flags())
    votes = np.zeros(136, np.int32)
    votes[:20] = 1
    _, change = method.step(
        given_setup, method.init(given_setup, mask), Observation(1, weights=weights, votes=votes), no_draw
    )
    assert change is not None
    assert np.flatnonzero(change.mask.flags()).tolist() == [*range(20), *range(80, 96)]


def test_all_may_be_given_up() -> None:
    feddst(alpha=1.0, final_density=1.0, last_round=0)


def test_a_run_of_one_round_has_an_end() -> None:
    short = replace(setup(reconfigure_every=1), rounds=1)
    method = feddst()
    assert [index for index in range(3) if method.needs(short, method.init(short, Mask(136)), index)] == [0]
