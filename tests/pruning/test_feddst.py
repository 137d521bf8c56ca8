"""The rules of FedDST: the vectors of its authors' program, and where fedmpi differs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmpi.pruning.feddst import decayed, kept_entries, pruned_to, readjusted, voted

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
            mean, kept = voted(weights, masks, samples, case["settings"]["min_votes"])
            if round_["server_repruned"]:
                kept = pruned_to(mean.astype(np.float32), kept, keep[layer])
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


def test_a_vote_by_hand() -> None:
    weights = np.array([[2, 4, 6], [6, 0, 9]], np.float32)
    masks = np.array([[True, True, False], [True, False, False]])
    mean, kept = voted(weights, masks, np.array([1, 3]))
    assert mean.tolist() == [5.0, 4.0, 0.0]
    assert kept.tolist() == [True, True, False]
    assert voted(weights, masks, np.array([1, 3]), min_votes=1.0)[1].tolist() == [True, False, False]


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
