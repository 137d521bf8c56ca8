"""``fedmpi convert``: what other programs read is what the trace holds."""

from __future__ import annotations

import errno
import json
import struct

import numpy as np
import pandas as pd
import pytest

from fedmpi.analysis.convert import _writing, tables_of
from fedmpi.analysis.runs import AnalysisError
from fedmpi.cli import analysed
from fedmpi.cli.main import main
from fedmpi.config import load
from fedmpi.trace import read


def same(table, other):
    """Whether two tables hold the same to the last digit; ``other`` may hold numbers as texts."""
    assert list(table) == list(other)
    for column in table:
        numeric = table[column].dtype.kind in "if"
        kind = (lambda value: float("nan" if value == "" else value)) if numeric else str
        found, expected = [kind(value) for value in other[column]], [kind(value) for value in table[column]]
        assert found == pytest.approx(expected, nan_ok=True, rel=0, abs=0) if numeric else found == expected


def test_csv_holds_every_digit(small_sweep, tmp_path, capsys):
    run = small_sweep / "fab-s1"
    assert main(["convert", str(run), "--to", "csv", "--output", str(tmp_path / "out")]) == 0
    trace = read(run)
    for name, table in tables_of(trace).items():
        same(table, pd.read_csv(tmp_path / "out" / f"{name}.csv", dtype=str, keep_default_na=False))
    assert load(tmp_path / "out" / "config.toml") == load(run / "config.toml")
    assert json.loads((tmp_path / "out" / "attributes.json").read_text())["seed"] == 1
    assert capsys.readouterr().out.startswith(
        f"{tmp_path}/out: devices.csv, rounds.csv, clients.csv, client_tests.csv, layers.csv, events.csv"
    )


def test_parquet_is_read_by_pandas_polars_and_duckdb(small_sweep, tmp_path):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install '.[convert]'")
    assert main(["convert", str(small_sweep), "--to", "parquet", "--output", str(tmp_path / "out")]) == 0
    folder = tmp_path / "out" / "fab-s2"
    trace = read(small_sweep / "fab-s2")
    for name, table in tables_of(trace).items():
        same(table, pd.read_parquet(folder / f"{name}.parquet"))
    used = trace.clients.groupby("client").entries_used.sum().tolist()
    polars = pytest.importorskip("polars", reason="polars is not installed")
    clients = polars.read_parquet(folder / "clients.parquet")
    assert (
        clients.group_by("client")
        .agg(polars.col("entries_used").sum())
        .sort("client")["entries_used"]
        .to_list()
        == used
    )
    duckdb = pytest.importorskip("duckdb", reason="duckdb is not installed")
    accepted = f"from '{folder}/clients.parquet' where status = 'ok' group by client order by client"
    assert [row[0] for row in duckdb.sql(f"select sum(entries_used) {accepted}").fetchall()] == used


def test_tensorboard_gets_measured_rounds_with_emulated_time(small_sweep, tmp_path):
    pytest.importorskip("tensorboardX", reason="tensorboardX is not installed: pip install '.[convert]'")
    from tensorboardX.proto.event_pb2 import Event

    run = small_sweep / "dense-s1"
    assert main(["convert", str(run), "--to", "tensorboard", "--output", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").iterdir()
    content, at, found = file.read_bytes(), 0, []
    while at < len(content):  # records of a length, its checksum, the data and theirs
        (length,) = struct.unpack_from("<Q", content, at)
        event = Event.FromString(content[at + 12 : at + 12 + length])
        found += [
            (value.tag, event.step, event.wall_time, value.simple_value) for value in event.summary.value
        ]
        at += 16 + length
    rounds = read(run).rounds
    accuracy = [row[1:] for row in found if row[0] == "learning/test_accuracy"]
    measured = rounds.dropna(subset=["test_accuracy"])
    assert [row[0] for row in accuracy] == measured["round"].tolist() == [2, 5, 8, 11]
    assert [row[1] for row in accuracy] == measured.end_s.tolist()
    assert [row[2] for row in accuracy] == measured.test_accuracy.astype(np.float32).tolist()
    assert len([row for row in found if row[0] == "bytes/bytes_up"]) == 12


def test_what_is_there_is_not_overwritten(small_sweep, tmp_path, capsys):
    command = ["convert", str(small_sweep / "fab-s1"), "--to", "csv", "--output", str(tmp_path)]
    (tmp_path / "mine").write_text("mine")
    assert main(command) == 2
    assert f"--output: {tmp_path} is not empty; allowed: --overwrite" in capsys.readouterr().err
    assert main([*command, "--overwrite"]) == 0
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["{0}/fab-s1", "--to", "xlsx"],
            "argument --to: invalid choice: 'xlsx' (allowed: 'csv', 'parquet', ",
        ),
        (
            ["{0}/fab-s1", "{0}/fab-s2", "--to", "csv"],
            "--output: missing, for several paths; allowed: a folder",
        ),
        (
            ["{0}/fab-s1", "--to", "csv", "--output", "{0}/sweep.toml"],
            "sweep.toml is a file; allowed: a folder",
        ),
        (["{0}/nothing", "--to", "csv"], "nothing: no such folder or file"),
    ],
)
def test_bad_arguments_are_one_line_and_exit_code_2(small_sweep, arguments, message, capsys):
    assert main(["convert", *(argument.format(small_sweep) for argument in arguments)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_a_package_that_is_missing_is_one_line(small_sweep, monkeypatch, capsys):
    monkeypatch.setattr(analysed, "find_spec", lambda module: None)
    for form, package in (("parquet", "pyarrow"), ("tensorboard", "tensorboardX")):
        assert main(["convert", str(small_sweep / "fab-s1"), "--to", form]) == 2
        assert f"{package} is not installed; allowed: an environment with it" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_file_that_cannot_be_written_is_named_and_no_part_of_it_is_left(
    small_sweep, tmp_path, form, capsys
):
    (tmp_path / f"rounds.{form}").symlink_to("/dev/full")
    command = ["convert", str(small_sweep / "fab-s1"), "--to", form, "--output", str(tmp_path), "--overwrite"]
    assert main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"fedmpi: {tmp_path}/rounds.{form}: cannot be written: ")
    assert "No space left on device" in error
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == [f"devices.{form}", f"rounds.{form}"]


def test_a_part_of_a_file_is_not_left(tmp_path):
    def interrupted():
        with _writing(tmp_path / "x.csv"):
            (tmp_path / "x.csv").write_text("a part")
            raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(AnalysisError, match=r"x.csv: cannot be written: No space left on device"):
        interrupted()
    assert not (tmp_path / "x.csv").exists()
