"""The study of PruneFL: exact figures on made-up traces, and all of it on tiny real runs."""

from __future__ import annotations

import importlib
import math
import os
import subprocess
import sys
import tarfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from fedmpi.analysis import prunefl_figures, prunefl_runs, prunefl_tables
from fedmpi.analysis.measures import cost_to
from fedmpi.analysis.runs import load_study
from fedmpi.cli.main import main
from fedmpi.config import dumps, loads
from fedmpi.sweeps import plan
from fedmpi.trace import Phase, TraceWriter, read
from fedmpi.trace.schema import TABLES

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "benchmarks"))
prunefl_study = importlib.import_module("prunefl_study")
femnist_study = importlib.import_module("femnist_study")

D = 1000
PRUNED = "pruning.method=prunefl"
FAB = ("sparsification.method=fab", "k_control.method=ogd_sign")
SELECTED = ("clients.count=20", "clients.per_round=2")
INTEGERS = {column: 0 for column in TABLES["rounds"].names if TABLES["rounds"][column].kind == "i"}

TINY = """
[base.experiment]
rounds = 24
evaluate_every = 4
[base.clients]
count = 4
[base.data]
dataset = "digits"
[base.training]
learning_rate = 0.2
[base.pruning]
reconfigure_every = 4
[base.emulation.compute]
model = "linear"
profile = "raspberry-pi-4"
[base.emulation.network]
uplink_mbit_per_s = 0.2
downlink_mbit_per_s = 0.2

"""
STUDY = """
[axes.method]
none = {}
prunefl = { pruning.method = "prunefl", pruning.initial.where = "client", pruning.initial.max_rounds = 60 }
[axes.method.prunefl_fab]
pruning.method = "prunefl"
pruning.initial.where = "client"
pruning.initial.max_rounds = 60
sparsification.method = "fab"
k_control.method = "ogd_sign"
[axes.method.fab]
sparsification.method = "fab"
k_control.method = "ogd_sign"
"""
LOTTERY = """
[axes.ticket]
lottery_reinit = { pruning.method = "lottery_reinit", pruning.ticket = "study/prunefl" }
"""


@pytest.fixture
def make_run(tmp_path):
    """A run of 20 rounds of ``seconds``, evaluated in every fourth: accuracy rises by ``step`` a round, from 0.1.

    ``initial`` rounds below 0 come before, of 1 MB and 10 s each. Every round of 4 MB leaves ``left`` of the 900
    weights from round 8 on.
    """

    def make(name, *overrides, folder="study", seconds=10.0, step=0.01, initial=0, left=900, rounds=20):
        config = loads("", [f"experiment.name={name}", *overrides])
        path = tmp_path / folder / name
        path.mkdir(parents=True)
        attributes = {
            "config_toml": dumps(config),
            "seed": config.experiment.seed,
            "clients": 2,
            "ranks": 1,
            "parameters": D,
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["fc.weight", "fc.bias"],
        }
        with TraceWriter.create(path / "trace.h5", attributes) as writer:
            for number in range(-initial, rounds):
                evaluated = number % 4 == 3 and number >= 0
                active = left if number >= 8 else 900
                row = {
                    "round": number,
                    "phase": Phase.FEDERATED if number >= 0 else Phase.INITIAL_PRUNING,
                    "end_s": initial * 10.0 + (number + 1) * (seconds if number >= 0 else 10.0),
                    "test_accuracy": 0.1 + step * number if evaluated else math.nan,
                    "test_loss": 1.0 if evaluated else math.nan,
                    "k": 100 + number,
                    "active_parameters": active + 100,
                    "density": active / 900,
                    "bytes_up": 1_000_000,
                    "bytes_down": 3_000_000 if number >= 0 else 0,
                }
                layers = {
                    "round": np.full(2, number),
                    "layer": np.arange(2, dtype=np.int16),
                    "active": np.array([active, 100]),
                    "total": np.array([900, 100]),
                }
                writer.append(rounds={**INTEGERS, **row})
                if number in (-initial, 8):
                    writer.append(layers=layers)
            writer.close("completed")
        return path

    return make


