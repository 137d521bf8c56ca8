"""Runs over several nodes that SLURM ends: preempted, at their time limit, with a node; and how they go on.

Beside test_many_nodes.py, as waiting for SLURM takes most of the time: files run side by side, each with its cluster.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from many_nodes_cluster import ManyNodes
from many_nodes_jobs import goes_on, submit, wait_for_rounds

from fedmpi import trace


@pytest.mark.parametrize(
    ("launch", "nodes"),
    [("mpich-srun", 1), ("mpich-mpiexec", 2), ("openmpi-srun", 2)],
)
def test_a_job_of_higher_priority_gets_the_nodes_after_a_checkpoint(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path, launch: str, nodes: int
) -> None:
    """PreemptMode=REQUEUE: SLURM sends SIGTERM to every process of the job, and kills what is left after KillWait."""
    config, expected = whole
    folder = tmp_path / "run"
    job = submit(many_nodes, config, folder, launch, f"--nodes={nodes}", "--ntasks=3")
    wait_for_rounds(many_nodes, job, folder, 7)
    urgent = many_nodes.submit("--partition=high", "--nodes=3", "--exclusive", "--wrap=true")
    assert many_nodes.wait(urgent).state == "COMPLETED"
    waiting = many_nodes.wait(job, "PENDING", "FAILED")
    assert waiting.state == "PENDING", waiting.output
    assert "ended with exit code 75" in waiting.output
    assert trace.read(folder).attributes["status"] == "preempted"
    goes_on(many_nodes, job, expected, folder)


def test_a_job_is_warned_before_its_time_limit(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    """By SLURM itself, which looks every half minute and warns as much earlier; the shortest limit is one minute."""
    config, expected = whole
    folder = tmp_path / "run"
    options = ("--time=1", "--signal=B:USR2@10", "--nodes=2", "--ntasks=3")
    job = submit(many_nodes, config, folder, "mpich-srun", *options, host_s=60)
    wait_for_rounds(many_nodes, job, folder, 7)
    waiting = many_nodes.wait(job, "PENDING", "FAILED", "TIMEOUT", "COMPLETED")
    assert waiting.state == "PENDING", waiting.output
    assert "USR2: asking the run for a checkpoint" in waiting.output
    assert "checkpoint written; requeued" in waiting.output
    many_nodes.check("scontrol", "update", f"JobId={job}", "TimeLimit=10")
    goes_on(many_nodes, job, expected, folder)


def test_a_job_goes_on_without_the_node_that_died(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    """NODE_FAIL, and back into the queue. MPICH's mpiexec fails before SLURM has noticed, and the job with it."""
    config, expected = whole
    folder = tmp_path / "run"
    job = submit(many_nodes, config, folder, "mpich-srun", "--nodelist=n[1-2]", "--nodes=2", "--ntasks=3")
    wait_for_rounds(many_nodes, job, folder, 7)
    many_nodes.kill_node(2)
    try:
        waiting = many_nodes.wait(job, "PENDING", "FAILED", "NODE_FAIL")
        assert waiting.state == "PENDING", waiting.output
        many_nodes.check("scontrol", "update", f"JobId={job}", "ReqNodeList=")
        goes_on(many_nodes, job, expected, folder)
    finally:
        many_nodes.start_node(2)
        many_nodes.wait_for_node(2)
