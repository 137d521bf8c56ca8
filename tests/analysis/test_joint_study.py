"""The tables of the study of both adaptations: what a run took to an accuracy, and what it is compared with."""

from __future__ import annotations

import importlib
import sys
from math import inf, isnan, nan
from pathlib import Path

import pytest

from fedmpi.cli.main import main
from fedmpi.trace import read

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
femnist_study = importlib.import_module("femnist_study")
joint_study = importlib.import_module("joint_study")

RUN = """
[experiment]
rounds = 4
evaluate_every = 2
[clients]
count = 3
[model]
hidden = [8]
[emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
[emulation.network]
uplink_mbit_per_s = [0.1, 0.2, 0.4]
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    (folder / "run.toml").write_text(RUN)
    assert main(["run", str(folder / "run.toml"), "--output", str(folder / "run"), "--quiet"]) == 0
    return folder / "run"


def test_amounts_are_those_up_to_the_evaluation_with_the_accuracy(run: Path) -> None:
    """The first evaluation is after round 1, so its accuracy is reached with two of the four rounds."""
    trace = read(run)
    accuracy = float(trace.rounds["test_accuracy"].dropna().iloc[0])
    found = femnist_study.amounts_to(run, accuracy)
    rounds, clients = trace.rounds.iloc[:2], trace.clients[trace.clients["round"] < 2]
    assert found.seconds == rounds["end_s"].iloc[-1] < trace.rounds["end_s"].iloc[-1]
    assert found.bytes == rounds["bytes_up"].sum() + rounds["bytes_down"].sum()
    assert clients["wait_s"].sum() > 0
    assert found.joules == pytest.approx(6.4 * clients["compute_s"].sum() + 2.7 * clients["wait_s"].sum())
    never = femnist_study.amounts_to(run, 1.01)
    assert all(map(isnan, (never.seconds, never.bytes, never.joules)))


def seconds(*values: float) -> dict[str, object]:
    return {f"s{seed}": femnist_study.Amounts(each, 1.0, 1.0) for seed, each in enumerate(values, 1)}


def test_both_at_once_are_compared_with_the_fastest_part_of_the_same_initial_pruning() -> None:
    methods = {
        "both-charged": seconds(90.0),
        "both-nothing": seconds(80.0),
        "prunefl-charged": seconds(100.0),
        "prunefl-nothing": seconds(300.0),
        "prunefl_ogd_sign-charged": seconds(10.0),
        "norm_rate": seconds(190.0, 210.0),
        "k1": seconds(nan, 5.0),
    }
    assert joint_study._best_single_part(methods, "both-charged") == 100.0
    assert joint_study._best_single_part(methods, "both-nothing") == 200.0
    assert joint_study._best_single_part(methods, "norm_rate") == 200.0
    assert joint_study._best_single_part({"both": seconds(1.0), "k1": seconds(nan)}, "both") == inf
    lines = joint_study._table({"mbit0p3": methods}, 0.5).splitlines()
    ratios = {
        cells[2]: cells[-2] for cells in ([cell.strip() for cell in line.split("|")] for line in lines[4:])
    }
    assert ratios["both-charged"] == "0.90"
    assert ratios["both-nothing"] == "0.40"
    assert ratios["k1"] == "-"
    assert {line.split("|")[1].strip() for line in lines[4:]} == {"0.3"}


def test_every_point_is_drawn_at_its_rate() -> None:
    costs = {
        "mbit10": {
            "both-charged": seconds(5.0),
            "k1": seconds(7.0),
            "k10": seconds(6.0),
            "dense": seconds(nan),
        },
        "mbit0p3": {"k1": seconds(70.0), "dense": seconds(500.0)},
    }
    (axes,) = joint_study.drawn(costs, 0.5).axes
    lines = {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in axes.lines}
    assert lines == {
        "best fixed k": ([0.3, 10.0], [70.0, 6.0]),
        "both, initial pruning charged": ([10.0], [5.0]),
        "dense": ([0.3], [500.0]),
    }
