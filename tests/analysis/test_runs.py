"""Finding runs in folders, and what their traces must have."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedmpi.analysis import groups
from fedmpi.analysis.measures import energy_so_far
from fedmpi.analysis.runs import AnalysisError, column_of, load, load_study, table_of
from fedmpi.trace import TraceError, read


def names(loaded):
    return [run.name for run in loaded.runs]


def test_sweeps_runs_and_traces_are_taken_alike(small_sweep):
    everything = load([small_sweep])
    assert names(everything) == ["dense-s1", "fab-s1", "dense-s2", "fab-s2"]  # the order of the sweep
    assert everything.remarks == ()
    some = load([small_sweep / "fab-s2", small_sweep / "dense-s1" / "trace.h5"])
    assert [(run.method, run.seed) for run in some.runs] == [("fab", 2), ("dense", 1)]


def test_a_run_that_is_named_twice_is_taken_once(small_sweep):
    loaded = load([small_sweep / "fab-s1", small_sweep])
    assert names(loaded)[1:] == ["dense-s1", "dense-s2", "fab-s2"]
    assert loaded.remarks == ("fab-s1: named twice, taken once",)


def test_what_is_missing_or_damaged_in_a_sweep_is_remarked(small_sweep, tmp_path):
    folder = Path(shutil.copytree(small_sweep, tmp_path / "sweep"))
    shutil.rmtree(folder / "dense-s1")
    trace = folder / "fab-s1" / "trace.h5"
    trace.write_bytes(trace.read_bytes()[:1000])
    loaded = load([folder])
    assert names(loaded) == ["dense-s2", "fab-s2"]
    missing, damaged = loaded.remarks
    assert missing == "dense-s1: not run yet"
    assert damaged.startswith(f"fab-s1: left out, {trace}: ")
    with pytest.raises(TraceError, match=r"trace\.h5"):
        load([folder / "fab-s1"])


@pytest.mark.parametrize("content", ["runs = 3", "x = ", 'runs = [{label = "a"}]', "x = " + 9999 * "["])
def test_a_damaged_list_of_a_sweep_is_refused(tmp_path, content):
    (tmp_path / "sweep.toml").write_text(content)
    with pytest.raises(AnalysisError, match=r"sweep\.toml: is no list of a sweep"):
        load([tmp_path])


def test_a_path_without_runs_is_refused(tmp_path):
    with pytest.raises(AnalysisError, match="nothing: no such folder or file"):
        load([tmp_path / "nothing"])
    with pytest.raises(AnalysisError, match="no run is there; allowed: a run folder"):
        load([tmp_path])
    (tmp_path / "sweep.toml").write_text('runs = [{name = "a"}, {name = "b"}, {name = "c"}]')
    with pytest.raises(
        AnalysisError, match=r"no run can be read there \(a: not run yet; b: not run yet, \.\.\.\)"
    ):
        load([tmp_path])


def test_columns_and_tables_that_a_trace_lacks_are_named(small_sweep):
    trace = read(small_sweep / "fab-s1")
    assert column_of(trace, "clients", "upload_s").equals(trace.clients.upload_s)
    if "energy_j" not in trace.clients:
        with pytest.raises(
            AnalysisError, match=r"no column clients\.energy_j \(schema version 1\); it is recorded"
        ):
            energy_so_far(trace)
    with pytest.raises(AnalysisError, match=r"nothing was recorded in rounds\.test_loss"):
        column_of(
            type(trace)(**{**vars(trace), "rounds": trace.rounds.assign(test_loss=float("nan"))}),
            "rounds",
            "test_loss",
        )
    with pytest.raises(AnalysisError, match="no table nothing"):
        table_of(trace, "nothing")
    with pytest.raises(AnalysisError, match="no rows in its table events"):
        table_of(type(trace)(**{**vars(trace), "events": trace.events[:0]}), "events")


def test_energy_adds_up_over_rounds_and_what_is_not_known_stays_unknown(small_sweep):
    trace = read(small_sweep / "fab-s1")
    clients = trace.clients.assign(energy_j=trace.clients.client + 1.0)
    with_energy = type(trace)(**{**vars(trace), "clients": clients})
    assert energy_so_far(with_energy).tolist() == [10.0 * (number + 1) for number in range(12)]
    partly = clients.assign(energy_j=clients["energy_j"].where(clients["round"] != 7))
    known = energy_so_far(type(trace)(**{**vars(trace), "clients": partly}))
    assert known[:7].notna().all()
    assert known[7:].isna().all()


def test_seeds_of_one_configuration_belong_together(small_sweep):
    dense, fab = groups.pooled(load([small_sweep]).runs)
    assert (dense.label, fab.label) == ("dense", "fab")
    assert [run.seed for run in fab.runs] == [1, 2]
    apart = groups.single(load([small_sweep]).runs)
    assert [group.label for group in apart][:2] == ["dense, seed = 1", "fab, seed = 1"]


def test_a_repeat_is_no_further_seed(small_sweep, tmp_path):
    again = Path(shutil.copytree(small_sweep / "fab-s1", tmp_path / "again"))
    runs = load([small_sweep / "fab-s1", small_sweep / "fab-s2", again]).runs
    first, second = groups.pooled(runs)
    assert (len(first.runs), len(second.runs)) == (2, 1)
    assert first.label == "fab (fab-s1)"
    assert second.label == "fab (again)"
    assert load_study([small_sweep / "fab-s1", again]).remarks == (
        f"{again}: left out, it repeats {small_sweep / 'fab-s1'} (same configuration, same seed)",
    )


@pytest.mark.parametrize(
    "statement",
    [
        "import fedmpi.analysis",
        "from fedmpi.cli.main import main; assert main(['summarize', {sweep!r}]) == 0",
        "from fedmpi.cli.main import main; assert main(['plot', {sweep!r}, '--output', 'x.png']) == 0",
        "from fedmpi.cli.main import main; assert main(['tables', 'fairness', {sweep!r}]) == 0",
    ],
)
def test_neither_torch_nor_mpi_is_imported(small_sweep, tmp_path, statement):
    check = "import sys; assert not {'torch', 'mpi4py'} & set(sys.modules)"
    code = f"{statement.format(sweep=str(small_sweep))}\n{check}"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
