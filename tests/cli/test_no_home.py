"""A user without a home folder and without an entry among the users, as in containers with a user of their own."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

WITHOUT_HOME = ["unshare", "-U", "--map-user=54321", "--map-group=54321", "env"]
WITHOUT_HOME += [
    f"--unset={name}" for name in ("HOME", "XDG_CONFIG_HOME", "FEDMPI_DEVICES", "USER", "LOGNAME")
]


Fedmpi = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def fedmpi(tmp_path: Path, clean_environment: dict[str, str]) -> Fedmpi:
    if shutil.which("unshare") is None or subprocess.run([*WITHOUT_HOME, "true"], check=False).returncode:
        pytest.skip("this machine has no user namespaces")

    def start(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*WITHOUT_HOME, sys.executable, "-m", "fedmpi", *arguments],
            cwd=tmp_path,
            env=clean_environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return start


def test_a_run_needs_no_home(fedmpi: Fedmpi, tmp_path: Path) -> None:
    done = fedmpi("run", "quickstart", "experiment.rounds=1", "--quiet", "--output", "run")
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "trace.h5").is_file()


def test_a_measured_device_needs_a_place(fedmpi: Fedmpi) -> None:
    refused = fedmpi("calibrate", "mlp", "--device", "mine")
    assert refused.returncode == 2
    assert "FEDMPI_DEVICES: not set, and this user has no home folder" in refused.stderr
    assert refused.stderr.count("\n") == 1
