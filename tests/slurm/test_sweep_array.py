"""jobs/sweep.sbatch: a sweep as a job array, whose tasks are warned, requeued and resumed like single jobs."""

from __future__ import annotations

import subprocess

from one_node_cluster import PROJECT, Cluster

from fedmpi.sweeps import read_outcome, state
from fedmpi.trace import read

SCRIPT = PROJECT / "jobs" / "sweep.sbatch"

SWEEP = """# Two ways of sending.
base = "quickstart"
[axes.method]
fab = {}
dense = { sparsification.method = "dense", k_control.method = "fixed" }
"""


def test_every_task_of_the_array_is_one_run(cluster: Cluster) -> None:
    (cluster.folder / "pair.toml").write_text(SWEEP)
    job = cluster.submit("--array=0-1", "--ntasks=2", SCRIPT, "pair.toml", "experiment.rounds=3")
    cluster.wait_until_quiet()
    for name in ("fab", "dense"):
        trace = read(cluster.folder / "runs" / "pair" / name)
        assert (trace.attributes["status"], trace.attributes["ranks"], len(trace.rounds)) == (
            "completed",
            2,
            3,
        )
        assert trace.config["experiment"]["name"] == name
    logs = "".join(path.read_text() for path in cluster.folder.glob("job-*.log"))
    assert f"sweep pair.toml experiment.rounds=3 --index 1 --output {cluster.folder}/runs/pair" in logs
    assert job > 0


def test_an_array_with_another_base_has_the_folder_that_the_list_looks_at(cluster: Cluster) -> None:
    (cluster.folder / "pair.toml").write_text(SWEEP)
    (cluster.folder / "short.toml").write_text("[experiment]\nrounds = 2\n")
    cluster.submit(
        "--array=1-1", "--ntasks=1", SCRIPT, "pair.toml", "--base", "short.toml", "clients.count=3"
    )
    cluster.submit("--array=0-0", "--ntasks=1", SCRIPT, "pair.toml", "--base=short.toml", "clients.count=3")
    cluster.wait_until_quiet()
    for name in ("fab", "dense"):
        assert len(read(cluster.folder / "runs" / "pair-short" / name).rounds) == 2


def test_a_warned_task_is_requeued_and_goes_on(cluster: Cluster) -> None:
    (cluster.folder / "long.toml").write_text(SWEEP)
    job = cluster.submit("--array=1-1", "--ntasks=2", SCRIPT, "long.toml", "experiment.rounds=100000")
    cluster.wait_for_output(job, "accuracy")
    cluster.check("scancel", "--batch", "--signal=USR2", f"{job}_1")
    waiting = cluster.wait(job, "PENDING")
    assert "ended with exit code 75" in waiting.output
    assert "requeued" in waiting.output
    rounds = len(read(cluster.folder / "runs" / "long" / "dense").rounds)
    cluster.restart(job)
    cluster.wait_for_output(job, f"resuming before round {rounds}")
    cluster.check("scancel", str(job))
    cluster.wait(job)


def test_a_task_whose_ranks_are_all_gone_is_on_record(cluster: Cluster) -> None:
    """The model of rank 1 alone cannot be built: it ends all ranks, so that none of them can say how it ended."""
    (cluster.folder / "broken.py").write_text(
        "from mpi4py import MPI\n\n"
        "def factory(input_shape, classes):\n"
        "    if MPI.COMM_WORLD.Get_rank() == 1:\n"
        "        raise RuntimeError('no such luck')\n"
        "    import torch\n"
        "    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, classes))\n"
    )
    (cluster.folder / "failing.toml").write_text(
        SWEEP.replace("fab = {}", 'broken = { model.name = "broken:factory" }')
    )
    cluster.submit("--array=0-0", "--ntasks=2", SCRIPT, "failing.toml", "experiment.rounds=3")
    cluster.wait_until_quiet()
    study = cluster.folder / "runs" / "failing"
    outcome = read_outcome(study, "broken")
    assert outcome is not None
    assert outcome.exit_code not in (None, 0, 75)
    assert "broken:factory" in outcome.reason
    assert "RuntimeError: no such luck (broken.py, line 5)" in outcome.reason
    now = state(study, "broken")
    assert (now.status, now.reason) == (
        "failed",
        f"exit code {outcome.exit_code}: {outcome.reason}",
    )
    assert state(study, "dense").status == "-"


def test_it_is_for_job_arrays_only(cluster: Cluster) -> None:
    done = cluster.wait(cluster.submit(SCRIPT, "pair.toml"))
    assert (done.state, done.exit_code) == ("FAILED", 2)
    assert "this is a script for job arrays: sbatch --array=0-N" in done.output


def test_the_script_is_sound_bash() -> None:
    done = subprocess.run(["bash", "-n", SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
