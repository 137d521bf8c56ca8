"""Real runs as SLURM jobs: the trace knows its job, launchers agree, singletons are refused, preemption resumes."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from many_nodes_jobs import wait_for_rounds
from one_node_cluster import PROJECT, Cluster

SCRIPT = PROJECT / "jobs" / "run.sbatch"
LONG = ("experiment.rounds=30", "experiment.evaluate_every=20")
SLOW = ("emulation.clock=realtime", "emulation.time_scale=0.5")
"""A pace at which a signal finds the run: its rounds last some 0.8 s for the emulated devices."""
HOST_COLUMNS = {"host_s", "mpi_bytes"}
"""What may differ between two runs of the same experiment."""


def read_trace(folder: Path) -> tuple[np.ndarray, dict[str, object]]:
    """The rounds and the attributes of a finished run."""
    with h5py.File(folder / "trace.h5", "r") as trace:
        return trace["rounds"][()], dict(trace.attrs)


def test_run_as_a_job_with_both_launchers(cluster: Cluster) -> None:
    rounds = {}
    for launcher in ("srun", "mpiexec"):
        job = cluster.submit(
            "--ntasks=3", SCRIPT, "quickstart", "experiment.rounds=5", FEDMPI_LAUNCHER=launcher
        )
        done = cluster.wait(job)
        assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
        rounds[launcher], attributes = read_trace(cluster.folder / "runs" / f"quickstart-{job}")
        assert str(attributes["slurm_job_id"]) == str(job)
        assert attributes["ranks"] == 3
        assert attributes["status"] == "completed"
        assert attributes["committed_rounds"] == len(rounds[launcher]) == 5
    for name in set(rounds["srun"].dtype.names) - HOST_COLUMNS:
        np.testing.assert_array_equal(rounds["srun"][name], rounds["mpiexec"][name], err_msg=name)


def test_one_rank_in_a_larger_allocation_is_fine(cluster: Cluster) -> None:
    command = f"{sys.executable} -m fedmpi run quickstart experiment.rounds=2 --output alone"
    done = cluster.wait(cluster.submit("--ntasks=4", f"--wrap={command}"))
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert read_trace(cluster.folder / "alone")[1]["ranks"] == 1


def test_singletons_are_refused_once_and_touch_nothing(cluster: Cluster) -> None:
    command = [sys.executable, "-m", "fedmpi", "run", "quickstart", "--output", "singletons"]
    done = cluster.run("srun", "--mpi=none", "-n", "3", *command)
    assert done.returncode == 1
    assert done.stderr.count("3 processes were started (SLURM_STEP_NUM_TASKS=3)") == 1, done.stderr
    assert "srun --mpi=pmi2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (cluster.folder / "singletons").exists()


def test_bad_configuration_is_told_once(cluster: Cluster) -> None:
    done = cluster.wait(cluster.submit("--ntasks=3", SCRIPT, "quickstart", "experiment.round=5"))
    assert (done.state, done.exit_code) == ("FAILED", 2), done.output
    assert done.output.count("unknown key; did you mean rounds?") == 1, done.output


@pytest.fixture(scope="module")
def whole(cluster: Cluster) -> np.ndarray:
    """The rounds of LONG, uninterrupted on one rank."""
    command = f"{sys.executable} -m fedmpi run quickstart {' '.join(LONG)} --output whole"
    done = cluster.wait(cluster.submit(f"--wrap={command}"))
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    return read_trace(cluster.folder / "whole")[0]


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_preempted_job_goes_on_as_if_nothing_had_happened(
    cluster: Cluster, whole: np.ndarray, launcher: str
) -> None:
    job = cluster.submit("--ntasks=3", SCRIPT, "quickstart", *LONG, *SLOW, FEDMPI_LAUNCHER=launcher)
    folder = cluster.folder / "runs" / f"quickstart-{job}"
    wait_for_rounds(cluster, job, folder, 3)
    cluster.check("scancel", "--batch", "--signal=USR2", str(job))
    waiting = cluster.wait(job, "PENDING")
    assert "ended with exit code 75" in waiting.output
    assert (folder / "checkpoint").is_dir()
    before, attributes = read_trace(folder)
    assert attributes["status"] == "preempted"
    assert 3 <= len(before) < 30

    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    resumed, attributes = read_trace(folder)
    assert attributes["status"] == "completed"
    for name in set(whole.dtype.names) - HOST_COLUMNS:
        np.testing.assert_array_equal(resumed[name], whole[name], err_msg=name)
