"""Parts with a fault end a run with one line that names the key, the part, its function and what is allowed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import fedmpi
from fedmpi.cli.main import main

WRONG = Path(__file__).parent / "wrong"
FAB = ("sparsification.method=fab", "sparsification.k=40", "k_control.method=fixed")
ENTRIES = FAB[1:]

FAULTS: dict[str, tuple[tuple[str, ...], str]] = {
    "FLOATS": (
        ("sparsification.method=wrong_parts:FLOATS", *ENTRIES),
        '[sparsification] method: "wrong_parts:FLOATS": choose gave indices as float64 of shape (40,); allowed: inte',
    ),
    "GLOBAL": (
        ("sparsification.method=wrong_parts:GLOBAL", *ENTRIES),
        "choose draws from a global generator of random numbers",
    ),
    "TWICE": (("sparsification.method=wrong_parts:TWICE", *ENTRIES), "distinct indices in rising order"),
    "CONTROLLER": (
        (FAB[0], "sparsification.k=0", "k_control.method=wrong_parts:CONTROLLER"),
        '[k_control] method: "wrong_parts:CONTROLLER": step gave k = 0; allowed: an int from 10 to 4810',
    ),
    "PRUNING": (
        (*FAB, "pruning.method=wrong_parts:PRUNING"),
        "step gave a mask over 3 parameters; allowed: one over 4810",
    ),
    "AGGREGATOR": (
        (*FAB, "federation.aggregator=wrong_parts:AGGREGATOR"),
        "step gave the change with nan at 0",
    ),
    "COMBINING": (
        (*FAB, "federation.aggregator=wrong_parts:COMBINING"),
        '[federation] aggregator: found "wrong_parts:COMBINING" with [sparsification] method "fab", which combines',
    ),
    "COMPUTE": ((*FAB, "emulation.compute.model=wrong_parts:COMPUTE"), "allowed: finite seconds from 0 on"),
    "AVAILABILITY": (
        (*FAB, "emulation.availability.model=wrong_parts:AVAILABILITY"),
        "available gave its result as int64 of shape (8,); allowed: bool of shape (8,)",
    ),
    "two_labels_for_three": (
        (*FAB, "data.dataset=wrong_parts:two_labels_for_three", "data.path=.", "sparsification.k=4"),
        "gave train_y as int64 of shape (60,), from 0 to 2; allowed: int64 of shape (60,), from 0 to 1",
    ),
    "broken_partition": (
        (*FAB, "data.partition=wrong_parts:broken_partition"),
        "failed: AttributeError: 'numpy.ndarray' object has no attribute 'nothing' (wrong_parts.py, line",
    ),
}


@pytest.fixture(autouse=True)
def beside_the_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(WRONG)
    monkeypatch.syspath_prepend(WRONG)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_one_line_of_a_run(name: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    overrides, message = FAULTS[name]
    command = [
        "run",
        "quickstart",
        "experiment.rounds=2",
        *overrides,
        "--output",
        str(tmp_path / "run"),
        "--quiet",
    ]
    assert main(command) == 2
    said = capfd.readouterr().err
    assert said.startswith("fedmpi: ")
    assert message in said
    assert said.count("\n") == 1
    if (tmp_path / "run/trace.h5").exists():
        assert fedmpi.read_trace(tmp_path / "run").attributes["status"] == "failed"


def test_a_fault_on_a_rank_that_trains_ends_all_with_its_line(tmp_path: Path) -> None:
    command = [sys.executable, "-P", "-m", "fedmpi.mpi.forkserver", "-m", "fedmpi", "run", "quickstart"]
    overrides, message = FAULTS["FLOATS"]
    done = subprocess.run(
        [*command, *overrides, "--ranks", "3", "--output", str(tmp_path / "run"), "--quiet"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert fedmpi.read_trace(tmp_path / "run").attributes["status"] == "failed"


def test_from_python_it_is_the_text_of_the_exception(tmp_path: Path) -> None:
    overrides, message = FAULTS["FLOATS"]
    with pytest.raises(fedmpi.RunError) as caught:
        fedmpi.run("quickstart", *overrides, ranks=2, output=tmp_path / "run", quiet=True)
    assert caught.value.exit_code == 2
    assert str(caught.value).startswith(message)


def test_one_and_the_same_array_may_be_everybodys_share(tmp_path: Path) -> None:
    overrides = ["data.partition=wrong_parts:everyone_has_everything", "experiment.rounds=1", "--quiet"]
    assert main(["run", "quickstart", *FAB, *overrides, "--output", str(tmp_path / "run")]) == 0
    devices = fedmpi.read_trace(tmp_path / "run").devices
    assert devices.samples.nunique() == 1
