"""The checks of aggregators, emulation and data accept built-in parts, and find each kind of fault."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi import aggregation
from fedmpi.aggregation import Aggregator
from fedmpi.config import parts
from fedmpi.config.emulation_schema import AvailabilityConfig
from fedmpi.config.guarding import Guard
from fedmpi.emulation import compute
from fedmpi.emulation.availability import AvailabilityModel
from fedmpi.emulation.compute import Compute, ComputeModel
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.guarded import guarded_compute
from fedmpi.learning import partition
from fedmpi.learning.datasets import Dataset
from fedmpi.testing import (
    check_aggregation,
    check_availability,
    check_compute,
    check_dataset,
    check_partition,
)

_STATE = np.random.default_rng(1)


def _fails(message: str, check: Callable[..., None], part: Any) -> None:
    with pytest.raises(AssertionError, match=message) as caught:
        check(part)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", aggregation.BUILT_IN)
def test_aggregators_pass(name: str) -> None:
    check_aggregation(parts.build("federation.aggregator", name, {}, Aggregator))


def _stepping(step: Any, **fields: Any) -> Aggregator:
    given = {"init": lambda parameters: {"m": np.zeros(parameters)}, "bytes_per_parameter": 8, **fields}
    return Aggregator(summary="broken", step=step, **given)


_HOARD: dict[int, Any] = {}


def _hoarding(state: Any, mean: Any, indices: Any) -> Any:
    _HOARD[mean.size] = 0.5 * _HOARD.get(mean.size, 0.0) + mean
    return state, _HOARD[mean.size]


def _spoiling(updates: Any, samples: Any) -> Any:
    updates[:] = 0.0
    return updates[0]


AGGREGATORS: dict[str, tuple[Aggregator, str]] = {
    "shape": (_stepping(lambda s, m, i: (s, m[:1])), r"the change as float32 of shape \(1,\)"),
    "nan": (_stepping(lambda s, m, i: (s, m * np.nan)), "the change with nan at 0"),
    "beyond float32": (
        _stepping(lambda s, m, i: (s, np.full(m.shape, 1e300))),
        r"step gave the change with 1e\+300 at 0; allowed: finite numbers of float32",
    ),
    "combined beyond float32": (
        Aggregator(
            summary="broken",
            combine=lambda u, s: np.full(u.shape[1], -1e300),
            sparse_refused="which combines",
        ),
        r"combine gave its result with -1e\+300 at 0; allowed: finite numbers of float32",
    ),
    "numbered": (
        Aggregator(summary="broken", init=lambda p: {1: 0}, step=lambda s, m, i: (s, m)),  # type: ignore[dict-item]
        "init gave a state with the key 1; allowed: texts as names in a state",
    ),
    "large": (
        Aggregator(summary="broken", init=lambda p: {"t": 2**63}, step=lambda s, m, i: (s, m)),
        "init gave state t = 9223372036854775808; allowed: integers of 64 bits",
    ),
    "no pair": (_stepping(lambda s, m, i: m), "allowed: two values"),
    "hoarding": (_stepping(_hoarding), "another result for the same arguments"),
    "state": (_stepping(lambda s, m, i: ({}, m)), "a state of nothing; allowed: that of m"),
    "more bytes": (_stepping(lambda s, m, i: (s, m), bytes_per_parameter=4), "which is 4; it must be 8"),
    "everywhere": (_stepping(lambda s, m, i: ({"m": s["m"] + 1}, m)), "of which nothing arrived"),
    "together": (
        _stepping(lambda s, m, i: (s, m / (1 + s["m"].size)), dense=False),
        "depending on the others",
    ),
    "global": (
        _stepping(lambda s, m, i: (s, m * np.random.random())),  # noqa: NPY002
        "step draws from a global generator",
    ),
    "spoiling": (
        Aggregator(summary="broken", combine=_spoiling, sparse_refused="which combines"),
        "leaves its arguments as they are",
    ),
    "rows": (
        Aggregator(summary="broken", combine=lambda u, s: u, sparse_refused="which combines"),
        "combine gave its result as float32 of shape",
    ),
    "silent": (Aggregator(summary="broken", combine=lambda u, s: u[0]), "without sparse_refused"),
}


@pytest.mark.parametrize("name", AGGREGATORS)
def test_a_broken_aggregator_is_found(name: str) -> None:
    _HOARD.clear()
    _fails(AGGREGATORS[name][1], check_aggregation, AGGREGATORS[name][0])


@pytest.mark.parametrize("name", compute.BUILT_IN)
def test_compute_models_pass(name: str) -> None:
    check_compute(parts.build("emulation.compute.model", name, {}, ComputeModel))


@pytest.mark.parametrize(
    ("seconds", "message"),
    [
        (lambda setup, training: -training.steps - 1, "gave -.* s at 0; allowed: finite seconds from 0 on"),
        (lambda setup, training: np.ones(99), r"seconds as float64 of shape \(99,\)"),
        (lambda setup, training: 1.0, r"seconds as 1\.0; allowed: numbers of shape"),
        (lambda setup, training: training.steps * _STATE.random(), "another result for the same arguments"),
        (lambda setup, training: training.nothing, "failed: AttributeError"),
        (lambda setup, training: training.host_s, "gave nan s"),
        (lambda setup, training: training.steps + 2e18, r"gave .*e\+18 s at 0; .* from 0 on, at most 1e\+18"),
    ],
)
def test_a_broken_compute_model_is_found(seconds: Any, message: str) -> None:
    _fails(message, check_compute, ComputeModel(summary="broken", seconds=seconds))


@pytest.mark.parametrize(
    ("error", "message"),
    [(EmulationError("not these devices"), None), (KeyError("c"), "check failed: KeyError: 'c'")],
)
def test_a_check_of_a_compute_model_may_refuse_and_not_fail(error: Exception, message: str | None) -> None:
    def check(setup: Any, prunable_layers: int) -> None:
        raise error

    model = ComputeModel(summary="broken", seconds=lambda setup, training: training.steps, check=check)
    if message is None:
        check_compute(model)
        guard = Guard("emulation.compute.model", "mine:MODEL")
        with pytest.raises(EmulationError, match="not these devices"):
            Compute(guarded_compute(model, guard), None).check(2)
    else:
        _fails(message, check_compute, model)


@pytest.mark.parametrize("name", ["always", "probability"])
def test_availability_models_pass(name: str) -> None:
    model = parts.build("emulation.availability.model", name, {}, AvailabilityModel)
    check_availability(model, AvailabilityConfig(model=name, probability=0.3))


def _all(setup: Any, round_index: int, start_s: float) -> Any:
    return np.ones(setup.clients, np.bool_)


def _nobody(setup: Any, round_index: int, start_s: float) -> Any:
    return np.zeros(setup.clients, np.bool_)


def _moody(setup: Any, round_index: int, start_s: float) -> Any:
    return start_s + 1.0 + _STATE.random()


def _moody_leaving(setup: Any, round_index: int, start_s: float) -> Any:
    return start_s + _STATE.random(setup.clients)


def test_coefficients_are_those_of_a_pure_function() -> None:
    def coefficients(setup: Any, training: Any) -> Any:
        clients, layers = len(training.clients), len(training.active)
        return _STATE.random(clients), np.zeros((clients, layers))

    model = ComputeModel(
        summary="broken", seconds=lambda setup, training: training.steps, coefficients=coefficients
    )
    _fails("coefficients gave another result for the same arguments", check_compute, model)


AVAILABILITY: dict[str, tuple[dict[str, Any], str]] = {
    "moody moments": (
        {"available": _nobody, "next_s": _moody},
        "next_s gave another result for the same arguments",
    ),
    "moody leaving": (
        {"available": _all, "leaves_s": _moody_leaving},
        "leaves_s gave another result for the same arguments",
    ),
    "numbers": ({"available": lambda s, r, t: np.arange(s.clients)}, "as int64 of shape .* allowed: bool"),
    "moody": (
        {"available": lambda s, r, t: _STATE.random(s.clients) < 0.5, "next_s": lambda s, r, t: t + 1},
        "another result for the same arguments",
    ),
    "back": (
        {"available": _nobody, "next_s": lambda s, r, t: t},
        "next_s gave 0.* allowed: a moment after 0",
    ),
    "never": ({"available": _nobody, "next_s": lambda s, r, t: t + 1}, "at which available has nobody"),
    "gone": (
        {"available": _all, "leaves_s": lambda s, r, t: np.full(s.clients, t - 1)},
        "leaves_s gave -1 for client 0, who is there at 0",
    ),
    "nan": (
        {"available": _all, "leaves_s": lambda s, r, t: np.full(s.clients, np.nan)},
        "gave nan for client 0",
    ),
}


@pytest.mark.parametrize("name", AVAILABILITY)
def test_a_broken_availability_model_is_found(name: str) -> None:
    fields, message = AVAILABILITY[name]
    _fails(message, check_availability, AvailabilityModel(summary="broken", **fields))


def _samples(folder: Path, noise: float = 0.0, labels: int = 0) -> Dataset:
    y = np.arange(12) % 3 + labels
    x = np.full((12, 1, 2, 2), 0.5 + noise, np.float32)
    return Dataset(x, y, None, x, y, classes=3)


@pytest.mark.parametrize(
    ("read", "message"),
    [
        (lambda folder: _samples(folder, labels=1), "gave train_y as int64 .* from 1 to 3"),
        (lambda folder: _samples(folder, noise=float("nan")), "train_x with nan or inf"),
        (lambda folder: _samples(folder, noise=_STATE.random()), "another result for the same arguments"),
        (lambda folder: 7, "gave a int; allowed: a fedmpi.learning.datasets.Dataset"),
        (lambda folder: [][1], "failed: IndexError"),
    ],
)
def test_a_broken_data_set_is_found(read: Any, message: str) -> None:
    check_dataset(_samples)
    check_dataset(lambda folder: _samples(folder, noise=np.random.random()))  # noqa: NPY002 (seeded, as in a run)
    _fails(message, check_dataset, read)


def test_partitions_pass() -> None:
    check_partition(partition.case1)
    check_partition(partition.case3)


@pytest.mark.parametrize(
    ("divide", "message"),
    [
        (lambda y, w, n, draw: [np.arange(y.size)] * (n + 1), "gave a list of"),
        (lambda y, w, n, draw: [np.array([y.size])] * n, "out of range or there twice"),
        (lambda y, w, n, draw: [np.array([0, 0])] * n, "out of range or there twice"),
        (lambda y, w, n, draw: [np.arange(2), *[np.arange(0)] * (n - 1)], "gave client 1 no sample"),
        (lambda y, w, n, draw: np.array_split(_STATE.permutation(y.size), n), "another result for the same"),
        (lambda y, w, n, draw: [y.sort()] * n, "leaves its arguments as they are"),
    ],
)
def test_a_broken_partition_is_found(divide: Any, message: str) -> None:
    _fails(message, check_partition, divide)
