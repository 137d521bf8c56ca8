"""A checkpoint that was changed, its checksum made again, or a model that was, ends a resume in one line."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedmpi.checkpoint import store

MODEL = """from torch import nn

def make(shape, classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 8), {between}nn.Linear(8, classes))
"""
RUN = ["run", "quickstart", "model.name=layers:make", "experiment.checkpoint_every=2", "--quiet"]


def _run(environment: dict[str, str], folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmpi", *RUN, *more, "--output", "run"]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory, clean_environment: dict[str, str]) -> Path:
    """A folder with a model and a run of it, of 2 rounds."""
    folder = tmp_path_factory.mktemp("stopped")
    (folder / "layers.py").write_text(MODEL.format(between=""))
    assert _run(clean_environment, folder, "experiment.rounds=2").returncode == 0
    return folder


def _with(*path: str, value: object) -> Callable[[dict[str, Any]], None]:
    def change(values: dict[str, Any]) -> None:
        for name in path[:-1]:
            values = values[name]
        values[path[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (_with("k_control", "k_probe", value=[1]), r"k_probe is \[1\], expected is int"),
        (_with("k_control", "k_max", value=""), "k_max is '', expected is int"),
        (_with("k_control", "window", value=["x"]), r"window is \['x'\], expected is tuple\[int, ...\]"),
        (_with("k_control", "k_min", value=-5), "k_min is -5 and k_max "),
        (_with("emulated_s", value=-1.0), "emulated_s is -1.0"),
        (_with("model", "classes", value=9), "the model's layers are not those of before"),
    ],
)
def test_changed_values_are_refused(
    stopped: Path,
    tmp_path: Path,
    clean_environment: dict[str, str],
    change: Callable[[dict[str, Any]], None],
    found: str,
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    manifest = folder / "run" / "checkpoint" / "round-00000002" / "manifest.json"
    body = json.loads(manifest.read_text())
    del body["checksum"]
    change(body["values"])
    manifest.write_text(store._manifest_text(body))
    resumed = _run(clean_environment, folder, "experiment.rounds=4", "--resume")
    assert resumed.returncode == 1
    assert resumed.stderr.count("\n") == 1
    assert "checkpoint/round-00000002" in resumed.stderr
    assert re.search(found, resumed.stderr), resumed.stderr


def test_a_model_of_other_layers_and_as_many_parameters_is_refused(
    stopped: Path, tmp_path: Path, clean_environment: dict[str, str]
) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(stopped, folder)
    (folder / "layers.py").write_text(MODEL.format(between="nn.Identity(), "))
    resumed = _run(clean_environment, folder, "experiment.rounds=4", "--resume")
    assert resumed.returncode == 1
    assert "the model's layers are not those of before; a model of one's own" in resumed.stderr
    assert resumed.stderr.count("\n") == 1
