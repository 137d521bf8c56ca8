from __future__ import annotations

import io
import math
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fedmpi.trace import Phase, TraceWriter, read
from fedmpi.trace.schema import TABLES

sys.path.insert(0, str(Path(__file__).parents[2] / "analysis"))

import plot
import summarize


@pytest.fixture
def make_run(tmp_path):
    """A run folder whose accuracy rises by ``step`` each evaluation (every second round), from 0.1."""

    def make(folder, step, rounds=40, name="example", status="completed", seconds=2.5, config=""):
        (tmp_path / folder).mkdir()
        attributes = {
            "config_toml": f'[experiment]\nname = "{name}"\n{config}',
            **dict.fromkeys(("seed", "clients", "ranks", "parameters"), 3),
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "layer_names": ["weight"],
        }
        writer = TraceWriter.create(tmp_path / folder / "trace.h5", attributes)
        for number in range(rounds):
            integers = {
                column: 0 for column in TABLES["rounds"].names if TABLES["rounds"][column].kind == "i"
            }
            evaluated = number % 2 == 0
            row = {
                "round": number,
                "phase": Phase.FEDERATED,
                "end_s": (number + 1) * seconds,
                "host_s": 0.5,
                "train_loss": 2.0 * math.exp(-step * number),
                "test_loss": 2.2 * math.exp(-step * number) if evaluated else np.nan,
                "test_accuracy": min(0.1 + step * number / 2, 0.9) if evaluated else np.nan,
                "k": 1000 - 10 * number,
                "density": 1.0 - number / 100,
                "bytes_up": 1_000_000,
                "bytes_down": 3_000_000,
            }
            writer.append(rounds={**integers, **row})
        writer.close(status)
        return tmp_path / folder

    return make


@pytest.fixture
def runs(make_run):
    return [str(make_run("fast", 0.04)), str(make_run("slow", 0.02, seconds=1.0, status="preempted"))]


def test_summary_of_one_run(make_run):
    row = summarize.summary(read(make_run("one", 0.04)), target=0.5)
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


def test_target_is_the_lowest_of_the_best_accuracies(runs, capsys):
    assert summarize.main([*runs, "--csv"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out), index_col="name")
    assert list(table.index) == ["example (fast)", "example (slow)"]
    assert list(table.target) == pytest.approx([0.48, 0.48])
    assert list(table.time_to_target_s) == [21 * 2.5, 39.0]
    assert list(table.status) == ["completed", "preempted"]


def test_target_that_was_not_reached_is_a_dash(runs, capsys):
    assert summarize.main([*runs, "--target", "0.7", "--wide"]) == 0
    header, fast, slow = capsys.readouterr().out.splitlines()
    assert header.split()[:4] == ["name", "rounds", "status", "final_accuracy"]
    assert fast.split()[-1] == slow.split()[-1] == "20.0"
    assert "-" not in fast.split()
    assert slow.split().count("-") == 2
    column = header.index("time_to_target_s") + len("time_to_target_s")
    assert fast[column - 4 : column] == "77.5"
    assert slow[column - 1] == "-"


def test_run_without_rounds(make_run):
    table = summarize.table([read(make_run("empty", 0.04, rounds=0, status="failed"))])
    assert table["rounds"].iloc[0] == 0
    assert table[["final_accuracy", "best_accuracy", "emulated_s", "k"]].isna().all(axis=None)
    assert "failed" in summarize.aligned(table)


