"""Intel MPI: the variables of its users and launchers (as recorded with 2021.19 under Hydra and SLURM 22.05)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmpi.cli import doctor, launch
from fedmpi.mpi.guards import LaunchError, check_launch, check_library, inside_mpi_launch

VERSION = "Intel(R) MPI Library 2021.19.0 for Linux* OS\n"
LIBRARY = {"I_MPI_PMI_LIBRARY": "/usr/lib64/libpmi2.so"}
BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0"}
STEP = BATCH_SCRIPT | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4", "SLURM_PROCID": "2"}
PMI2 = STEP | {"PMI_SIZE": "4", "PMI_RANK": "2"}
PMIX = STEP | {"PMIX_NAMESPACE": "slurm.pmix.7.0", "PMIX_RANK": "2"}
HYDRA = {
    "PMI_SIZE": "4",
    "PMI_RANK": "2",
    "MPI_LOCALNRANKS": "4",
    "MPI_LOCALRANKID": "2",
    "I_MPI_PIN_INFO": "2",
}
SOUND = {"hydra": HYDRA, "srun-pmi2": PMI2, "srun-pmix": PMIX}


@pytest.mark.parametrize("user", [{}, LIBRARY], ids=["plain", "with-a-pmi-library"])
@pytest.mark.parametrize("name", SOUND)
def test_its_launches_are_known(name: str, user: dict[str, str]) -> None:
    environment = SOUND[name] | user
    check_library(VERSION, environment)
    check_launch(4, environment)
    assert inside_mpi_launch(environment)
    assert launch.rank(environment) == 2
    with pytest.raises(LaunchError, match="4 processes were started"):
        check_launch(1, environment)


def test_one_process_asks_no_server() -> None:
    check_library(VERSION, BATCH_SCRIPT | LIBRARY)
    check_launch(1, BATCH_SCRIPT | LIBRARY)


def test_singletons_are_left_to_the_check_of_the_world() -> None:
    check_library(VERSION, STEP)
    with pytest.raises(LaunchError, match="SLURM_STEP_NUM_TASKS=4"):
        check_launch(1, STEP)


def test_a_server_that_is_not_there_is_refused_before_it_aborts() -> None:
    reporters = []
    for rank in range(4):
        environment = STEP | LIBRARY | {"SLURM_PROCID": str(rank)}
        message = (
            r"libpmi2.so asks for a PMI server, but the launcher is none; start it with `srun --mpi=pmi2`"
        )
        with pytest.raises(LaunchError, match=message) as caught:
            check_library(VERSION, environment)
        reporters.append(caught.value.reporter)
    assert reporters == [True, False, False, False]


def test_doctor_shows_what_users_have_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("I_MPI_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("I_MPI_INFO_NC", "2")  # by its launcher
    assert doctor._intel_mpi() == []
    monkeypatch.setenv("I_MPI_FABRICS", "ofi")
    library = tmp_path / "libpmi2.so"
    monkeypatch.setenv("I_MPI_PMI_LIBRARY", str(library))
    (finding,) = doctor._intel_mpi()
    assert finding.text == f"I_MPI_FABRICS=ofi, I_MPI_PMI_LIBRARY={library}"
    assert f"{library} is no file" in finding.wrong
    library.touch()
    assert not doctor._intel_mpi()[0].wrong
