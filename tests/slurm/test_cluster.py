"""The cluster itself: both launchers bring up one COMM_WORLD, a plain srun does not."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
from libraries import ROOT_VARIABLES, open_mpi
from one_node_cluster import Cluster

WORLD = "from mpi4py import MPI; c = MPI.COMM_WORLD; print(f'rank {c.rank} of {c.allreduce(1)}', flush=True)"
MPIEXEC = Path(sys.executable).parent / "mpiexec"


def ranks(output: str) -> list[str]:
    """What the ranks said, sorted; lines of ranks may run into each other."""
    return sorted(f"rank {part.strip()}" for part in output.split("rank")[1:])


def test_srun_with_pmi2(cluster: Cluster) -> None:
    done = cluster.run("srun", "--mpi=pmi2", "-n", "4", "--overcommit", sys.executable, "-c", WORLD)
    assert done.returncode == 0, done.stderr
    assert ranks(done.stdout) == [f"rank {rank} of 4" for rank in range(4)]


def test_srun_with_pmix(cluster: Cluster) -> None:
    """Open MPI 5 speaks nothing else; MPICH from PyPI refuses to start there, which fedmpi says before it is tried."""
    if reason := cluster.why_no_pmix():
        pytest.skip(reason)
    python = open_mpi().python
    done = cluster.run(
        "srun", "--mpi=pmix", "-n", "4", "--overcommit", str(python), "-c", WORLD, **ROOT_VARIABLES
    )
    assert done.returncode == 0, done.stderr
    assert ranks(done.stdout) == [f"rank {rank} of 4" for rank in range(4)]
    command = [sys.executable, "-m", "fedmpi", "run", "quickstart", "--output", "refused"]
    done = cluster.run("srun", "--mpi=pmix", "-n", "2", "--overcommit", *command)
    assert done.returncode == 1
    assert done.stderr.count("fedmpi: PMIX_NAMESPACE is set by a launcher that speaks PMIx") == 1, done.stderr
    assert "srun --mpi=pmi2" in done.stderr


@pytest.mark.parametrize("launcher", ["srun --mpi=pmi2", f"{MPIEXEC} -n 4"])
def test_launchers_in_a_batch_script(cluster: Cluster, launcher: str) -> None:
    if launcher.startswith(str(MPIEXEC)) and not MPIEXEC.exists():
        pytest.skip(f"the MPI library of {sys.executable} brings no mpiexec")
    command = shlex.join([sys.executable, "-c", WORLD])
    job = cluster.wait(cluster.submit("--ntasks=4", f"--wrap={launcher} {command}"))
    assert (job.state, job.exit_code) == ("COMPLETED", 0), job.output
    assert ranks(job.output) == [f"rank {rank} of 4" for rank in range(4)]


def test_plain_srun_brings_up_singletons_that_the_guard_refuses(cluster: Cluster) -> None:
    guard = (
        "import os, sys; from mpi4py import MPI; from fedmpi.mpi.guards import LaunchError, check_launch\n"
        "try: check_launch(MPI.COMM_WORLD.size, os.environ)\n"
        "except LaunchError as error: print('refused', error.reporter, error, flush=True); sys.exit(1)\n"
    )
    done = cluster.run("srun", "--mpi=none", "-n", "4", sys.executable, "-c", guard)
    assert done.returncode == 1, done.stdout
    assert done.stdout.count("refused True 4 processes were started") == 1
    assert done.stdout.count("refused False 4 processes were started") == 3
    allocation = f"srun -n 1 hostname && {shlex.join([sys.executable, '-c', guard])}"
    job = cluster.wait(cluster.submit("--ntasks=4", f"--wrap={allocation}"))
    assert (job.state, job.exit_code) == ("COMPLETED", 0), job.output
