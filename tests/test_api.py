"""The public face: lazy, in processes of its own, with errors as exceptions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fedmpi

SMALL = {
    "experiment": {"name": "tiny", "rounds": 3, "seed": 4},
    "clients": {"count": 3},
    "model": {"hidden": [8]},
}


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_importing_loads_nothing_heavy() -> None:
    code = (
        "import sys, fedmpi; assert 'run' in dir(fedmpi); fedmpi.load_config('quickstart'); fedmpi.read_trace; "
        "print([m for m in ('torch', 'mpi4py.MPI', 'sklearn') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_unknown_names_are_errors() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'rnu'"):
        _ = fedmpi.rnu


def test_a_run_from_dicts_gives_its_trace(capfd: pytest.CaptureFixture[str]) -> None:
    trace = fedmpi.run(SMALL, "experiment.rounds=2", ranks=2)
    assert len(trace.rounds) == 2
    assert trace.attributes["status"] == "completed"
    assert trace.attributes["ranks"] == 2
    assert Path("runs/tiny-4/trace.h5").is_file()
    assert "completed" in capfd.readouterr().out
    again = fedmpi.run(
        fedmpi.load_config("\n".join(("[experiment]", "rounds = 1"))), output="other", quiet=True
    )
    assert len(again.rounds) == 1
    assert not capfd.readouterr().out
    assert len(fedmpi.run(SMALL, resume=True, quiet=True).rounds) == 3


def test_what_cannot_be_run_is_a_config_error() -> None:
    with pytest.raises(fedmpi.ConfigError, match=r"\[experiment\] rounds: found 0"):
        fedmpi.run(SMALL, "experiment.rounds=0")
    with pytest.raises(fedmpi.ConfigError, match="at most 4"):
        fedmpi.run(SMALL, ranks=9)
    assert not Path("runs").exists()
    Path("runs").mkdir()
    Path("runs/tiny-4").write_text("")
    with pytest.raises(fedmpi.ConfigError, match="is a file"):
        fedmpi.run(SMALL)


def test_a_run_that_fails_is_a_run_error(tmp_path: Path) -> None:
    (tmp_path / "failing_model.py").write_text(
        "import torch\n\n\ndef make(shape, classes):\n    raise RuntimeError('no such luck')\n"
    )
    with pytest.raises(fedmpi.RunError, match="no such luck") as caught:
        fedmpi.run(SMALL, "model.name=failing_model:make", quiet=True)
    assert caught.value.exit_code == 2


def test_a_sweep_gives_all_traces(tmp_path: Path) -> None:
    (tmp_path / "base.toml").write_text(
        "[experiment]\nrounds = 1\n[clients]\ncount = 2\n[model]\nhidden = [8]\n"
    )
    (tmp_path / "two.toml").write_text(
        'base = "base.toml"\nseeds = [1, 2]\n\n[axes.method.dense]\nsparsification.method = "dense"\n'
    )
    traces = fedmpi.sweep(tmp_path / "two.toml", quiet=True)
    assert sorted(trace.config["experiment"]["seed"] for trace in traces.values()) == [1, 2]
    assert all(len(trace.rounds) == 1 for trace in traces.values())
    (tmp_path / "longer.toml").write_text((tmp_path / "base.toml").read_text().replace("= 1", "= 2"))
    longer = fedmpi.sweep(
        tmp_path / "two.toml", "data.partition=iid", base=tmp_path / "longer.toml", quiet=True
    )
    assert [len(trace.rounds) for trace in longer.values()] == [2, 2]
    assert Path("runs/two-longer/dense-s1/trace.h5").exists()