@pytest.fixture
def whole(make_run):
    """The folders of a study with everything the figures need, and of its lottery tickets."""
    make_run("none")
    make_run("prunefl", PRUNED, seconds=4.0, initial=3, left=90)
    make_run("snip", "pruning.method=snip", seconds=5.0, step=0.005, left=90)
    make_run("prunefl_fab", PRUNED, *FAB, seconds=2.0, left=450)
    make_run("none-selected", *SELECTED, step=0.02)
    make_run("prunefl-selected", PRUNED, *SELECTED, seconds=5.0, step=0.02, left=90)
    for ticket in ("lottery_reinit", "lottery_random"):
        make_run(ticket, f"pruning.method={ticket}", folder="tickets", left=90)
    fab = make_run("fab", *FAB, seconds=3.0)
    return fab.parent, fab.parent.parent / "tickets"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of two studies of real runs: ``study``, and the lottery ticket of one of them in ``lottery``."""
    folder = tmp_path_factory.mktemp("tiny")
    paths = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    for name, axes in (("study", STUDY), ("lottery", LOTTERY)):
        (folder / f"{name}.toml").write_text(TINY + axes)
        done = subprocess.run(
            [sys.executable, "-m", "fedmpi", "sweep", f"{name}.toml", "--output", name],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    return folder


def load(folder):
    return load_study([folder]).runs


def labels(panel):
    return [line.get_label() for line in panel.lines]


def cells(line):
    return [cell.strip() for cell in line.strip("|").split("|")]


def rows(text, title):
    """The cells of the table under a title, by the first of each row."""
    lines = text[text.index(title) :].partition("\n\n")[2].partition("\n\n")[0].splitlines()
    return {first: rest for first, *rest in map(cells, lines[2:])}


def test_runs_are_told_apart_by_pruning_sparsification_and_selection(whole):
    selections = prunefl_runs.compared(load(whole[0]) + load(whole[1]))
    assert list(selections) == [False, True]
    assert [group.label for group in selections[False]] == [
        "no pruning",
        "PruneFL",
        "SNIP",
        "PruneFL + adaptive FAB-top-k",
        "adaptive FAB-top-k, no pruning",
    ]
    assert [group.label for group in selections[True]] == ["no pruning", "PruneFL"]
    assert [run.name for run in selections[True][1].runs] == ["prunefl-selected"]
    (tickets,) = prunefl_runs.tickets(load(whole[0]) + load(whole[1])).values()
    assert [group.label for group in tickets] == list(prunefl_runs.TICKETS)
    assert prunefl_runs.tickets(load(whole[0])) == {}


def test_costs_to_an_accuracy_hold_initial_pruning(whole):
    runs = {run.name: run for run in load(whole[0])}
    assert cost_to(runs["prunefl"], 0.2) == {
        "time_s": 30.0 + 12 * 4.0,
        "rounds": 12.0,
        "mbytes": pytest.approx(3 * 1.0 + 12 * 4.0),
        "active": 190.0,
        "share": 0.19,
    }
    assert all(math.isnan(cost) for cost in cost_to(runs["snip"], 0.2).values())


def test_the_target_is_what_is_reached_without_pruning(whole, capsys):
    assert main(["tables", "prunefl", str(whole[0])]) == 0
    out = capsys.readouterr().out
    methods = rows(out, "**To accuracy 0.290**")
    assert methods["no pruning"] == [
        "200", "1.00", "20", "80", "1,000", "100.0 %", "0.290", "+0.0", "1.000",
    ]  # fmt: skip
    assert methods["PruneFL"] == [
        "110", "0.55", "20", "83", "190", "19.0 %", "0.290", "+0.0", "0.100",
    ]  # fmt: skip
    assert methods["SNIP"] == [
        "not reached", "-", "not reached", "not reached", "-", "-", "0.195", "-9.5", "0.100",
    ]  # fmt: skip
    both = rows(out, "at once, to accuracy 0.290**")
    assert both["PruneFL"] == ["110", "0.36", "83", "0.96", "190", "117"]
    assert both["PruneFL + adaptive FAB-top-k"][:4] == ["40", "1.00", "80", "1.00"]
    assert both["adaptive FAB-top-k, no pruning"][:2] == ["60", "0.67"]
    drawn = rows(out[out.index("### Clients drawn anew in each round") :], "**To accuracy 0.480**")
    assert drawn["PruneFL"][:2] == ["100", "0.50"]


def test_the_target_is_one_that_all_seeds_reach_without_pruning(whole, make_run, capsys):
    make_run("none-s2", "experiment.seed=2", step=0.02)
    assert main(["tables", "prunefl", str(whole[0])]) == 0
    methods = rows(capsys.readouterr().out, "**To accuracy 0.290**")
    assert methods["no pruning (2 seeds)"][:2] == ["160 (120 to 200)", "1.00 (0.75 to 1.25)"]


def test_a_given_target_and_runs_of_different_length(whole, make_run, capsys):
    make_run("iterative", "pruning.method=iterative", step=0.02, rounds=12)
    assert main(["tables", "prunefl", str(whole[0]), "--target", "0.17"]) == 0
    out = capsys.readouterr().out
    methods = rows(out, "**To accuracy 0.170**")
    assert methods["iterative pruning"][:3] == ["80", "1.00", "8"]
    assert "accuracy at round 11 " in out
    assert methods["iterative pruning"][6:8] == ["0.320", "+11.0"]


def test_pruning_with_sparsification_is_compared_at_what_all_have_reached(whole, make_run, capsys):
    make_run("fab-s2", *FAB, "experiment.seed=2", step=0.005)
    assert main(["tables", "prunefl", str(whole[0])]) == 0
    both = rows(capsys.readouterr().out, "at once, to accuracy 0.195**")
    assert both["adaptive FAB-top-k, no pruning"][0] == "118 (36 to 200)"


def test_fixed_k_is_not_called_adaptive(make_run):
    folder = make_run("fab", *FAB).parent
    make_run("fixed", FAB[0], "sparsification.k=50")
    make_run("exp3", FAB[0], "k_control.method=exp3")
    make_run("fraction", PRUNED, FAB[0], "sparsification.k_fraction=0.02")
    (panel,) = prunefl_figures.FIGURES["accuracy_over_time"][0](load(folder), None).axes
    assert labels(panel) == [
        "adaptive FAB-top-k, no pruning",
        "FAB-top-k with k by Exp3, no pruning",
        "FAB-top-k with k = 50, no pruning",
        "PruneFL + FAB-top-k with k = 20",
    ]


def test_every_configuration_is_compared_with_its_own_run_without_pruning(make_run, capsys):
    slow = "training.learning_rate=0.01"
    folder = make_run("none", step=0.02).parent
    make_run("none-slow", slow, seconds=20.0)
    make_run("prunefl", PRUNED, seconds=5.0, step=0.02, left=90)
    make_run("prunefl-slow", PRUNED, slow, seconds=5.0, left=90)
    make_run("prunefl-often", PRUNED, slow, "pruning.reconfigure_every=5", seconds=2.0, left=90)
    make_run("alone", "pruning.method=snip", "pruning.target_density=0.1", "training.momentum=0.5")
    assert main(["tables", "prunefl", str(folder)]) == 2
    assert "2 configurations have no pruning (no pruning, learning_rate = 0.1; no pruning, learning_rate" in (
        capsys.readouterr().err
    )
    assert main(["tables", "prunefl", str(folder), "--target", "0.2"]) == 0
    methods = rows(capsys.readouterr().out, "**To accuracy 0.200**")
    assert {name: row[:2] for name, row in methods.items()} == {
        "no pruning, learning_rate = 0.1": ["80", "1.00"],
        "no pruning, learning_rate = 0.01": ["240", "1.00"],
        "PruneFL, learning_rate = 0.1, reconfigure_every = 50": ["40", "0.50"],
        "PruneFL, learning_rate = 0.01, reconfigure_every = 50": ["60", "0.25"],
        "PruneFL, learning_rate = 0.01, reconfigure_every = 5": ["24", "0.10"],
        "SNIP, learning_rate = 0.1, momentum = 0.5": ["120", "-"],
    }


def test_pruning_with_sparsification_is_compared_at_the_same_settings_alone(make_run, capsys):
    slow = "training.learning_rate=0.01"
    folder = make_run("prunefl", PRUNED).parent
    make_run("both", PRUNED, *FAB, seconds=5.0)
    make_run("both-slow", PRUNED, *FAB, slow, seconds=2.0)
    make_run("fab-slow", *FAB, slow, seconds=3.0)
    assert main(["tables", "prunefl", str(folder), "--target", "0.2"]) == 0
    assert "at once" not in capsys.readouterr().out
    make_run("fab", *FAB, seconds=4.0)
    assert main(["tables", "prunefl", str(folder), "--target", "0.2"]) == 0
    out = capsys.readouterr().out
    both = rows(out, "at once, to accuracy 0.200; learning_rate = 0.1**")
    assert [both[name][0] for name in prunefl_tables.COMBINED] == ["120", "48", "60"]
    assert out.count("at once") == 1


def test_runs_of_lottery_tickets_that_repeat_those_of_the_study_count_once(whole, make_run, capsys):
    make_run("none-again", folder="tickets", step=0.5)
    command = ["figures", "prunefl", str(whole[0]), str(whole[1]), "--output", str(whole[0] / "figures")]
    assert main(command) == 0
    assert "none-again: left out, it repeats none" in capsys.readouterr().err


def test_accuracy_is_drawn_over_time_and_rounds_with_a_panel_for_each_selection(whole):
    over_time = prunefl_figures.FIGURES["accuracy_over_time"][0](load(whole[0]), None)
    fixed, selected = over_time.axes
    assert labels(fixed) == [
        "no pruning",
        "PruneFL",
        "SNIP",
        "PruneFL + adaptive FAB-top-k",
        "adaptive FAB-top-k, no pruning",
    ]
    assert labels(selected) == ["no pruning", "PruneFL"]
    assert (fixed.lines[1].get_xdata()[0], fixed.lines[1].get_xdata()[-1]) == (46.0, 110.0)
    assert len({(line.get_color(), str(line.get_linestyle())) for line in fixed.lines}) == 5
    assert (
        prunefl_figures.FIGURES["accuracy_over_time"][0](load(whole[0]), 70.0).axes[0].get_xlim()[1] == 70.0
    )
    over_rounds = prunefl_figures.FIGURES["accuracy_over_rounds"][0](load(whole[0]), None).axes[0]
    assert (over_rounds.get_xlabel(), over_rounds.lines[1].get_xdata()[-1]) == ("round", 19.0)
    assert over_rounds.lines[1].get_ydata()[-1] == pytest.approx(0.29)


def test_size_of_the_model_holds_the_rounds_of_initial_pruning(whole):
    over_rounds, over_time, selected, _ = prunefl_figures.model_size(load(whole[0]), None).axes
    none, pruned, *_ = over_rounds.lines
    assert none.get_ydata().tolist() == [1000] * 20
    assert pruned.get_xdata().tolist() == list(range(-3, 20))
    assert pruned.get_ydata()[[0, 10, 11]].tolist() == [1000, 1000, 190]
    assert "end of initial pruning" in labels(over_rounds)
    assert over_time.lines[1].get_xdata()[:4].tolist() == [10.0, 20.0, 30.0, 34.0]
    assert (selected.get_title(), labels(selected)) == (
        "clients drawn anew in each round",
        ["no pruning", "PruneFL"],
    )


def test_lottery_tickets_are_drawn_beside_snip_and_the_full_model(whole):
    (panel,) = prunefl_figures.lottery(load(whole[0]) + load(whole[1]), None).axes
    assert labels(panel) == list(prunefl_runs.TICKETS)
    assert panel.lines[3].get_ydata()[-1] == pytest.approx(0.195)


def test_lottery_tickets_have_a_table_of_their_accuracy_at_the_same_rounds(whole, capsys):
    study, tickets = whole
    assert main(["tables", "prunefl", str(study)]) == 0
    assert "Lottery" not in capsys.readouterr().out
    assert main(["tables", "prunefl", str(study), str(tickets)]) == 0
    out = capsys.readouterr().out
    table = rows(out, "**Lottery tickets**")
    assert list(table) == list(prunefl_runs.TICKETS)
    head = out[out.index("**Lottery tickets**") :].splitlines()[2]
    last = max(int(read(study / "none").rounds.dropna(subset="test_accuracy")["round"].max()), 0)
    assert cells(head)[1:] == [
        *(f"accuracy at round {number}" for number in (last // 3, 2 * last // 3, last)),
        "density at the end",
    ]
    for name, folder in (("no pruning", study / "none"), ("SNIP", study / "snip")):
        rounds = read(folder).rounds
        measured = rounds.dropna(subset="test_accuracy").set_index("round")["test_accuracy"]
        at = [f"{measured.loc[:number].iloc[-1]:.3f}" for number in (last // 3, 2 * last // 3, last)]
        assert table[name] == [*at, f"{rounds.density.iloc[-1]:.3f}"]


def test_layers_that_were_pruned_are_drawn_to_the_last_round(whole):
    trace = read(whole[0] / "prunefl")
    assert {name: (at.tolist(), left.tolist()) for name, (at, left) in layers(trace).items()} == {
        "fc.weight": ([-3, 8, 19], [1.0, 0.1, 0.1])
    }
    panel, selected = prunefl_figures.layer_density(load(whole[0]), None).axes
    assert labels(panel) == ["fc.weight", "end of initial pruning"]
    assert labels(selected) == ["fc.weight"]
    assert selected.get_title() == "PruneFL (clients drawn anew in each round)"


def layers(trace):
    return prunefl_figures.layer_densities(trace)


def test_figures_that_cannot_be_drawn_are_named(make_run, capsys):
    folder = make_run("none").parent
    assert main(["figures", "prunefl", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"accuracy_over_time: {folder}/figures/accuracy_over_time.png"
    assert [line.partition(",")[0] for line in lines[2:]] == [
        "model_size: not drawn",
        "lottery: not drawn",
        "layer_density: not drawn",
    ]
    assert main(["tables", "prunefl", str(folder)]) == 0
    assert "at once" not in capsys.readouterr().out


def test_all_figures_are_written(whole, tmp_path, capsys):
    output = tmp_path / "out"
    command = ["figures", "prunefl", str(whole[0]), str(whole[1]), "--output", str(output)]
    assert main(command) == 0
    assert {path.name for path in output.iterdir()} == {f"{name}.png" for name in prunefl_figures.FIGURES}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in output.iterdir())
    assert "not drawn" not in capsys.readouterr().out


def test_real_runs_are_drawn_and_tabled(tiny, tmp_path, capsys):
    command = ["figures", "prunefl", str(tiny / "study"), str(tiny / "lottery"), "--output", str(tmp_path)]
    assert main(command) == 0
    assert {path.stem for path in tmp_path.iterdir()} == set(prunefl_figures.FIGURES)
    capsys.readouterr()
    assert main(["tables", "prunefl", str(tiny / "study")]) == 0
    out = capsys.readouterr().out
    rounds = read(tiny / "study" / "prunefl").rounds
    methods = rows(out, "**To accuracy ")
    assert list(methods) == [
        "no pruning",
        "PruneFL",
        "PruneFL + adaptive FAB-top-k",
        "adaptive FAB-top-k, no pruning",
    ]
    assert methods["PruneFL"][-1] == f"{rounds.density.iloc[-1]:.3f}" != "1.000"
    assert methods["PruneFL"][-3] == f"{rounds.test_accuracy.iloc[-1]:.3f}"
    assert "at once, to accuracy" in out


def test_sizes_of_a_real_run_begin_with_its_initial_pruning(tiny):
    runs = load(tiny / "study")
    over_rounds = prunefl_figures.model_size(runs, None).axes[0]
    pruned = over_rounds.lines[1].get_xdata()
    assert (pruned[0], pruned[-1]) == (-60, 23)
    densities = layers(read(tiny / "study" / "prunefl"))
    assert set(densities) == {"fc1.weight", "fc2.weight"}
    assert all((at[0], at[-1], left[0]) == (-60, 23, 1.0) for at, left in densities.values())


def test_the_benchmark_takes_tickets_from_the_study_that_it_ran(tmp_path):
    path = prunefl_study.lottery_sweep("prunefl-lottery-small", tmp_path / "mine", tmp_path)
    tickets = [run.config.pruning.ticket for run in plan(str(path)).runs]
    assert tickets == [str(tmp_path / "mine" / "prunefl-s{seed}")] * 6


def test_benchmarks_unpack_their_data_once_beside_a_study_that_is_kept(tmp_path):
    source = tmp_path / "archive"
    for name in ("train/a.json", *(f"test/{number}.json" for number in range(4))):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text("{}")
    with tarfile.open(tmp_path / femnist_study.ARCHIVE, "w:xz") as file:
        file.add(source, "femnist")
    place = femnist_study.unpacked_beside(tmp_path / "study", tmp_path / "temporary")
    data = femnist_study.data_folder(tmp_path, place, every=3)
    assert data == (tmp_path / "study-data" / "femnist").resolve()
    assert sorted(path.name for path in data.glob("test/*")) == ["0.json", "3.json"]
    (data / "test" / "0.json").unlink()
    assert femnist_study.data_folder(tmp_path, place, every=3) == data
    assert not (data / "test" / "0.json").exists()
    assert femnist_study.unpacked_beside(None, tmp_path) == tmp_path / "femnist"
    assert femnist_study.data_folder(source, place) == source.resolve()


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["figures", "prunefl", "{}/none"], "none: no such folder"),
        (["figures", "prunefl", "{}", "{}/none"], "none: no such folder"),
        (["tables", "prunefl", "{}/none"], "none: no such folder"),
        (["tables", "prunefl", "{}", "--target", "80"], "--target: found 80; allowed: a number from 0 to 1"),
        (["tables", "prunefl", "{}"], "there is no run without pruning to take a target accuracy from"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(make_run, command, message, capsys):
    folder = make_run("prunefl", PRUNED).parent
    assert main([argument.format(folder) for argument in command]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_of_many_configurations_without_pruning_two_are_named(make_run, capsys):
    for place in range(5):
        folder = make_run(f"none{place}", f"training.learning_rate={0.1 * (place + 1):g}").parent
    assert main(["tables", "prunefl", str(folder)]) == 2
    labels = "no pruning, learning_rate = 0.1; no pruning, learning_rate = 0.2; ..."
    expected = f"fedmpi: 5 configurations have no pruning ({labels}); give --target\n"
    assert capsys.readouterr().err == expected


def test_short_times_have_the_digits_that_count(make_run, capsys):
    make_run("none", seconds=0.1)
    folder = make_run("prunefl", PRUNED, seconds=0.05, left=90).parent
    assert main(["tables", "prunefl", str(folder)]) == 0
    table = rows(capsys.readouterr().out, "**To accuracy 0.290**")
    assert (table["no pruning"][0], table["PruneFL"][0]) == ("2.0", "1.0")


def test_titles_of_panels_do_not_reach_into_others(make_run):
    for place in range(3):
        more = [
            f"training.learning_rate={0.1 + place}",
            f"training.momentum={0.1 * place}",
            "training.batch_size=7",
        ]
        address = f"data.path=/a/rather/long/folder/of/data/number/{place}/in/which/nothing/is"
        folder = make_run(f"p{place}", PRUNED, *more, address, "data.dataset=leaf", left=90 - place).parent
    figure = prunefl_figures.layer_density(load(folder), None)
    FigureCanvasAgg(figure).draw()
    boxes = [panel.title.get_window_extent() for panel in figure.axes]
    assert all(len(panel.get_title().splitlines()) > 1 for panel in figure.axes)
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    assert boxes[0].x0 >= 0
    assert all(panel.get_window_extent().height > 2.5 * figure.dpi for panel in figure.axes)


def test_a_method_without_k_has_none_in_its_name(make_run):
    folder = make_run("none").parent
    make_run("qsgd", "sparsification.method=qsgd")
    (panel,) = prunefl_figures.FIGURES["accuracy_over_time"][0](load(folder), None).axes
    assert labels(panel) == ["no pruning", "QSGD, no pruning"]
