"""``fedmpi plot`` and ``figures`` on real runs: files, choices, and errors of one line."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.analysis.kinds import KINDS
from fedmpi.cli import analysed
from fedmpi.cli.main import main

SCRIPTS = Path(__file__).resolve().parents[2] / "analysis"
NEED_MORE = {"energy", "client-accuracy"}
"""Kinds whose tables or columns not every trace has."""


def test_lines_of_a_sweep(small_sweep, tmp_path, capsys):
    output = tmp_path / "x.png"
    lines = ["--y", "accuracy", "--y", "k", "--x", "time", "--x", "round"]
    assert main(["plot", str(small_sweep), *lines, "--output", str(output), "--title", "Two methods"]) == 0
    assert output.read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", sorted(set(KINDS) - NEED_MORE))
def test_every_kind_of_a_run(small_sweep, tmp_path, kind):
    output = tmp_path / "x.pdf"
    command = [
        "plot",
        str(small_sweep / "fab-s1"),
        "--kind",
        kind,
        "--size",
        "column",
        "--output",
        str(output),
    ]
    assert main(command) == 0
    assert output.read_bytes().startswith(b"%PDF")


def test_paths_may_stand_around_options(small_sweep, tmp_path):
    runs = [str(small_sweep / name) for name in ("fab-s1", "dense-s1")]
    labels = ["--label", "sparse", "--label", "dense"]
    assert main(["plot", runs[0], "--output", str(tmp_path / "x.svg"), runs[1], *labels]) == 0
    assert b"<svg" in (tmp_path / "x.svg").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--label", "a", "--label", "a"], "--label: 'a' is given to several lines"),
        (["--label", "one"], "--label: found 1 for 2 lines; allowed: one for each line, or none"),
        (["--x", "time", "--x", "round"], "--x: found 2 for 1 --y; allowed: one, or one for each --y"),
        (["--y", "speed"], "argument --y: invalid choice: 'speed' (allowed: 'accuracy'"),
        (["--kind", "pie"], "argument --kind: invalid choice: 'pie' (allowed: 'lines', 'breakdown', 'gantt'"),
        (["--kind", "gantt"], "a Gantt chart is of one run, found 4"),
        (["--kind", "gantt", "--y", "k"], "--y: is of no use with --kind gantt; allowed: --kind lines"),
        (["--round", "3"], "--round: is of no use with --kind lines; allowed: gantt, client-accuracy"),
        (["--output", "x.gif"], "x.gif: the ending is .gif; allowed: .pdf, .svg, .png"),
        (["--output", "/nowhere/x.png"], "/nowhere/x.png: cannot be written: No such file or directory"),
        (
            ["--title", "$k^$"],
            "x.png: '$k^$' has a formula between dollar signs that cannot be read; allowed: ",
        ),
        (["nothing"], "nothing: no such folder or file; allowed: a run folder, a sweep folder, a trace"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(small_sweep, tmp_path, arguments, message, capsys):
    output = [] if "--output" in arguments else ["--output", str(tmp_path / "x.png")]
    assert main(["plot", str(small_sweep), *arguments, *output]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("fedmpi")
    assert error.count("\n") == 1
    assert not (tmp_path / "x.png").exists()


@pytest.mark.parametrize("command", [["plot", "--output", "x.png"], ["summarize"], ["tables", "fab"]])
def test_a_damaged_trace_is_one_line(small_sweep, tmp_path, command, capsys):
    broken = tmp_path / "trace.h5"
    broken.write_bytes((small_sweep / "fab-s1" / "trace.h5").read_bytes()[:2000])
    assert main([*command, str(broken)]) == 1
    error = capsys.readouterr().err
    assert f"{broken}: " in error
    assert error.count("\n") == 1


def test_a_damaged_run_of_a_sweep_is_remarked_and_the_others_are_drawn(small_sweep, tmp_path, capsys):
    folder = Path(shutil.copytree(small_sweep, tmp_path / "sweep"))
    (folder / "fab-s1" / "trace.h5").write_bytes(b"nothing")
    assert main(["plot", str(folder), "--output", str(tmp_path / "x.png")]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"fedmpi: fab-s1: left out, {folder}/fab-s1/trace.h5: ")


def test_without_matplotlib_it_is_one_line(monkeypatch, capsys):
    monkeypatch.setattr(analysed, "find_spec", lambda module: None)
    for command in (["plot", "x", "--output", "x.png"], ["figures", "fab", "x"]):
        assert main(command) == 2
        error = capsys.readouterr().err
        expected = f"fedmpi {command[0]}: matplotlib is not installed; allowed: an environment with it: "
        assert error == f"{expected}pip install 'fedmpi[analysis]'\n"


def test_figures_of_a_study_lie_in_its_folder(small_sweep, tmp_path, capsys):
    folder = Path(shutil.copytree(small_sweep, tmp_path / "sweep"))
    assert main(["figures", "fab", str(folder), "--format", "svg"]) == 0
    assert [line.split(":")[0] for line in capsys.readouterr().out.splitlines()] == [
        "methods",
        "k_over_rounds",
        "fixed_and_adaptive_k",
        "contributions",
    ]
    assert (folder / "figures" / "methods.svg").is_file()


def test_scripts_are_the_commands(small_sweep, tmp_path):
    names = {path.stem for path in SCRIPTS.glob("*.py")}
    assert names == {"plot", "summarize", "figures", "tables"}
    for name, arguments in (("summarize", [str(small_sweep)]), ("plot", ["--help"])):
        command = [sys.executable, str(SCRIPTS / f"{name}.py"), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "accuracy" in done.stdout


def test_a_character_without_a_glyph_is_a_line(small_sweep, tmp_path, capsys):
    run, output = str(small_sweep / "fab-s1"), str(tmp_path / "x.png")
    assert main(["plot", run, "--label", "\N{CJK UNIFIED IDEOGRAPH-65E5}", "--output", output]) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fedmpi: Glyph 26085 ")


def test_a_folder_for_figures_that_cannot_be_made_is_one_line(small_sweep, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "figures"
    assert main(["figures", "fab", str(small_sweep), "--output", str(folder)]) == 2
    expected = f"fedmpi: --output: {folder} cannot be made: Not a directory; allowed: a folder\n"
    assert capsys.readouterr().err == expected
