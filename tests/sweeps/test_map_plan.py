"""What a map is made of: methods, runs that are retimed and runs that must be made, and those that have been."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pytest

from fedmpi.analysis.runs import load
from fedmpi.config import ConfigError, dumps, loads
from fedmpi.sweeps.map_plan import by_label, members_of, point_runs, recorded_seconds
from fedmpi.sweeps.points import Point, at
from fedmpi.trace import Phase, TraceWriter
from fedmpi.trace.schema import TABLES

LINK = ["emulation.network.uplink_mbit_per_s=1.0", "emulation.network.downlink_mbit_per_s=4.0"]
FAB = ["experiment.name=fab", 'sparsification.method="fab"']
ADAPTIVE = ["experiment.name=adaptive", 'sparsification.method="fab"', 'k_control.method="ogd_sign"']
HERE, THERE = Point(1.0, 4.0, 1.0), Point(2.0, 8.0, 1.0)


class Runs:
    """Made-up runs of ten rounds, evaluated after each: the accuracy of round r is r / 10, at 5 (r + 1) seconds."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(
        self, name: str, overrides: list[str], status: str = "completed", rounds: int = 10, **more: str
    ) -> Path:
        config = loads('[experiment]\nname = "dense"\nrounds = 10\n', [*LINK, *overrides])
        (self.folder / name).mkdir(parents=True)
        attributes = {
            "config_toml": dumps(config),
            "seed": config.experiment.seed,
            **dict.fromkeys(("clients", "ranks", "parameters"), 3),
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["weight"],
            **more,
        }
        writer = TraceWriter.create(self.folder / name / "trace.h5", attributes)
        integers = {
            column: 0 for column in TABLES["rounds"].names or () if TABLES["rounds"][column].kind == "i"
        }
        for number in range(rounds):
            row = {"round": number, "phase": Phase.FEDERATED, "end_s": 5.0 * (number + 1), "host_s": 0.5}
            writer.append(rounds={**integers, **row, "test_accuracy": number / 10})
        writer.close(status)
        return self.folder / name


@pytest.fixture
def runs(tmp_path: Path) -> Runs:
    return Runs(tmp_path / "runs")


def members(runs: Runs, target: float = 0.5) -> tuple[list[tuple[str, int, bool]], list[str]]:
    """Method, seed and whether a decision saw the time, of each; and the remarks."""
    found, remarks = members_of(load([runs.folder]).runs, target)
    return [(member.method, member.seed, bool(member.decisions)) for member in found], remarks


def test_methods_are_runs_that_differ_in_their_seeds_alone(runs: Runs) -> None:
    for seed in (1, 2):
        runs.add(f"dense-s{seed}", [f"experiment.seed={seed}"])
        runs.add(f"adaptive-s{seed}", [*ADAPTIVE, f"experiment.seed={seed}"])
    found, remarks = members(runs)
    assert sorted(found) == [
        ("adaptive", 1, True),
        ("adaptive", 2, True),
        ("dense", 1, False),
        ("dense", 2, False),
    ]
    assert remarks == []
    member = members_of(load([runs.folder]).runs, 0.5)[0][0]
    assert member.host_s == 5.0


def test_a_method_on_other_links_is_no_other_method(runs: Runs) -> None:
    runs.add("a-slow", [])
    runs.add("b-fast", ["emulation.network.uplink_mbit_per_s=50"])
    runs.add("c-late", ["emulation.network.latency_s=0.5"])
    found, remarks = members(runs)
    assert len(found) == 2
    assert remarks == ["b-fast: left out, it is a-slow on other links"]


def test_a_run_that_ended_early_counts_where_it_had_reached_the_target(runs: Runs) -> None:
    runs.add("dense", [], status="failed", rounds=7)
    runs.add("adaptive", ADAPTIVE, status="preempted", rounds=1)
    assert {method for method, _, _ in members(runs, 0.6)[0]} == {"adaptive", "dense"}
    found, remarks = members(runs, 0.7)
    assert [method for method, _, _ in found] == ["adaptive"]
    assert remarks == ["dense: left out, it is failed and had not reached 0.7"]


def test_a_run_that_is_going_on_is_left_out_unless_it_is_made_anew(runs: Runs) -> None:
    for name, overrides in (("dense", []), ("adaptive", ADAPTIVE)):
        path = runs.add(name, overrides, status="failed") / "trace.h5"
        path.write_bytes(path.read_bytes().replace(b"failed\0\0", b"running\0"))
    found, remarks = members(runs)
    assert [method for method, _, _ in found] == ["adaptive"]
    assert remarks == ["dense: left out, it is still running, or was killed"]


