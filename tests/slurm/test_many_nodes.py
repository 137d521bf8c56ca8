"""Runs over several nodes, of MPICH and Open MPI: the trace of one rank, on one node or another."""

from __future__ import annotations

from pathlib import Path

import pytest
from experiments import assert_same_trace
from many_nodes_cluster import ManyNodes
from many_nodes_jobs import (
    LONG,
    SCRIPT,
    SWEEP_SCRIPT,
    goes_on,
    lasting,
    submit,
    submit_until_it_begins,
    variables,
    wait_for_rounds,
)

from fedmpi import trace

LAUNCHES = ["mpich-srun", "mpich-mpiexec", "openmpi-srun", "openmpi-mpiexec"]


@pytest.mark.parametrize("launch", LAUNCHES)
def test_ranks_on_three_nodes_give_the_trace_of_one_rank(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path, launch: str
) -> None:
    config, expected = whole
    arguments = ("--nodes=3", "--ntasks=4", SCRIPT, config, *LONG)
    job = submit_until_it_begins(many_nodes, tmp_path / "run", *arguments, **variables(many_nodes, launch))
    done = many_nodes.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    attributes = trace.read(tmp_path / "run").attributes
    assert attributes["ranks"] == 4
    assert attributes["mpi_library"].startswith("MPICH" if launch.startswith("mpich") else "Open MPI")
    assert_same_trace(expected, tmp_path / "run")


def test_a_cancelled_run_goes_on_in_a_job_of_another_mpi_library(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    config, expected = whole
    folder = tmp_path / "run"
    job = submit(many_nodes, config, folder, "mpich-srun", "--nodes=3", "--ntasks=3")
    wait_for_rounds(many_nodes, job, folder, 7)
    many_nodes.check("scancel", str(job))
    assert many_nodes.wait(job).state == "CANCELLED"
    many_nodes.wait_until_quiet()
    assert many_nodes.show(job)["Restarts"] == "0"
    left = trace.read(folder)
    assert left.attributes["status"] == "preempted"
    other = submit(many_nodes, config, folder, "openmpi-srun", "--nodes=2", "--ntasks=4", host_s=0.1)
    done = many_nodes.wait(other)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert f"resuming before round {len(left.rounds)}" in done.output
    assert_same_trace(expected, folder)


def test_runs_of_an_array_each_have_their_nodes(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path
) -> None:
    """One of a sweep's two runs is asked for a checkpoint, and goes on."""
    config, expected = whole
    sweep = tmp_path / "pair.toml"
    sweep.write_text(
        f'base = "{config}"\n[axes.method]\nfab = {{}}\n'
        'dense = { sparsification.method = "dense", k_control.method = "fixed" }\n'
    )
    options = ("--array=0-1", "--requeue", "--nodes=1", "--ntasks=2", "--exclusive")
    overrides = [*LONG, *lasting(10)]
    runs = tmp_path / "runs"
    job = many_nodes.submit(*options, SWEEP_SCRIPT, sweep, *overrides, FEDMPI_OUTPUT=str(runs))
    fab, dense = f"{job}_0", f"{job}_1"
    wait_for_rounds(many_nodes, fab, runs / "fab", 7)
    many_nodes.check("scancel", "--batch", "--signal=USR2", fab)
    waiting = many_nodes.wait(fab, "PENDING", "FAILED")
    assert "ended with exit code 75" in waiting.output
    goes_on(many_nodes, fab, expected, runs / "fab")
    done = many_nodes.wait(dense)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert trace.read(runs / "dense").attributes["status"] == "completed"
