"""``fedmpi report``: the page, where it lies, and errors of one line."""

from __future__ import annotations

import shutil

import pytest

from fedmpi.cli import analysed
from fedmpi.cli.main import main


def test_the_page_of_a_run_lies_in_its_folder(small_sweep, tmp_path, capsys):
    folder = shutil.copytree(small_sweep / "fab-s1", tmp_path / "run")
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().out.startswith(f"{folder}/report.html: ")
    assert (folder / "report.html").read_text().startswith("<!DOCTYPE html>")


def test_a_sweep_with_a_target_and_a_title(small_sweep, tmp_path):
    output = tmp_path / "x.html"
    arguments = [str(small_sweep), "-o", str(output), "--target", "0.25", "--title", "Two & two"]
    assert main(["report", *arguments]) == 0
    page = output.read_text()
    assert "<title>Two &amp; two - fedmpi</title>" in page
    assert "Target: test accuracy 0.2500." in page


def test_errors_are_one_line(small_sweep, tmp_path, capsys, monkeypatch):
    for arguments, message in (
        (
            [str(small_sweep), str(small_sweep)],
            "--output: missing, for what is not one folder; allowed: a file",
        ),
        ([str(tmp_path / "x")], "no such folder or file; allowed: a run folder, a sweep folder, a trace"),
        (
            [str(small_sweep), "-o", str(tmp_path / "no" / "x.html")],
            "cannot be written: No such file or directory",
        ),
    ):
        if arguments == [str(tmp_path / "x")]:
            arguments = [*arguments, "-o", str(tmp_path / "x.html")]
        assert main(["report", *arguments]) == 2
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    monkeypatch.setattr(analysed, "find_spec", lambda module: None)
    assert main(["report", str(small_sweep)]) == 2
    assert "plotly is not installed" in capsys.readouterr().err


@pytest.mark.parametrize("target", ["2", "high"])
def test_a_target_is_an_accuracy(small_sweep, target, capsys):
    assert main(["report", str(small_sweep), "--target", target]) == 2
    assert "--target" in capsys.readouterr().err
