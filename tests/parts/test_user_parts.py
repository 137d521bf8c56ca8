"""A folder of parts outside of the package: each runs by name, on any ranks, resumes, and is known to ``check``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.testing import (
    check_aggregation,
    check_availability,
    check_compute,
    check_dataset,
    check_k_control,
    check_partition,
    check_pruning,
    check_runs,
    check_sparsification,
)

MINE = Path(__file__).parent / "mine"

FAB = ["sparsification.method=fab", "sparsification.k=40", "k_control.method=fixed"]
DENSE = ["sparsification.method=dense", "k_control.method=fixed"]

PARTS: dict[str, list[str]] = {
    "random_k": ["sparsification.method=random_k:METHOD", "sparsification.k=40", "k_control.method=fixed"],
    "threshold": [
        "sparsification.method=random_k:by_threshold",
        "sparsification.options.least=0.02",
        "sparsification.k_fraction=0.5",
        "k_control.method=fixed",
    ],
    "ternary": ["sparsification.method=ternary:METHOD", "sparsification.k=40", "k_control.method=fixed"],
    "trimming": [*DENSE, "federation.aggregator=own_trimming:without_extremes"],
    "controller": [
        "sparsification.method=fab",
        "sparsification.k=0",
        "sparsification.k_fraction=0",
        "k_control.method=halving:halving",
        "k_control.options.factor=3",
    ],
    "pruning": [*FAB, "pruning.method=stripes:stripes", "pruning.options.every=4"],
    "aggregator": [*DENSE, "federation.aggregator=own_momentum:fedavgm", "federation.options.beta=0.5"],
    "aggregator_sparse": [*FAB, "federation.aggregator=own_momentum:fedavgm"],
    "compute": [
        *DENSE,
        "emulation.compute.model=hot_devices:throttled",
        "emulation.compute.options.step_s=0.5",
        "pruning.method=prunefl",
        "pruning.reconfigure_every=2",
    ],
    "availability": [
        *DENSE,
        "emulation.availability.model=night_shift:shifts",
        "emulation.availability.options.period_s=3.0",
        "emulation.compute.model=unit",
        "emulation.compute.unit_s=0.7",
    ],
    "data": [
        *DENSE,
        "data.dataset=spirals:spirals",
        "data.path=.",
        "data.partition=strides:overlapping_strides",
        "data.options={samples = 120, shared_fraction = 0.2}",
        "model.name=two_layers:net",
        "model.options.width=5",
    ],
}
"""What stands in one line, or a few, of a configuration for each part."""


@pytest.fixture(autouse=True)
def in_the_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(MINE)
    monkeypatch.syspath_prepend(MINE)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_runs_on_any_ranks_and_resumes(name: str) -> None:
    trace = check_runs("quickstart", *PARTS[name], ranks=(1, 3))
    assert len(trace.rounds) == 6
    if name == "availability":
        shifts = trace.clients.groupby("round").client.agg(lambda clients: set(clients % 2))
        assert {len(shift) for shift in shifts} == {1}
        assert {frozenset(shift) for shift in shifts} == {frozenset({0}), frozenset({1})}
    if name == "controller":
        assert trace.rounds.k.is_monotonic_decreasing
        assert trace.rounds.k.nunique() > 1
    if name == "pruning":
        assert trace.rounds.density.iloc[-1] == pytest.approx(0.75, abs=0.01)


def checked(*overrides: str) -> subprocess.CompletedProcess[str]:
    """``fedmpi check`` of the quickstart with these, in a process of its own, forked with torch where that can be."""
    command = [sys.executable, "-P", "-m", "fedmpi.mpi.forkserver", "-m", "fedmpi", "check", "quickstart"]
    return subprocess.run([*command, *overrides], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_known_to_check(name: str) -> None:
    done = checked(*PARTS[name])
    assert done.returncode == 0, done.stderr
    part = next(value for _, _, value in (line.partition("=") for line in PARTS[name]) if ":" in value)
    assert f'"{part}"' in done.stdout


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["sparsification.method=random_k:by_threshold", "sparsification.options.last=1"],
            "[sparsification.options] last: unknown option",
        ),
        (
            ["k_control.method=halving:halving", "k_control.options.factor=many"],
            'found "many"; allowed: an integer',
        ),
        (["emulation.compute.model=hot_devices:throttled"], "[emulation.compute.options] step_s: is not set"),
        (["data.options.sample=3"], "[data.options] sample: unknown option"),
        (["pruning.method=stripes:strips"], "has no 'strips'; did you mean stripes?"),
        (
            ["federation.aggregator=no_such_file:x"],
            "[federation] aggregator: 'no_such_file:x' cannot be imported",
        ),
    ],
)
def test_a_wrong_option_is_one_line_with_those_allowed(overrides: list[str], message: str) -> None:
    done = checked(*overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_parts_keep_what_every_part_must() -> None:
    import halving
    import hot_devices
    import night_shift
    import own_momentum
    import own_trimming
    import random_k
    import spirals
    import strides
    import stripes
    import ternary

    check_sparsification(random_k.METHOD)
    check_sparsification(ternary.METHOD)
    check_sparsification(random_k.by_threshold(least=2000.0))
    check_k_control(halving.halving())
    check_pruning(stripes.stripes())
    check_aggregation(own_momentum.fedavgm())
    check_aggregation(own_trimming.without_extremes())
    check_compute(hot_devices.throttled(step_s=0.5))
    check_availability(night_shift.shifts())
    check_dataset(spirals.spirals)
    check_partition(strides.overlapping_strides)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["k_control.options.k=10.5"],
            '[k_control] method: "impossible:chooses": step gave k = 10.5 (float)',
        ),
        (["k_control.options.k=0"], '[k_control] method: "impossible:chooses": step gave k = 0;'),
        (["k_control.options={k = 50, k_probe = 50}"], '"impossible:chooses": step gave k_probe = 50'),
        (
            ["emulation.compute.model=impossible:NEGATIVE"],
            '[emulation.compute] model: "impossible:NEGATIVE": seconds gave -1.0 s',
        ),
        (
            ["emulation.compute.model=impossible:OF_ONE"],
            '"impossible:OF_ONE": seconds gave seconds as float64 of shape (1,); allowed:',
        ),
        (
            ["emulation.availability.model=impossible:NEVER"],
            '[emulation.availability] model: "impossible:NEVER" has no client that can be asked',
        ),
    ],
)
def test_impossible_values_of_a_part_are_one_line(overrides: list[str], message: str) -> None:
    if "k_control" in overrides[0]:
        overrides = ["k_control.method=impossible:chooses", *overrides]
    done = checked(*overrides)
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