def test_complete_runs_come_before_others_of_the_same_seed(runs: Runs) -> None:
    runs.add("a", [], status="failed", rounds=2)
    runs.add("b", ["experiment.checkpoint_every=3"])
    found, _ = members_of(load([runs.folder]).runs, 0.5)
    assert [member.path.parent.name for member in found] == ["b"]


def test_retimed_runs_and_runs_of_several_speeds_are_no_basis(runs: Runs) -> None:
    runs.add("dense", [])
    runs.add("again", FAB, retiming="exact")
    assert members(runs)[1] == ["again: left out, it was retimed from another run"]
    runs.add("fast", [*FAB, "emulation.compute.speed=2.0"])
    with pytest.raises(ConfigError, match="runs of the speeds 1, 2"):
        members(runs)


def test_code_of_ones_own_is_not_run_because_a_trace_names_it(runs: Runs) -> None:
    runs.add("mine", [*ADAPTIVE, 'sparsification.method="mine:METHOD"'])
    found, _ = members_of(load([runs.folder]).runs, 0.5)
    with pytest.raises(
        ConfigError, match=r"sparsification.* names mine:METHOD.*--trust sparsification\.method"
    ):
        point_runs(found, [HERE])
    (run,) = point_runs(found, [HERE], ["sparsification.method"])
    assert run.config.sparsification.method == "mine:METHOD"


def test_runs_are_named_after_method_point_and_seed(runs: Runs) -> None:
    for seed in (3, 4):
        runs.add(f"adaptive-s{seed}", [*ADAPTIVE, f"experiment.seed={seed}"])
    found, _ = members_of(load([runs.folder]).runs, 0.5)
    made = point_runs(found, [HERE, THERE])
    assert [run.name for run in made] == [
        f"adaptive-{point.name}-s{seed}" for point in (HERE, THERE) for seed in (3, 4)
    ]
    assert list(by_label(made)) == ["adaptive-u1-d4-x1", "adaptive-u2-d8-x1"]
    assert [config.experiment.seed for config in by_label(made)["adaptive-u2-d8-x1"]] == [3, 4]
    assert made[2].config == at(found[0].config, THERE)


def seconds(runs: Runs, point: Point, target: float, tmp_path: Path) -> float | None:
    (member,), _ = members_of(load([runs.folder]).runs, target)
    (run,) = point_runs([member], [point])
    return recorded_seconds(run, tmp_path / "made" / run.name, target)


def test_the_run_of_the_sweep_itself_answers_its_own_point(runs: Runs, tmp_path: Path) -> None:
    runs.add("adaptive", ADAPTIVE)
    assert seconds(runs, HERE, 0.3, tmp_path) == 20.0
    assert seconds(runs, THERE, 0.3, tmp_path) is None
    found = seconds(runs, HERE, 0.95, tmp_path)
    assert found is not None
    assert isnan(found)


@pytest.mark.parametrize(
    ("overrides", "status", "rounds", "expected"),
    [
        ([], "completed", 10, 35.0),
        (["experiment.stop_at_accuracy=0.6"], "completed", 7, 35.0),
        (["experiment.stop_at_accuracy=0.6"], "failed", 7, 35.0),
        (["experiment.stop_at_accuracy=0.5"], "completed", 6, None),
        ([], "preempted", 6, None),
        (["experiment.rounds=5"], "completed", 5, None),
        (["experiment.stop_at_emulated_s=20.0"], "completed", 4, None),
        (["training.batch_size=7"], "completed", 10, None),
        ([], "completed", 6, np.nan),
    ],
)
def test_what_a_run_that_was_made_answers(
    runs: Runs, tmp_path: Path, overrides: list[str], status: str, rounds: int, expected: float | None
) -> None:
    """Time to 0.6; NaN: it ended as it was asked to without; None: it is of another experiment, or not done."""
    runs.add("adaptive", ADAPTIVE)
    there = ["emulation.network.uplink_mbit_per_s=2.0", "emulation.network.downlink_mbit_per_s=8.0"]
    made = Runs(tmp_path / "made")
    made.add("adaptive-u2-d8-x1-s0", [*ADAPTIVE, *there, *overrides], status=status, rounds=rounds)
    found = seconds(runs, THERE, 0.6, tmp_path)
    if expected is None:
        assert found is None
    else:
        assert found == pytest.approx(expected, nan_ok=True)
