"""Runs over several nodes: the trace of one rank, preemption by other jobs, and nodes that die."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from experiments import assert_same_trace, write_config
from many_nodes_cluster import ManyNodes, many_nodes_cluster
from one_node_cluster import PROJECT

from fedmpi import trace

SCRIPT = PROJECT / "jobs" / "run.sbatch"
LONG = ["experiment.rounds=40", "experiment.checkpoint_every=5"]
SLOW = ["emulation.clock=realtime", "emulation.time_scale=0.01"]
LAUNCHERS = ["srun", "mpiexec"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A configuration, and the folder of its uninterrupted run on one rank."""
    folder = tmp_path_factory.mktemp("whole")
    config = write_config(folder, "fab_adaptive")
    command = [
        sys.executable,
        "-m",
        "fedmpi",
        "run",
        str(config),
        *LONG,
        "--output",
        str(folder / "run"),
        "--quiet",
    ]
    subprocess.run(command, check=True, timeout=240)
    return config, folder / "run"


def wait_for_rounds(cluster: ManyNodes, job: int, folder: Path, rounds: int) -> None:
    def committed() -> int:
        try:
            return int(trace.read(folder).attributes["committed_rounds"])
        except trace.TraceError:
            return 0

    cluster.wait_for(job, lambda: committed() >= rounds, f"never did {rounds} rounds")


def submit(cluster: ManyNodes, config: Path, folder: Path, launcher: str, *options: str) -> int:
    return cluster.submit(
        "--requeue",
        *options,
        SCRIPT,
        config,
        *LONG,
        *SLOW,
        FEDMPI_LAUNCHER=launcher,
        FEDMPI_OUTPUT=str(folder),
    )


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_ranks_on_three_nodes_give_the_trace_of_one_rank(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path, launcher: str
) -> None:
    config, expected = whole
    job = many_nodes.submit(
        "--nodes=3",
        "--ntasks=5",
        SCRIPT,
        config,
        *LONG,
        FEDMPI_LAUNCHER=launcher,
        FEDMPI_OUTPUT=str(tmp_path / "run"),
    )
    done = many_nodes.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert trace.read(tmp_path / "run").attributes["ranks"] == 5
    assert_same_trace(expected, tmp_path / "run")


@pytest.mark.parametrize("nodes", [1, 2])
@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_a_job_of_higher_priority_gets_the_nodes_after_a_checkpoint(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path, launcher: str, nodes: int
) -> None:
    """PreemptMode=REQUEUE: SLURM sends SIGTERM to every process of the job, and kills what is left after KillWait."""
    config, expected = whole
    folder = tmp_path / "run"
    job = submit(many_nodes, config, folder, launcher, f"--nodes={nodes}", "--ntasks=3")
    wait_for_rounds(many_nodes, job, folder, 7)
    urgent = many_nodes.submit("--partition=high", "--nodes=3", "--exclusive", "--wrap=true")
    assert many_nodes.wait(urgent).state == "COMPLETED"
    waiting = many_nodes.wait(job, "PENDING", "FAILED")
    assert waiting.state == "PENDING", waiting.output
    assert "ended with exit code 75" in waiting.output
    left = trace.read(folder)
    assert left.attributes["status"] == "preempted"
    assert 7 <= len(left.rounds) < 40
    many_nodes.restart(job)
    done = many_nodes.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert f"resuming before round {len(left.rounds)}" in done.output
    assert_same_trace(expected, folder)


@pytest.mark.usefixtures("many_nodes")  # for its reasons to skip
def test_a_job_goes_on_without_the_node_that_died(whole: tuple[Path, Path], tmp_path: Path) -> None:
    """NODE_FAIL, and back into the queue. MPICH's mpiexec fails before SLURM has noticed, and the job with it."""
    config, expected = whole
    folder = tmp_path / "run"
    with many_nodes_cluster(3) as cluster:
        job = submit(cluster, config, folder, "srun", "--nodes=2", "--ntasks=3")
        wait_for_rounds(cluster, job, folder, 7)
        assert cluster.show(job)["NodeList"] == "n[1-2]"
        cluster.kill_node(2)
        waiting = cluster.wait(job, "PENDING", "FAILED", "NODE_FAIL")
        assert waiting.state == "PENDING", waiting.output
        assert 7 <= len(trace.read(folder).rounds) < 40
        cluster.restart(job)
        done = cluster.wait(job)
        assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "resuming before round" in done.output
    assert_same_trace(expected, folder)
