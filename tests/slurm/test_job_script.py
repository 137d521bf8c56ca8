"""jobs/run.sbatch with a stand-in for the program: launchers, warnings, requeues, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from one_node_cluster import PROJECT, Cluster

SCRIPT = PROJECT / "jobs" / "run.sbatch"

STAND_IN = """
import os, signal, sys, time
from pathlib import Path
from mpi4py import MPI

world = MPI.COMM_WORLD
warned = []
for number in (signal.SIGUSR2, signal.SIGTERM):
    signal.signal(number, lambda *_: warned.append(1))
output = Path(sys.argv[sys.argv.index("--output") + 1])
checkpoint = output / "checkpoint"
resumed = "--resume" in sys.argv and checkpoint.is_dir()
if world.rank == 0:
    environment = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "HDF5_USE_FILE_LOCKING")}
    start = "resumed" if resumed else "anew"
    print("ready", world.size, sys.argv[1:-3], output, start, environment, flush=True)
world.Barrier()
if "die=yes" in sys.argv and "SLURM_RESTART_COUNT" not in os.environ:
    os.kill(os.getpid(), signal.SIGKILL)
if "finish=yes" in sys.argv or (resumed and "never=yes" not in sys.argv):
    sys.exit(0)
while not warned:
    time.sleep(0.05)
if world.rank == 0:
    checkpoint.mkdir(parents=True, exist_ok=True)
