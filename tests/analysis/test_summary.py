"""The table of runs: exact figures of made-up runs, and uncertainty over seeds."""

from __future__ import annotations

import io
import json
from math import isnan

import numpy as np
import pandas as pd
import pytest

from fedmpi.analysis import groups, summary
from fedmpi.analysis.fairness import gini
from fedmpi.analysis.runs import AnalysisError, load
from fedmpi.analysis.summary_forms import as_json, as_latex, escaped
from fedmpi.cli.main import main
from fedmpi.trace import read


@pytest.fixture
def runs(made_up):
    return [str(made_up("fast", 0.04)), str(made_up("slow", 0.02, seconds=1.0, status="preempted"))]


@pytest.fixture
def seeds(made_up):
    """``base`` with three seeds, and ``quick``, which is 1, 2 and 3 units of 20 s faster with the same seeds."""
    folders = [
        made_up(f"base-{seed}", 0.04, name="base", seconds=8.0 - seed, seed=seed) for seed in (1, 2, 3)
    ]
    quick = "[training]\nlearning_rate = 0.3\n"
    for seed in (1, 2, 3):
        seconds = 8.0 - seed - 0.5 * seed
        folders.append(made_up(f"quick-{seed}", 0.04, name="quick", seconds=seconds, seed=seed, config=quick))
    return groups.pooled(load(folders).runs)


def test_summary_of_one_run(made_up):
    row = summary.summarized(read(made_up("one", 0.04)), target=0.5)
    assert row["rounds"] == 40
    assert row["status"] == "completed"
    assert row["final_accuracy"] == row["best_accuracy"] == pytest.approx(0.1 + 0.04 * 19)
    assert row["time_to_target_s"] == 21 * 2.5
    assert row["mbytes_to_target"] == pytest.approx(21 * 4.0)
    assert row["emulated_s"] == 100.0
    assert (row["mbytes_up"], row["mbytes_down"]) == (40.0, 120.0)
    assert row["k"] == 610
    assert row["density"] == pytest.approx(0.61)
    assert row["host_s"] == 20.0
    assert "energy_j" not in row


def test_energy_is_in_the_table_where_a_trace_has_it(small_sweep):
    trace = read(small_sweep / "fab-s1")
    clients = trace.clients.assign(energy_j=2.0)
    row = summary.summarized(type(trace)(**{**vars(trace), "clients": clients}), target=0.0)
    assert row["energy_j"] == 2.0 * 4 * 12
    assert row["energy_to_target_j"] == 2.0 * 4 * 3  # the first evaluation is after three rounds


def test_fairness_of_the_last_test_at_clients_is_in_the_table(small_sweep):
    trace = read(small_sweep / "fab-s1")
    assert "clients_gini" not in summary.summarized(trace, target=0.0)
    tests = pd.DataFrame(
        {
            "round": [3] * 3 + [6] * 23,
            "client": [*range(3), *range(23)],
            "samples": [5] * 3 + [0] + [5] * 22,
            "accuracy": [0.0] * 3 + [0.0] + [0.3, 0.1] + [0.5] * 20,
        }
    )
    row = summary.summarized(type(trace)(**{**vars(trace), "client_tests": tests}), target=0.0)
    assert row["worst_clients_accuracy"] == pytest.approx(0.2)  # two of 22, and one without samples
    assert row["clients_gini"] == pytest.approx(gini(np.array([0.1, 0.3] + [0.5] * 20)))
    assert 0.0 < row["clients_gini"] < 0.1


