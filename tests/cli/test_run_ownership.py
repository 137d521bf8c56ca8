"""A run that goes on owns its folder, and ends when the folder is gone."""

import os
import shlex
import shutil
import subprocess
import sys
import time

import pytest

from fedmpi import trace

RUN = [sys.executable, "-m", "fedmpi", "run", "quickstart", "--quiet", "--output", "run"]
LIMIT_S = 120


@pytest.fixture
def going_on(tmp_path, clean_environment):
    """A run without end in the folder ``run``, after its first rounds; it is killed at the end of the test."""
    command = [*RUN, "experiment.rounds=1000000", "experiment.checkpoint_every=5"]
    with subprocess.Popen(
        command, cwd=tmp_path, env=clean_environment, stderr=subprocess.PIPE, text=True
    ) as process:
        deadline_s = time.monotonic() + LIMIT_S
        while not (tmp_path / "run" / "checkpoint" / "round-00000005").exists():
            assert process.poll() is None
            assert time.monotonic() < deadline_s
            time.sleep(0.05)
        yield process
        process.kill()


def test_a_second_run_is_refused_and_a_folder_that_is_gone_ends_the_first(
    going_on, tmp_path, clean_environment
):
    for option in ("--resume", "--overwrite"):
        second = subprocess.run(
            [*RUN, "experiment.rounds=1000000", "experiment.checkpoint_every=5", option],
            cwd=tmp_path,
            env=clean_environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert second.returncode == 2
        assert second.stderr.startswith(
            f"fedmpi: --output: run is in use by process {going_on.pid} on {os.uname().nodename}"
        )
        assert second.stderr.count("\n") == 1
    assert trace.read(tmp_path / "run").attributes["status"] == "running"
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    _, error = going_on.communicate(timeout=LIMIT_S)
    assert going_on.returncode == 1
    assert error.count("\n") == 1
    assert "run" in error


@pytest.mark.parametrize("ranks", ["1", "2"])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&- <&-"])
def test_streams_that_are_closed_from_the_start_end_no_run(tmp_path, clean_environment, ranks, closed):
    """No pipe of the run's own gets their numbers, in whose place libraries and ranks would write."""
    command = shlex.join([sys.executable, "-m", "fedmpi", "run", "quickstart", "experiment.rounds=2"])
    command += f" --ranks {ranks} --output run {closed}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=tmp_path,
        env=clean_environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert trace.read(tmp_path / "run").attributes["status"] == "completed"