world.Barrier()
sys.exit(75)
"""


@pytest.fixture
def stand_in(cluster: Cluster, tmp_path: Path) -> dict[str, str]:
    """Environment variables with which ``python -m fedmpi`` is the stand-in."""
    package = tmp_path / "fedmpi"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text(STAND_IN)
    return {"PYTHONPATH": str(tmp_path)}


def warn(cluster: Cluster, job: int) -> None:
    """What SLURM does before the time limit with ``--signal=B:USR2@120``."""
    cluster.wait_for_output(job, "ready")
    cluster.check("scancel", "--batch", "--signal=USR2", str(job))


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_warned_job_is_requeued_and_resumes(
    cluster: Cluster, stand_in: dict[str, str], launcher: str
) -> None:
    job = cluster.submit(
        "--ntasks=4", SCRIPT, "some/config.toml", "a.b=c d", FEDMPI_LAUNCHER=launcher, **stand_in
    )
    warn(cluster, job)
    waiting = cluster.wait(job, "PENDING")
    output = f"{cluster.folder}/runs/config-{job}"
    environment = {"OMP_NUM_THREADS": "1", "HDF5_USE_FILE_LOCKING": "BEST_EFFORT"}
    arguments = ["run", "some/config.toml", "a.b=c d"]
    assert f"ready 4 {arguments} {output} anew {environment}" in waiting.output
    assert "USR2: asking the run for a checkpoint" in waiting.output
    assert "ended with exit code 75" in waiting.output
    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert f"ready 4 {arguments} {output} resumed" in done.output
    assert "start 2: " in done.output


def test_launcher_is_found(cluster: Cluster, stand_in: dict[str, str]) -> None:
    done = cluster.wait(cluster.submit("--ntasks=2", SCRIPT, "x", "finish=yes", **stand_in))
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "srun --mpi=pmi2 --ntasks=2" in done.output
    done = cluster.wait(
        cluster.submit("--ntasks=2", SCRIPT, "x", "finish=yes", FEDMPI_SRUN_MPI="unknown", **stand_in)
    )
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "mpiexec -n 2" in done.output


def test_virtual_environment_of_the_project_is_found_from_anywhere(
    cluster: Cluster, stand_in: dict[str, str], tmp_path: Path
) -> None:
    """SLURM runs a copy of the script from its spool folder: the job remembers where it came from."""
    script = tmp_path / "a project" / "jobs" / "run.sbatch"
    python = tmp_path / "a project" / ".venv" / "bin" / "python"
    for path, text in (
        (script, SCRIPT.read_text()),
        (python, f'#!/bin/sh\necho "the project\'s own Python" >&2\nexec "{sys.executable}" "$@"\n'),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(text)
        path.chmod(0o755)
    job = cluster.submit("--ntasks=2", script, "x", "finish=yes", **stand_in, FEDMPI_VENV="")
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert "the project's own Python" in done.output


def test_without_fedmpi_it_says_what_to_do(cluster: Cluster, tmp_path: Path) -> None:
    (tmp_path / "fedmpi.py").write_text("raise ImportError\n")
    done = cluster.wait(cluster.submit(SCRIPT, "x", PYTHONPATH=str(tmp_path)))
    assert (done.state, done.exit_code) == ("FAILED", 1)
    assert "has no fedmpi: make" in done.output
    assert "jobs/quickstart.sh" in done.output


def test_data_are_copied_to_the_node_once(cluster: Cluster, stand_in: dict[str, str], tmp_path: Path) -> None:
    """Also where a warned job starts there again; and each rank has a log where that is asked for."""
    data = tmp_path / "my data"
    (data / "train").mkdir(parents=True)
    (data / "train" / "samples").write_text("1")
    local = tmp_path / "local"
    variables = {"FEDMPI_STAGE": str(data), "SLURM_TMPDIR": str(local), "FEDMPI_RANK_LOGS": "logs"}
    job = cluster.submit("--ntasks=2", SCRIPT, "x", **variables, **stand_in)
    warn(cluster, job)
    cluster.wait(job, "PENDING")
    staged = local / f"fedmpi-{job}" / "my data"
    assert (staged / "train" / "samples").read_text() == "1"
    (data / "train" / "samples").write_text("2")
    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert done.output.count(f"'run', 'x', 'data.path={staged}', '--output'") == 2, done.output
    assert "--resume --log-per-rank logs" in done.output
    assert (staged / "train" / "samples").read_text() == "1"
    assert not list(staged.parent.glob("*.partial"))


@pytest.mark.parametrize(
    ("variables", "problem"),
    [
        ({"FEDMPI_STAGE": "/no/data", "SLURM_TMPDIR": "/tmp"}, "FEDMPI_STAGE=/no/data does not exist"),
        ({"FEDMPI_STAGE": "/etc/hostname", "SLURM_TMPDIR": ""}, "SLURM_TMPDIR is not set on this cluster"),
        ({"FEDMPI_SWEEP_INDEX": "0", "FEDMPI_RANK_LOGS": "logs"}, "FEDMPI_RANK_LOGS is for single runs"),
    ],
)
def test_what_cannot_be_is_refused(
    cluster: Cluster, stand_in: dict[str, str], variables: dict[str, str], problem: str
) -> None:
    done = cluster.wait(cluster.submit(SCRIPT, "x", **variables, **stand_in))
    assert (done.state, done.exit_code) == ("FAILED", 2), done.output
    assert problem in done.output


def test_threads_follow_the_cores_of_a_task(cluster: Cluster, stand_in: dict[str, str]) -> None:
    job = cluster.submit("--ntasks=2", "--cpus-per-task=3", SCRIPT, "x", "finish=yes", **stand_in)
    assert "'OMP_NUM_THREADS': '3'" in cluster.wait(job).output


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_job_whose_ranks_were_killed_can_be_requeued(
    cluster: Cluster, stand_in: dict[str, str], launcher: str
) -> None:
    """The shared memory of the killed ranks is still there when the job's next start has the same job id."""
    arguments = ("x", "die=yes", "finish=yes")
    job = cluster.submit("--ntasks=3", SCRIPT, *arguments, FEDMPI_LAUNCHER=launcher, **stand_in)
    killed = cluster.wait(job)
    assert killed.state == "FAILED", killed.output
    cluster.check("scontrol", "requeue", str(job))
    cluster.restart(job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("COMPLETED", 0), done.output
    assert done.output.count("ready 3 ") == 2


@pytest.mark.parametrize("launcher", ["srun", "mpiexec"])
def test_cancelled_job_stays_cancelled(cluster: Cluster, stand_in: dict[str, str], launcher: str) -> None:
    job = cluster.submit("--ntasks=2", SCRIPT, "x", FEDMPI_LAUNCHER=launcher, **stand_in)
    cluster.wait_for_output(job, "ready")
    cluster.check("scancel", str(job))
    assert cluster.wait(job).state == "CANCELLED"
    cluster.wait_until_quiet()
    assert cluster.show(job)["JobState"] == "CANCELLED"
    assert cluster.show(job)["Restarts"] == "0"


def test_restarts_are_limited(cluster: Cluster, stand_in: dict[str, str]) -> None:
    job = cluster.submit("--ntasks=2", SCRIPT, "x", "never=yes", FEDMPI_MAX_RESTARTS="0", **stand_in)
    warn(cluster, job)
    done = cluster.wait(job)
    assert (done.state, done.exit_code) == ("FAILED", 75)
    assert "restarted 0 times already, no requeue" in done.output
    assert f"FEDMPI_OUTPUT={cluster.folder}/runs/x-{job}" in done.output


@pytest.mark.parametrize(
    ("arguments", "variables", "exit_code", "message"),
    [
        ([], {}, 2, "which experiment?"),
        (["x"], {"FEDMPI_VENV": "/nowhere"}, 1, "FEDMPI_VENV=/nowhere is no virtual environment"),
        (["x"], {"FEDMPI_LAUNCHER": "prun"}, 1, "FEDMPI_LAUNCHER=prun: allowed are srun and mpiexec"),
    ],
)
def test_refusals(
    cluster: Cluster,
    stand_in: dict[str, str],
    arguments: list[str],
    variables: dict[str, str],
    exit_code: int,
    message: str,
) -> None:
    done = cluster.wait(cluster.submit(SCRIPT, *arguments, **{**stand_in, **variables}))
    assert (done.state, done.exit_code) == ("FAILED", exit_code)
    assert f"error: {message}" in done.output


def test_outside_of_slurm_it_says_what_to_do(cluster: Cluster) -> None:
    done = cluster.run("bash", SCRIPT, "quickstart")
    assert done.returncode == 2
    assert "this is a script for sbatch" in done.stderr
