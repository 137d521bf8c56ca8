"""``fedmpi map`` on a tiny sweep of one method that is retimed and one that saw the time, whose runs are made."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from fedmpi.analysis.winners import TIMES
from fedmpi.cli.main import main
from fedmpi.trace import read

SWEEP = """
seeds = [1, 2]
[base.experiment]
rounds = 6
evaluate_every = 2
[base.clients]
count = 3
[base.data]
dataset = "digits"
[base.training]
learning_rate = 0.3
[base.emulation.network]
uplink_mbit_per_s = 0.05
downlink_mbit_per_s = 0.5
[axes.method]
dense = {}
adaptive = { sparsification.method = "fab", k_control.method = "ogd_sign" }
"""
GRID = ("--uplink", "0.05,0.5", "--target", "0.2", "--jobs", "1")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mapped")
    (folder / "tiny.toml").write_text(SWEEP)
    assert (
        main(["sweep", str(folder / "tiny.toml"), "--output", str(folder / "runs"), "--quiet", "--jobs", "1"])
        == 0
    )
    return folder / "runs"


@pytest.fixture(scope="module")
def drawn(study: Path) -> Path:
    """The folder of a map all of whose runs were made."""
    output = study.parent / "map"
    assert main(["map", str(study), *GRID, "--output", str(output), "--quiet"]) == 0
    return output


def test_exact_times_and_those_of_runs_are_in_one_table(study: Path, drawn: Path) -> None:
    times = pd.read_csv(drawn / "times.csv")
    assert tuple(times.columns) == TIMES
    assert len(times) == 2 * 2 * 2
    assert times.groupby("method").how.unique().map(list).to_dict() == {
        "dense": ["exact"],
        "adaptive": ["run"],
    }
    assert list(times.downlink_mbit_per_s / times.uplink_mbit_per_s) == pytest.approx([10.0] * 8)
    for row in times[times.uplink_mbit_per_s == 0.05].itertuples():
        rounds = read(study / f"{row.method}-s{row.seed}").rounds
        assert row.seconds == rounds.end_s[rounds.test_accuracy >= 0.2].iloc[0]
    winners = pd.read_csv(drawn / "map.csv")
    assert list(winners.uplink_mbit_per_s) == [0.05, 0.5]
    assert set(winners.seeds) == {2}
    assert (drawn / "map.pdf").read_bytes().startswith(b"%PDF")


def test_runs_are_made_where_the_sweep_has_none_and_stop_at_the_target(study: Path, drawn: Path) -> None:
    made = sorted(path.parent.name for path in (drawn / "runs").glob("*/trace.h5"))
    assert made == ["adaptive-u0.5-d5-x1-s1", "adaptive-u0.5-d5-x1-s2"]
    times = pd.read_csv(drawn / "times.csv")
    for name, seed in zip(made, (1, 2), strict=True):
        trace = read(drawn / "runs" / name)
        assert trace.config["emulation"]["network"]["uplink_mbit_per_s"] == 0.5
        assert trace.config["experiment"]["stop_at_accuracy"] == 0.2
        row = times[(times.how == "run") & (times.uplink_mbit_per_s == 0.5) & (times.seed == seed)]
        assert float(row.seconds.iloc[0]) == trace.rounds.end_s.iloc[-1]


def test_what_was_made_is_used_again(study: Path, drawn: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in (drawn / "runs").glob("*/trace.h5")}
    assert main(["map", str(study), *GRID, "--output", str(drawn)]) == 0
    out = capsys.readouterr().out
    assert (
        "4 runs of adaptive (k_control.method), where decisions saw the time: 4 are there, 0 must be made"
        in out
    )
    assert {path: path.stat().st_mtime_ns for path in (drawn / "runs").glob("*/trace.h5")} == before


def test_the_list_is_one_for_job_arrays(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "listed"
    assert main(["map", str(study), *GRID, "--output", str(output), "--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[:3] for line in listed[:2]] == [
        ["0", "-", "adaptive-u0.05-d0.5-x1-s1"],
        ["1", "-", "adaptive-u0.5-d5-x1-s1"],
    ]
    assert listed[-2] == f"# one of them: fedmpi sweep {output}/runs.toml --output {output}/runs --index I"
    assert "--array=0-3 jobs/sweep.sbatch" in listed[-1]
    assert not (output / "runs").exists()
    command = listed[-2].split("fedmpi ")[1].replace(" I", " 3").split()
    assert main([*command, "--quiet"]) == 0
    assert read(output / "runs" / "adaptive-u0.5-d5-x1-s2").attributes["status"] == "completed"


def test_methods_that_saw_the_time_are_left_out_or_marked(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", str(study), *GRID, "--output", str(tmp_path), "--only-exact"]) == 2
    error = capsys.readouterr().err.splitlines()
    assert error[0] == 'fedmpi: adaptive: left out, k_control.method "ogd_sign" chose k by the time of rounds'
    assert "a map compares methods" in error[1]
    picture = tmp_path / "sub" / "mine.svg"
    assert main(["map", str(study), *GRID, "--output", str(picture), "--approximate"]) == 0
    assert sorted(path.name for path in picture.parent.iterdir()) == [
        "mine-times.csv",
        "mine.csv",
        "mine.svg",
    ]
    times = pd.read_csv(picture.parent / "mine-times.csv")
    assert set(times.how[times.method == "adaptive"]) == {"approximate"}


def test_a_sweep_is_named_by_the_folder_of_its_runs(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["map", str(study.parent / "tiny.toml"), *GRID]) == 2
    assert "allowed: the folder of its runs, such as runs/tiny" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--uplink", "1:2", "--target", "0.2"], "--uplink: found"),
        (["--uplink", "1", "--target", "1.2"], "--target"),
        (["--uplink", "1", "--target", "0.2", "--speed", "0"], "--speed: found"),
        (["--uplink", "1", "--target", "0.2", "--downlink", "fast"], "--downlink: found"),
        (["--uplink", "1", "--target", "0.2", "--label", "one"], "--label: found 1 for 2 methods"),
        (["--uplink", "1", "--target", "0.2", "--only-exact", "--approximate"], "not allowed with"),
    ],
)
def test_bad_arguments_are_one_line(
    study: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["map", str(study), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
