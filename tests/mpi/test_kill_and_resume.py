"""kill -9 of any rank: all end, the trace is whole, and --resume ends with the trace of an uninterrupted run.

The uninterrupted run is always one of this interpreter's MPI library on one rank, and made once for all tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
from experiments import INITIAL, VARIANTS, assert_same_trace, write_config

from fedmpi import trace

LONG = ["experiment.rounds=40", "experiment.checkpoint_every=5"]
ENDS_WITHIN_S = 90
RANK_VARIABLES = (b"PMI_RANK=", b"OMPI_COMM_WORLD_RANK=")


def rank_processes(output: Path) -> list[int]:
    """The processes of the run in ``output``, by rank; mpiexec and its helpers are not among them."""
    found = {}
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().split(b"\0")
            environment = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if str(output).encode() in words and words[0].rpartition(b"/")[2].startswith(b"python"):
            ranks = [int(e.partition(b"=")[2]) for e in environment if e.startswith(RANK_VARIABLES)]
            found.update({rank: int(folder.name) for rank in ranks})
    return [found[rank] for rank in sorted(found)]


def committed_rounds(output: Path) -> int:
    try:
        return int(trace.read(output).attributes["committed_rounds"])
    except trace.TraceError:
        return 0


def wait_for_rounds(process: subprocess.Popen[str], output: Path, rounds: int) -> None:
    deadline = time.monotonic() + 120
    while committed_rounds(output) < rounds:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "the run does not get on"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("mpi", "method", "victim", "resume_ranks"),
    [
        ("mpich", "dense", 2, 1),
        ("mpich", "fab_adaptive", 1, 4),
        ("mpich", "fab_fixed", 0, 3),
        ("openmpi", "fab_adaptive", 0, 2),
        ("openmpi", "fab_fixed", 2, 4),
    ],
    indirect=["mpi"],
)
def test_kill_one_rank_then_resume(
    whole_run, launch, start, tmp_path: Path, method: str, victim: int, resume_ranks: int
) -> None:
    config = write_config(tmp_path, method)
    slow = ["emulation.clock=realtime", "emulation.time_scale=1"]
    whole = whole_run(config, *LONG)
    killed = tmp_path / "killed"
    process = start(3, config, *LONG, *slow, "--output", killed)
    wait_for_rounds(process, killed, 12)
    os.kill(rank_processes(killed)[victim], signal.SIGKILL)
    output, _ = process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode != 0
    assert "KILLED" in output.upper() or "killed" in output
    assert not rank_processes(killed)
    left = trace.read(killed)
    assert 12 <= len(left.rounds) < 40
    assert left.attributes["status"] == "running"
    launch(resume_ranks, "-m", "fedmpi", "run", config, *LONG, "--output", killed, "--resume", "--quiet")
    assert trace.read(killed).attributes["status"] == "completed"
    assert_same_trace(whole, killed)


@pytest.mark.parametrize(
    ("variant", "victim", "resume_ranks"),
    [("departures", 1, 2), ("departures_ogd", 0, 1), ("departures_prunefl", 2, 4)],
)
def test_kill_where_devices_come_and_go_then_resume(
    whole_run, launch, start, tmp_path: Path, variant: str, victim: int, resume_ranks: int
) -> None:
    """Link traces, availability, dropout, deadline and over-selection, all at once."""
    config = write_config(tmp_path, "dense")
    given = [*VARIANTS[variant], "experiment.rounds=10", "experiment.checkpoint_every=2"]
    whole = whole_run(config, *given)
    status = trace.read(whole).clients["status"]
    assert {"ok", "late", "dropped"} <= set(status)
    killed = tmp_path / "killed"
    slow = ["emulation.clock=realtime", "emulation.time_scale=8"]
    process = start(3, config, *given, *slow, "--output", killed)
    wait_for_rounds(process, killed, 5)
    os.kill(rank_processes(killed)[victim], signal.SIGKILL)
    process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode != 0
    assert 5 <= len(trace.read(killed).rounds) < 10
    launch(resume_ranks, "-m", "fedmpi", "run", config, *given, "--output", killed, "--resume", "--quiet")
    assert_same_trace(whole, killed)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_signal_checkpoints_and_exits_75(whole_run, launch, start, tmp_path: Path, number: int) -> None:
    config = write_config(tmp_path, "fab_adaptive")
    whole = whole_run(config, *LONG)
    stopped = tmp_path / "stopped"
    slow = ["emulation.clock=realtime", "emulation.time_scale=1"]
    process = start(3, config, *LONG, *slow, "--output", stopped)
    wait_for_rounds(process, stopped, 7)
    for pid in rank_processes(stopped):
        os.kill(pid, number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    left = trace.read(stopped)
    assert left.attributes["status"] == "preempted"
    launch(2, "-m", "fedmpi", "run", config, *LONG, "--output", stopped, "--resume", "--quiet")
    assert_same_trace(whole, stopped)


def start_initial_pruning(start, config: Path, output: Path) -> subprocess.Popen[str]:
    """A run on 3 ranks that is in the middle of initial pruning, which takes it about 20 s."""
    slow = ["emulation.clock=realtime", "emulation.time_scale=0.5"]
    process = start(3, config, *INITIAL, *slow, "--output", output)
    assert process.stdout is not None
    assert any("initial pruning 1/" in line for line in process.stdout), (
        "it never began"
    )  # a header comes first
    time.sleep(0.5)
    return process


@pytest.mark.parametrize("victim", [0, 2])
def test_a_signal_to_one_rank_interrupts_initial_pruning(
    whole_run, launch, start, tmp_path: Path, victim: int
) -> None:
    config = write_config(tmp_path, "dense")
    whole = whole_run(config, *INITIAL)
    stopped = tmp_path / "stopped"
    process = start_initial_pruning(start, config, stopped)
    os.kill(rank_processes(stopped)[victim], signal.SIGUSR2)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 75, output
    left = trace.read(stopped)
    assert left.attributes["status"] == "preempted"
    assert left.rounds.empty
    done = launch(2, "-m", "fedmpi", "run", config, *INITIAL, "--output", stopped, "--resume")
    assert "resuming initial pruning" in done.stdout
    assert_same_trace(whole, stopped)


def test_a_run_killed_in_initial_pruning_repeats_it(whole_run, launch, start, tmp_path: Path) -> None:
    config = write_config(tmp_path, "dense")
    whole = whole_run(config, *INITIAL)
    killed = tmp_path / "killed"
    process = start_initial_pruning(start, config, killed)
    os.kill(rank_processes(killed)[1], signal.SIGKILL)
    process.communicate(timeout=ENDS_WITHIN_S)
    assert process.returncode != 0
    assert trace.read(killed).rounds.empty
    launch(2, "-m", "fedmpi", "run", config, *INITIAL, "--output", killed, "--resume", "--quiet")
    assert_same_trace(whole, killed)


def test_damaged_checkpoint_falls_back_to_the_one_before(whole_run, launch, tmp_path: Path) -> None:
    config = write_config(tmp_path, "fab_fixed")
    whole = whole_run(config, *LONG)
    damaged = tmp_path / "damaged"
    launch(2, "-m", "fedmpi", "run", config, *LONG, "experiment.rounds=15", "--output", damaged, "--quiet")
    newest = sorted((damaged / "checkpoint").iterdir())[-1]
    victim = max(newest.iterdir(), key=lambda file: file.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[len(content) // 2] ^= 1
    victim.write_bytes(bytes(content))
    done = launch(3, "-m", "fedmpi", "run", config, *LONG, "--output", damaged, "--resume")
    told = done.stdout + done.stderr
    assert victim.name in told
    assert "damaged" in told
    assert_same_trace(whole, damaged)