def test_target_is_the_lowest_of_the_best_accuracies(runs, capsys):
    assert main(["summarize", *runs, "--csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="name")
    assert list(table.index) == ["example", "example"]
    assert list(table.target) == pytest.approx([0.48, 0.48])
    assert list(table.time_to_target_s) == [21 * 2.5, 39.0]
    assert list(table.status) == ["completed", "preempted"]


def test_target_that_was_not_reached_is_a_dash(runs, capsys):
    assert main(["summarize", *runs, "--target", "0.7", "--wide"]) == 0
    header, fast, slow = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["name", "status", "rounds", "final_accuracy"]
    assert fast.split()[-1] == slow.split()[-1] == "20.0"
    assert "-" not in fast.split()
    assert slow.split().count("-") == 2
    column = header.index("time_to_target_s") + len("time_to_target_s")
    assert fast[column - 4 : column] == "77.5"
    assert slow[column - 1] == "-"


def test_run_without_rounds(made_up):
    table = summary.table(groups.pooled(load([made_up("empty", 0.04, rounds=0, status="failed")]).runs))
    assert table["rounds"].iloc[0] == 0
    assert table[["final_accuracy", "best_accuracy", "emulated_s", "k"]].isna().all(axis=None)
    assert "failed" in summary.aligned(table)


def test_one_run_has_no_target_of_its_own(made_up, capsys):
    run = str(made_up("one", 0.04))
    targets = ["target", "time_to_target_s", "mbytes_to_target"]
    assert main(["summarize", run, "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert not set(targets) & set(header.split(","))
    assert (header.count(","), row.split(",")[:3]) == (10, ["example", "completed", "40.0"])
    assert main(["summarize", run, "--csv", "--target", "0.4"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table[targets].iloc[0].tolist() == [0.4, 17 * 2.5, 17 * 4.0]


@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_the_table_fits_the_terminal_and_shows_every_figure(runs, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert main(["summarize", *runs, "--target", "0.4"]) == 0
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= max(width, len("example  time_to_target_s"))
    blocks = [block.splitlines() for block in text.split("\n\n")]
    columns = [name for block in blocks for name in block[0].split()[1:]]
    frame = summary.table(groups.pooled(load(runs).runs), 0.4)
    assert columns == list(frame.columns)
    slow = " ".join(block[2].removeprefix("example") for block in blocks).split()
    assert slow[columns.index("time_to_target_s")] == "31.0"
    assert main(["summarize", *runs, "--target", "0.4", "--wide"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_columns_fill_the_width_to_the_last_character(made_up):
    frame = summary.table(groups.pooled(load([made_up("one", 0.04)]).runs))[["rounds", "status"]]
    assert summary.aligned(frame, 26) == "name     rounds     status\nexample      40  completed"
    assert summary.aligned(frame, 25).count("\n\n") == 1


def test_long_names_are_folded_between_words(made_up):
    name = "a name of quite a few words that does not fit"
    frame = summary.table(groups.pooled(load([made_up("one", 0.04, name=name)]).runs))[["rounds"]]
    header, first, second = summary.aligned(frame, 80).splitlines()
    assert first.split()[-1] == "40"
    assert f"{first.removesuffix('40').strip()} {second}" == name
    assert name in summary.aligned(frame)
    assert len(header) == len(first)


def test_seeds_are_means_with_intervals(seeds):
    frame = summary.table(seeds, 0.5)
    base = frame.loc["base"]
    assert (base.seeds, base.reached, base.time_to_target_s) == (3, 3, 21 * 6.0)
    assert (base.time_to_target_s_low, base.time_to_target_s_high) == (21 * 5.0, 21 * 7.0)
    assert summary.texts(frame).loc["base", "time_to_target_s"] == "126.0 [105.0, 147.0]"
    assert summary.texts(frame).loc["base", "rounds"] == "40"
    assert "seeds" not in summary.table(groups.single(seeds[0].runs))


def test_a_target_that_not_all_seeds_reached_has_no_mean(made_up):
    folders = [made_up(f"s{seed}", 0.02 * seed, seed=seed) for seed in (1, 2)]
    row = summary.table(groups.pooled(load(folders).runs), 0.6).iloc[0]
    assert (row.seeds, row.reached) == (2, 1)
    assert isnan(row.time_to_target_s)
    assert isnan(row.time_to_target_s_low)


def test_configurations_are_compared_on_the_same_seeds(seeds):
    pairs = summary.comparisons(seeds, 0.5)
    assert list(pairs.index) == ["quick"] * 3
    time = pairs[pairs.measure == "time_to_target_s"].iloc[0]
    assert (time.pairs, time.difference) == (3, pytest.approx(-21 * 1.0))
    assert (time.difference_low, time.difference_high) == (pytest.approx(-21 * 1.5), pytest.approx(-21 * 0.5))
    assert isnan(time.p_value)
    cells = summary.texts(pairs)
    assert list(cells.p_value) == ["under 6 seeds"] * 3
    assert cells.difference.iloc[1] == "-21.0 [-31.5, -10.5]"
    other = summary.comparisons(seeds, 0.5, "quick")
    assert other.difference.iloc[1] == pytest.approx(21.0)
    with pytest.raises(AnalysisError, match="--baseline: found 'slow'; allowed: 'base', 'quick'"):
        summary.comparisons(seeds, 0.5, "slow")


def test_six_seeds_have_a_p_value(made_up):
    folders = []
    for seed in range(6):
        folders.append(made_up(f"a{seed}", 0.04, name="a", seconds=5.0, seed=seed))
        more = "[training]\nlearning_rate = 0.3\n"
        seconds = 5.0 - 0.1 * (seed + 1)
        folders.append(made_up(f"b{seed}", 0.04, name="b", seconds=seconds, seed=seed, config=more))
    pairs = summary.comparisons(groups.pooled(load(folders).runs), 0.5)
    assert list(pairs.p_value) == [1.0, 2 / 64, 1.0]


def test_json_holds_every_run_and_no_nan(seeds):
    content = json.loads(as_json(seeds, 0.95, None), parse_constant=pytest.fail)
    assert content["target"] == 0.95
    base, quick = content["configurations"]
    assert base["time_to_target_s"] == {"mean": None, "low": None, "high": None}
    assert [run["seed"] for run in quick["runs"]] == [1, 2, 3]
    assert quick["runs"][2]["emulated_s"] == 40 * 3.5
    for found in (quick["rounds"]["mean"], quick["runs"][0]["rounds"], quick["runs"][0]["k"], quick["seeds"]):
        assert type(found) is int
    assert type(quick["emulated_s"]["mean"]) is float
    assert content["comparisons"][0]["name"] == "quick"


def test_latex_is_a_table_of_escaped_text(seeds):
    frame = summary.table(seeds, 0.5)[["final_accuracy", "k"]].rename(index={"base": "50 % & k_fraction"})
    lines = as_latex(frame).splitlines()
    assert lines[0] == r"\begin{tabular}{lrr}"
    assert lines[2] == r" & Final accuracy & $k$ \\"
    assert lines[4] == r"50 \% \& k\_fraction & 0.8600 & 610 \\"
    assert escaped("a\\b^") == r"a\textbackslash{}b\textasciicircum{}"


def test_real_runs_are_summarized(small_sweep, capsys):
    assert main(["summarize", str(small_sweep), "--wide"]) == 0
    out = capsys.readouterr().out
    trace = read(small_sweep / "fab-s1").rounds, read(small_sweep / "fab-s2").rounds
    mean = sum(rounds.end_s.iloc[-1] for rounds in trace) / 2
    assert f"{mean:,.1f} [" in out.splitlines()[2]
    assert "in brackets: bootstrap 95 % interval" in out
    assert "against dense, on the same seeds" in out
    assert main(["summarize", str(small_sweep), "--each", "--csv", "--columns", "k,status"]) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["name,k,status", '"dense, seed = 1",4810.0,completed']


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--target", "80"], "--target: found 80; allowed: a number from 0 to 1"),
        (["--columns", "speed"], "--columns speed: not in this table; allowed: status, rounds"),
        (["--columns", ""], "--columns : not in this table; allowed: status, rounds"),
        (["--columns", "k,density,k"], "--columns k: named 2 times; allowed: each column once"),
        (["--baseline", "x", "--csv"], "--baseline: is of no use with --csv; allowed: text, --json"),
        (["--baseline", "x", "--latex"], "--baseline: is of no use with --latex; allowed: text, --json"),
        (["--baseline", "x"], "--baseline: found 'x'; allowed: 'example', 'example [preempted]'"),
        (["--columns", "k", "--json"], "--columns: is of no use with --json"),
        (["--csv", "--json"], "not allowed with argument"),
        (["nothing"], "nothing: no such folder or file"),
    ],
)
def test_bad_arguments_are_one_line(runs, arguments, message, capsys):
    assert main(["summarize", *runs, *arguments]) == 2
    out, error = capsys.readouterr()
    assert message in error
    assert error.count("\n") == 1
    assert not out


def test_names_in_json_are_the_same_throughout(made_up):
    folders = [made_up(f"a{seed}", 0.04, name="a", seed=seed) for seed in range(3)]
    more = "[training]\nlearning_rate = 0.3\n"
    folders += [made_up(f"b{seed}", 0.03, name="b", seed=seed, config=more) for seed in range(2)]
    content = json.loads(as_json(groups.pooled(load(folders).runs), 0.5, None))
    assert [found["name"] for found in content["configurations"]] == ["a", "b"]
    assert {found["name"] for found in content["comparisons"]} == {"b"}
