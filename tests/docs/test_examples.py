"""The examples run, as they are, with few rounds."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"

SMALL = ("experiment.rounds=2", "experiment.evaluate_every=1", "clients.count=3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy, so that runs do not lie in the project."""
    return Path(shutil.copytree(EXAMPLES, tmp_path_factory.mktemp("examples") / "examples"))


def printed(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_method_of_ones_own_and_its_trace(folder: Path) -> None:
    lines = printed(folder, "own_method.py", *SMALL).splitlines()
    assert [line.split(" after ")[0].strip() for line in lines] == ["FAB-top-k", "sign agreement"]
    shown = printed(folder, "read_trace.py", "runs/sign_agreement-1")
    assert "method: sign_agreement:METHOD, status: completed" in shown
    assert [f"client   {client}" in shown for client in range(4)] == [True, True, True, False]


def test_an_aggregation_rule_of_ones_own(folder: Path) -> None:
    lines = printed(folder, "own_aggregation.py", *SMALL).splitlines()
    assert [line.split()[0] for line in lines] == ["mean", "own_aggregation:MEDIAN"]
    accuracies = [line.split("accuracy ")[1] for line in lines]
    assert accuracies[0] != accuracies[1]


def test_every_example_is_tested_or_used() -> None:
    scripts = {path.stem for path in EXAMPLES.glob("*.py")}
    assert scripts == {"own_method", "sign_agreement", "own_aggregation", "read_trace"}
