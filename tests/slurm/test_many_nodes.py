"""Runs over several nodes, of MPICH and Open MPI: the trace of one rank, whatever ends and resumes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from experiments import assert_same_trace, write_config
from libraries import ROOT_VARIABLES, open_mpi
from many_nodes_cluster import ManyNodes
from one_node_cluster import PROJECT

from fedmpi import trace

SCRIPT = PROJECT / "jobs" / "run.sbatch"
SWEEP_SCRIPT = PROJECT / "jobs" / "sweep.sbatch"
LONG = ["experiment.rounds=40", "experiment.checkpoint_every=5"]
EMULATED_S = 5.1
"""What the rounds of LONG last for the emulated devices."""
LAUNCHES = ["mpich-srun", "mpich-mpiexec", "openmpi-srun", "openmpi-mpiexec"]


def lasting(host_s: float) -> list[str]:
    """Overrides with which all rounds together take at least so long."""
    return ["emulation.clock=realtime", f"emulation.time_scale={host_s / EMULATED_S}"]


def variables(cluster: ManyNodes, launch: str) -> dict[str, str]:
    """What lets jobs/run.sbatch run under an MPI library and a launcher; skips where they are not there."""
    library, launcher = launch.split("-")
    if library == "mpich":
        return {"FEDMPI_LAUNCHER": launcher}
    if launcher == "srun" and (reason := cluster.why_no_pmix()):
        pytest.skip(reason)
    return {"FEDMPI_LAUNCHER": launcher, "FEDMPI_VENV": str(open_mpi().python.parents[1]), **ROOT_VARIABLES}


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


def wait_for_rounds(cluster: ManyNodes, job: int | str, folder: Path, rounds: int) -> None:
    def committed() -> int:
        try:
            return int(trace.read(folder).attributes["committed_rounds"])
        except trace.TraceError:
            return 0

    cluster.wait_for(job, lambda: committed() >= rounds, f"never did {rounds} rounds")


def submit(
    cluster: ManyNodes, config: Path, folder: Path, launch: str, *options: str, host_s: float = 10
) -> int:
    """A job that takes at least ``host_s``."""
    return cluster.submit(
        "--requeue",
        *options,
        SCRIPT,
        config,
        *LONG,
        *lasting(host_s),
        **variables(cluster, launch),
        FEDMPI_OUTPUT=str(folder),
    )


def goes_on(cluster: ManyNodes, job: int | str, expected: Path, folder: Path) -> None:
    """A job that waits in the queue again has left a part of the run, and completes it when it starts."""
    left = trace.read(folder)
    assert 7 <= len(left.rounds) < 40
    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "resuming before round" in done.output
    assert_same_trace(expected, folder)


@pytest.mark.parametrize("launch", LAUNCHES)
def test_ranks_on_three_nodes_give_the_trace_of_one_rank(
    many_nodes: ManyNodes, whole: tuple[Path, Path], tmp_path: Path, launch: str
) -> None:
    config, expected = whole
    job = many_nodes.submit(
        "--nodes=3",
        "--ntasks=4",
        SCRIPT,
        config,
        *LONG,
        **variables(many_nodes, launch),
        FEDMPI_OUTPUT=str(tmp_path / "run"),
    )
    done = many_nodes.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    attributes = trace.read(tmp_path / "run").attributes
    assert attributes["ranks"] == 4
    assert attributes["mpi_library"].startswith("MPICH" if launch.startswith("mpich") else "Open MPI")
    assert_same_trace(expected, tmp_path / "run")


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