def test_one_run_has_no_target_of_its_own(make_run, capsys):
    run = str(make_run("one", 0.04))
    targets = ["target", "time_to_target_s", "mbytes_to_target"]
    assert summarize.main([run, "--csv"]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert not set(targets) & set(header.split(","))
    assert (header.count(","), row.split(",")[:3]) == (10, ["example", "40", "completed"])
    assert summarize.main([run, "--csv", "--target", "0.4"]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert table[targets].iloc[0].tolist() == [0.4, 17 * 2.5, 17 * 4.0]


@pytest.mark.parametrize("width", [20, 60, 80, 120])
def test_the_table_fits_the_terminal_and_shows_every_figure(runs, width, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(width))
    assert summarize.main([*runs, "--target", "0.4"]) == 0
    text = capsys.readouterr().out
    longest = len("example (fast)  time_to_target_s")
    assert max(map(len, text.splitlines())) <= max(width, longest)
    blocks = [block.splitlines() for block in text.split("\n\n")]
    columns = [name for block in blocks for name in block[0].split()[1:]]
    frame = summarize.table([read(run) for run in runs], 0.4)
    assert columns == list(frame.columns)
    slow = " ".join(block[2].removeprefix("example (slow)") for block in blocks).split()
    assert slow[columns.index("time_to_target_s")] == "31.0"
    assert summarize.main([*runs, "--target", "0.4", "--wide"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_columns_fill_the_width_to_the_last_character(make_run):
    frame = summarize.table([read(make_run("one", 0.04))])[["rounds", "status"]]
    assert summarize.aligned(frame, 26) == "name     rounds     status\nexample      40  completed"
    assert summarize.aligned(frame, 25).count("\n\n") == 1


def test_long_names_are_folded_between_words(make_run):
    name = "a name of quite a few words that does not fit"
    frame = summarize.table([read(make_run("one", 0.04, name=name))])[["rounds"]]
    header, first, second = summarize.aligned(frame, 80).splitlines()
    assert first.split()[-1] == "40"
    assert f"{first.removesuffix('40').strip()} {second}" == name
    assert name in summarize.aligned(frame)
    assert len(header) == len(first)


@pytest.mark.parametrize("x", plot.AXES)
def test_plot_writes_a_picture(runs, tmp_path, x):
    output = tmp_path / f"{x}.png"
    every = [argument for y in plot.PANELS for argument in ("--y", y)]
    assert plot.main([*runs, "--x", x, *every, "--output", str(output), "--title", "Two runs"]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")


def test_panels_hold_what_was_measured(runs):
    traces = [read(run) for run in runs]
    figure = plot.draw(traces, ["a", "b"], ["bytes"], ["accuracy", "density"], "title")
    accuracy, density = figure.axes
    assert [line.get_label() for line in accuracy.lines] == ["a", "b"]
    assert len(accuracy.lines[0].get_xdata()) == 20
    assert len(density.lines[0].get_xdata()) == 40
    assert accuracy.lines[0].get_xdata()[1] == 3 * 4e6
    assert accuracy.lines[0].get_ydata()[1] == pytest.approx(0.14)


def test_each_panel_over_its_own_axis(runs):
    traces = [read(run) for run in runs]
    accuracy, k = plot.draw(traces, ["a", "b"], ["time", "round"], ["accuracy", "k"]).axes
    assert (accuracy.get_xlabel(), k.get_xlabel()) == ("emulated time (s)", "round")
    assert list(k.lines[0].get_xdata()) == list(range(40))


def test_lines_are_named_by_what_differs(make_run, tmp_path, monkeypatch):
    fast = make_run("fast", 0.04, config="[training]\nlearning_rate = 0.4\n")
    slow = make_run("slow", 0.02, config="[training]\nlearning_rate = 0.2\n", status="failed")
    other = make_run("other", 0.02, name="other")
    drawn = []
    draw = plot.draw
    monkeypatch.setattr(plot, "draw", lambda *given: drawn.append(draw(*given)) or drawn[-1])
    assert plot.main([str(fast), str(slow), str(other), "--output", str(tmp_path / "x.png")]) == 0
    lines = drawn[0].axes[0].lines
    labels = ["example, learning_rate = 0.4", "example, learning_rate = 0.2 [failed]", "other"]
    assert [line.get_label() for line in lines] == labels
    assert [text.get_text() for text in drawn[0].legends[0].get_texts()] == labels
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 3
    assert [line.get_ydata()[-1] for line in lines] == pytest.approx([0.86, 0.48, 0.48])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "a", "--label", "a", "--output", "x.png"], "--label 'a' is given to several runs"),
        (["--x", "time", "--x", "round", "--output", "x.png"], "2 --x for 1 --y; give one, or one for each"),
        (["--y", "speed", "--output", "x.png"], "argument --y: invalid choice: 'speed'"),
        (["--x", "epoch", "--output", "x.png"], "argument --x: invalid choice: 'epoch'"),
        ([], "the following arguments are required: --output"),
        (["--label", "one", "--output", "x.png"], "1 --label for 2 runs; give one for each, or none"),
        (["--output", "x.nope"], "nope"),
        (["--output", "/nowhere/x.png"], "No such file or directory"),
    ],
)
def test_bad_plot_arguments_are_one_line_and_exit_code_2(runs, arguments, message, capsys):
    with pytest.raises(SystemExit) as raised:
        plot.main([*runs, *arguments])
    assert raised.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("plot.py: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize("command", [summarize, plot])
def test_run_that_is_not_there(tmp_path, command, capsys):
    more = ["--output", str(tmp_path / "x.png")] if command is plot else []
    with pytest.raises(SystemExit) as raised:
        command.main([str(tmp_path / "none"), *more])
    assert raised.value.code == 2
    assert "there is no trace" in capsys.readouterr().err


def test_bad_target(runs, capsys):
    with pytest.raises(SystemExit) as raised:
        summarize.main([*runs, "--target", "80"])
    assert raised.value.code == 2
    assert "--target 80.0 is not between 0 and 1" in capsys.readouterr().err


def test_quantity_that_was_never_measured(make_run, capsys, tmp_path):
    run = make_run("empty", 0.04, rounds=0)
    with pytest.raises(SystemExit) as raised:
        plot.main([str(run), "--output", str(tmp_path / "x.png")])
    assert raised.value.code == 2
    assert "test accuracy was never measured" in capsys.readouterr().err
