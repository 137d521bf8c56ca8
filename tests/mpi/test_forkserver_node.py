"""Which processes share a node, from what launchers say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmpi.mpi.forkserver.node import node_launch

OPEN_MPI = {
    "PMIX_NAMESPACE": "prterun-a-12@1",
    "OMPI_COMM_WORLD_LOCAL_RANK": "2",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
}
HYDRA = {"MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "3"}
STEP = {
    "SLURM_JOB_ID": "17",
    "SLURM_STEP_ID": "0",
    "SLURM_NODEID": "2",
    "SLURM_LOCALID": "1",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2),3",
    "SLURMD_NODENAME": "n2",
}


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    """A /proc where this process was started by a shell, and that by Hydra's helper."""
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "ns").symlink_to("/proc/self/ns")
    rest = " ".join(map(str, range(5, 22)))
    for process, name, parent, start in (
        (os.getppid(), "a (shell) of mine", 400, 90),
        (400, "hydra_pmi_proxy", 1, 77),
    ):
        (tmp_path / str(process)).mkdir()
        (tmp_path / str(process) / "stat").write_text(f"{process} ({name}) S {parent} {rest} {start} 0 0")
    return tmp_path


@pytest.mark.parametrize(
    ("environment", "index", "processes"),
    [(OPEN_MPI, 2, 4), (HYDRA, 1, 3), (STEP, 1, 3), (OPEN_MPI | STEP, 2, 4)],
)
def test_known_launchers(proc: Path, environment: dict[str, str], index: int, processes: int) -> None:
    launch = node_launch(environment, proc)
    assert launch is not None
    assert (launch.index, launch.processes) == (index, processes)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_RANK": "4"},
        OPEN_MPI | {"OMPI_COMM_WORLD_LOCAL_SIZE": "four"},
        {name: text for name, text in HYDRA.items() if name != "MPI_LOCALNRANKS"},
        STEP | {"SLURM_NODEID": "3"},
        STEP | {"SLURM_STEP_TASKS_PER_NODE": ""},
        {name: text for name, text in STEP.items() if name != "SLURM_STEP_ID"},
    ],
)
def test_what_no_known_launcher_says(proc: Path, environment: dict[str, str]) -> None:
    assert node_launch(environment, proc) is None


def test_hydras_variables_alone_are_none_of_hydra(tmp_path: Path, proc: Path) -> None:
    (proc / "400" / "stat").write_text((proc / "400" / "stat").read_text().replace("hydra_pmi_proxy", "bash"))
    (proc / "1").mkdir()
    (proc / "1" / "stat").write_text("1 (init) S 0 " + " ".join("0" * 30))
    assert node_launch(HYDRA, proc) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (OPEN_MPI, OPEN_MPI | {"PMIX_NAMESPACE": "prterun-a-12@2"}),
        (STEP, STEP | {"SLURM_JOB_ID": "18"}),
        (STEP, STEP | {"SLURM_STEP_ID": "1"}),
        (STEP, STEP | {"SLURMD_NODENAME": "n1"}),
    ],
)
def test_launches_have_keys_of_their_own(proc: Path, one: dict[str, str], other: dict[str, str]) -> None:
    first, second = node_launch(one, proc), node_launch(other, proc)
    assert first is not None
    assert second is not None
    assert first.key != second.key


@pytest.mark.parametrize(
    ("environment", "variable"),
    [(OPEN_MPI, "OMPI_COMM_WORLD_LOCAL_RANK"), (HYDRA, "MPI_LOCALRANKID"), (STEP, "SLURM_LOCALID")],
)
def test_processes_of_a_node_agree_on_the_key(proc: Path, environment: dict[str, str], variable: str) -> None:
    first, second = node_launch(environment, proc), node_launch(environment | {variable: "0"}, proc)
    assert first is not None
    assert second is not None
    assert first.key == second.key


def test_a_start_time_tells_launchers_apart(proc: Path) -> None:
    before = node_launch(HYDRA, proc)
    (proc / "400" / "stat").write_text((proc / "400" / "stat").read_text().replace(" 77 ", " 78 "))
    after = node_launch(HYDRA, proc)
    assert before is not None
    assert after is not None
    assert before.key != after.key
