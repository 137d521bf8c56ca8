"""Jobs of real runs on the cluster of three nodes: as long as a test needs them, and how they go on."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from experiments import assert_same_trace
from libraries import ROOT_VARIABLES, open_mpi
from many_nodes_cluster import ManyNodes
from one_node_cluster import PROJECT, Cluster

from fedmpi import trace

SCRIPT = PROJECT / "jobs" / "run.sbatch"
SWEEP_SCRIPT = PROJECT / "jobs" / "sweep.sbatch"
LONG = ["experiment.rounds=40", "experiment.checkpoint_every=5"]
EMULATED_S = 5.1
"""What the rounds of LONG last for the emulated devices."""


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


def wait_for_rounds(cluster: Cluster, job: int | str, folder: Path, rounds: int) -> None:
    def committed() -> int:
        try:
            return int(trace.read(folder).attributes["committed_rounds"])
        except trace.TraceError:
            return 0

    cluster.wait_for(job, lambda: committed() >= rounds, f"never did {rounds} rounds")


def submit_until_it_begins(cluster: ManyNodes, folder: Path, *arguments: str | Path, **variables: str) -> int:
    """A job that makes the run in ``folder``, on nodes that are free; submitted again where it does not begin.

    MPICH's start over several nodes was seen to hang in MPI_Init, all of its connections made.
    """
    for _ in range(3):
        job = cluster.submit(*arguments, **variables, FEDMPI_OUTPUT=str(folder))
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            if (folder / "trace.h5").exists() or cluster.show(job)["JobState"] not in ("PENDING", "RUNNING"):
                return job
            time.sleep(0.2)
        cluster.check("scancel", str(job))
        cluster.wait(job)
        cluster.wait_until_quiet()
    pytest.fail(f"three jobs did not begin within 90 s each; the last one said: {cluster.output(job)}")


def submit(
    cluster: ManyNodes, config: Path, folder: Path, launch: str, *options: str, host_s: float = 14
) -> int:
    """A job that takes at least ``host_s``."""
    arguments = ("--requeue", *options, SCRIPT, config, *LONG, *lasting(host_s))
    return submit_until_it_begins(cluster, folder, *arguments, **variables(cluster, launch))


def goes_on(cluster: ManyNodes, job: int | str, expected: Path, folder: Path) -> None:
    """A job that waits in the queue again has left a part of the run, and completes it when it starts."""
    left = trace.read(folder)
    assert 7 <= len(left.rounds) < 40
    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "resuming before round" in done.output
    assert_same_trace(expected, folder)
