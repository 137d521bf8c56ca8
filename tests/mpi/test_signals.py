"""Signals to real runs: a checkpoint and exit code 75 from the first moment on, whoever is told; and silent ranks."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from experiments import assert_same_trace, write_config
from test_kill_and_resume import rank_processes, wait_for_rounds

from fedmpi import trace

LONG = ["experiment.rounds=40", "experiment.checkpoint_every=5"]
SLOW = ["emulation.clock=realtime", "emulation.time_scale=1"]
"""A pace at which the 40 rounds take at least 5 s on the fastest host: a signal finds them."""
ENDS_WITHIN_S = 90

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def command() -> Iterator[Start]:
    """``command(*arguments)`` starts ``fedmpi ARGUMENTS`` as a terminal would: a process group of its own."""
    running: list[subprocess.Popen[str]] = []

    def start(*arguments: str | Path, hangup: signal.Handlers = signal.SIG_DFL) -> subprocess.Popen[str]:
        def prepare() -> None:
            signal.signal(signal.SIGHUP, hangup)

        process = subprocess.Popen(
            [sys.executable, "-m", "fedmpi", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            start_new_session=True,
            preexec_fn=prepare,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        with process:
            process.kill()


@pytest.fixture
def whole(whole_run: Callable[..., Path], tmp_path: Path) -> tuple[Path, Path]:
    """A configuration, and the folder of its uninterrupted run on one rank."""
    config = write_config(tmp_path, "fab_adaptive")
    return config, whole_run(config, *LONG)


def finish(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Exit code and stderr of a process that ends soon."""
    _, error = process.communicate(timeout=ENDS_WITHIN_S)
    return process.returncode, error


def own_lines(error: str) -> list[str]:
    """What fedmpi says, but for the host that was too slow for the clock."""
    lines = [line for line in error.splitlines() if line.startswith("fedmpi: ")]
    return [line for line in lines if "emulation was not honoured" not in line]


def wait_until(reached: Callable[[], bool]) -> None:
    deadline = time.monotonic() + ENDS_WITHIN_S
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize(
    ("ranks", "number"),
    [(1, signal.SIGINT), (1, signal.SIGHUP), (2, signal.SIGTERM), (3, signal.SIGINT)],
)
def test_a_checkpoint_and_the_command_that_goes_on(
    command: Start, whole: tuple[Path, Path], tmp_path: Path, ranks: int, number: int
) -> None:
    """The signal goes to the whole process group, as a terminal sends it, and twice."""
    config, expected = whole
    output = tmp_path / "stopped"
    process = command("run", config, *LONG, *SLOW, "--ranks", ranks, "--output", output)
    wait_for_rounds(process, output, 4)
    for _ in range(2):
        os.killpg(process.pid, number)
        time.sleep(0.1)
    code, error = finish(process)
    assert code == 75, error
    (line,) = own_lines(error)
    assert "Traceback" not in error
    assert trace.read(output).attributes["status"] == "preempted"
    said = line.removeprefix("fedmpi: stopped with a checkpoint; to go on: ")
    words = [sys.executable, "-m", *shlex.split(said), *LONG, "emulation.clock=virtual", "--quiet"]
    subprocess.run(words, check=True, timeout=240)
    assert_same_trace(expected, output)


@pytest.mark.parametrize("ranks", [1, 3])
def test_a_signal_that_comes_before_the_first_round(
    command: Start, whole: tuple[Path, Path], tmp_path: Path, ranks: int
) -> None:
    """At moments of starting, importing and assembling: nothing is left, or a run that can be gone on with."""
    config, _ = whole
    for attempt, delay_s in enumerate((0.2, 1.0, 3.0)):
        output = tmp_path / str(attempt)
        lasting = ["emulation.clock=realtime", "emulation.time_scale=5"]
        process = command("run", config, *LONG, *lasting, "--ranks", ranks, "--output", output)
        time.sleep(delay_s)
        process.send_signal(signal.SIGTERM)
        code, error = finish(process)
        if code == -signal.SIGTERM:  # before Python had begun to run any of our code
            assert (attempt, output.exists(), error) == (0, False, "")
            continue
        assert code == 75, error
        (line,) = own_lines(error)
        assert "Traceback" not in error
        assert ("stopped with a checkpoint" in line) == (output / "checkpoint").exists()
        assert ("nothing was written" in line) == (not output.exists())


@pytest.mark.parametrize("ranks", [1, 2])
def test_insisting_ends_everything_at_once(
    command: Start, whole: tuple[Path, Path], tmp_path: Path, ranks: int
) -> None:
    """The round in which the first signal comes would last for hours."""
    config, _ = whole
    output = tmp_path / "run"
    endless = ["emulation.clock=realtime", "emulation.time_scale=10000"]
    process = command("run", config, *endless, "--ranks", ranks, "--output", output)
    wait_until((output / "trace.h5").exists)
    time.sleep(2.0)  # the first round begins
    process.send_signal(signal.SIGINT)
    time.sleep(3.0)
    process.send_signal(signal.SIGINT)
    code, error = finish(process)
    assert code == 128 + signal.SIGINT, error
    wait_until(lambda: not rank_processes(output))


def test_nohup_is_respected(command: Start, whole: tuple[Path, Path], tmp_path: Path) -> None:
    config, _ = whole
    process = command("run", config, *LONG, *SLOW, "--output", tmp_path / "run", hangup=signal.SIG_IGN)
    wait_for_rounds(process, tmp_path / "run", 4)
    process.send_signal(signal.SIGHUP)
    assert finish(process)[0] == 0


def test_ranks_end_with_their_supervisor(command: Start, whole: tuple[Path, Path], tmp_path: Path) -> None:
    config, _ = whole
    output = tmp_path / "run"
    process = command("run", config, *LONG, "emulation.clock=realtime", "--ranks", 3, "--output", output)
    wait_until((output / "trace.h5").exists)
    assert len(rank_processes(output)) == 3
    process.kill()
    wait_until(lambda: not rank_processes(output))


@pytest.mark.parametrize(("ranks", "victim"), [(2, 0), (3, 1), (3, 2)])
def test_a_rank_that_is_stopped_for_ever_ends_the_job(
    command: Start, whole: tuple[Path, Path], tmp_path: Path, ranks: int, victim: int
) -> None:
    config, _ = whole
    output = tmp_path / "stalled"
    watched = [*SLOW, "experiment.rounds=100000", "experiment.stall_timeout_s=5"]
    process = command("run", config, *watched, "--ranks", ranks, "--output", output)
    wait_for_rounds(process, output, 7)
    stopped = rank_processes(output)[victim]
    os.kill(stopped, signal.SIGSTOP)
    code, error = finish(process)
    assert code == 1, error
    (line,) = own_lines(error)
    assert re.match(rf"fedmpi: rank {victim} \(process {stopped} on .+\) has been silent for 5 s", line)
    wait_until(lambda: not rank_processes(output))


def test_a_long_hold_of_the_real_time_clock_is_no_silence(
    command: Start, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    """Rounds that last longer than the timeout."""
    config, _ = whole
    slow = ["emulation.clock=realtime", "emulation.time_scale=0.4", "emulation.network.latency_s=3"]
    short = ["experiment.rounds=2", "experiment.stall_timeout_s=2"]
    process = command("run", config, *short, *slow, "--ranks", 3, "--output", tmp_path / "run")
    code, error = finish(process)
    assert code == 0, error
    rounds = trace.read(tmp_path / "run").rounds
    assert (rounds["end_s"] - rounds["start_s"]).min() * 0.4 > 2.0
