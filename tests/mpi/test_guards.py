"""Launch guards on the variables that launchers leave (SLURM's and MPICH's as recorded on SLURM 22.05)."""

import pytest

from fedmpi.mpi.guards import LaunchError, check_launch, check_library, inside_mpi_launch

BATCH_SCRIPT = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "8", "SLURM_NPROCS": "8", "SLURM_PROCID": "0"}
INTERACTIVE_SHELL = BATCH_SCRIPT | {"SLURM_STEP_ID": "4294967290", "SLURM_STEP_NUM_TASKS": "8"}
SRUN_SHELL = {"SLURM_NTASKS": "1", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"}


def srun(tasks: int, task: int, pmi2: bool) -> dict[str, str]:
    step = {
        "SLURM_JOB_ID": "7",
        "SLURM_NTASKS": str(tasks),
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_PROCID": str(task),
    }
    pmi = {"SLURM_MPI_TYPE": "pmi2", "PMI_JOBID": "7.0", "PMI_SIZE": str(tasks), "PMI_RANK": str(task)}
    return step | (pmi if pmi2 else {})


def mpiexec_in_batch_script(ranks: int, rank: int, nodes: int) -> dict[str, str]:
    """MPICH's mpiexec starts one helper per node with srun: the ranks inherit that step's variables."""
    return srun(nodes, 0, pmi2=False) | {"PMI_SIZE": str(ranks), "PMI_RANK": str(rank)}


def open_mpi(ranks: int, rank: int) -> dict[str, str]:
    return {"OMPI_COMM_WORLD_SIZE": str(ranks), "OMPI_COMM_WORLD_RANK": str(rank), "PMIX_RANK": str(rank)}


@pytest.mark.parametrize(
    ("world_size", "environment"),
    [
        pytest.param(1, {}, id="no-launcher"),
        pytest.param(1, BATCH_SCRIPT, id="one-rank-in-a-batch-script"),
        pytest.param(1, INTERACTIVE_SHELL, id="one-rank-in-salloc"),
        pytest.param(1, SRUN_SHELL, id="one-rank-in-a-shell-under-srun"),
        pytest.param(8, srun(8, 3, pmi2=True), id="srun-pmi2"),
        pytest.param(8, srun(8, 3, pmi2=False), id="srun-pmix"),
        pytest.param(8, mpiexec_in_batch_script(8, 5, nodes=2), id="mpiexec-on-two-nodes"),
        pytest.param(2, mpiexec_in_batch_script(2, 1, nodes=4), id="fewer-ranks-than-nodes"),
        pytest.param(4, SRUN_SHELL | {"PMI_SIZE": "1", "PMI_RANK": "0"} | open_mpi(4, 2), id="shell-in-pmi2"),
        pytest.param(4, open_mpi(4, 2), id="open-mpi"),
        pytest.param(1, {"PMI_SIZE": "garbage"}, id="no-number"),
    ],
)
def test_sound_launches_pass(world_size: int, environment: dict[str, str]) -> None:
    check_launch(world_size, environment)


@pytest.mark.parametrize(
    ("world_size", "environment", "variable"),
    [
        pytest.param(1, srun(4, 0, pmi2=False), "SLURM_STEP_NUM_TASKS=4", id="srun-without-pmi"),
        pytest.param(1, srun(4, 0, pmi2=True), "PMI_SIZE=4", id="open-mpi-program-under-pmi2"),
        pytest.param(1, mpiexec_in_batch_script(4, 0, nodes=1), "PMI_SIZE=4", id="other-mpiexec-in-a-job"),
        pytest.param(1, open_mpi(4, 0), "OMPI_COMM_WORLD_SIZE=4", id="mpich-program-under-open-mpi"),
        pytest.param(1, SRUN_SHELL | open_mpi(4, 0), "OMPI_COMM_WORLD_SIZE=4", id="the-same-in-a-job"),
        pytest.param(2, srun(4, 0, pmi2=False), "SLURM_STEP_NUM_TASKS=4", id="part-of-the-ranks"),
    ],
)
def test_singletons_are_refused(world_size: int, environment: dict[str, str], variable: str) -> None:
    with pytest.raises(
        LaunchError, match=rf"{variable}.*COMM_WORLD holds {world_size}.*start it with"
    ) as caught:
        check_launch(world_size, environment)
    assert caught.value.reporter


@pytest.mark.parametrize(
    "environments",
    [
        [srun(4, task, pmi2=False) for task in range(4)],
        [mpiexec_in_batch_script(4, rank, nodes=1) for rank in range(4)],
        [open_mpi(4, rank) for rank in range(4)],
    ],
)
def test_one_of_the_singletons_reports(environments: list[dict[str, str]]) -> None:
    reporters = []
    for environment in environments:
        with pytest.raises(LaunchError) as caught:
            check_launch(1, environment)
        reporters.append(caught.value.reporter)
    assert reporters == [True, False, False, False]


@pytest.mark.parametrize(
    ("environment", "inside"),
    [
        ({}, False),
        (BATCH_SCRIPT, False),
        (INTERACTIVE_SHELL, False),
        (SRUN_SHELL, False),
        (SRUN_SHELL | {"PMI_SIZE": "1"}, False),
        (srun(4, 0, pmi2=True), True),
        (srun(4, 0, pmi2=False), True),
        (mpiexec_in_batch_script(4, 2, nodes=1), True),
        (open_mpi(2, 1), True),
    ],
)
def test_inside_mpi_launch(environment: dict[str, str], inside: bool) -> None:
    assert inside_mpi_launch(environment) is inside


MPICH_5 = "MPICH Version:      5.0.2\nMPICH configure:    --with-pm=hydra:gforker\n"
MPICH_5_PMIX = MPICH_5.replace("--with-pm=hydra", "--with-pmix=/usr --with-pm=hydra")
MPICH_4 = MPICH_5.replace("5.0.2", "4.2.3")
OPEN_MPI_5 = "Open MPI v5.0.11, package: Open MPI user@localhost Distribution, ident: 5.0.11\0"
OPEN_MPI_4 = OPEN_MPI_5.replace("5.0.11", "4.1.4")
PMIX = {"PMIX_NAMESPACE": "prterun-vm-1@1", "PMIX_RANK": "0"}
PMIX_STEP = srun(4, 0, pmi2=False) | PMIX


@pytest.mark.parametrize(
    ("version", "environment"),
    [
        pytest.param(MPICH_5, {}, id="no-launcher"),
        pytest.param(MPICH_5, mpiexec_in_batch_script(4, 0, nodes=1), id="mpich-by-hydra"),
        pytest.param(MPICH_5, open_mpi(4, 0), id="open-mpi-4-launcher"),  # singletons: check_launch
        pytest.param(MPICH_5, PMIX | {"MPIR_CVAR_PMI_VERSION": "1"}, id="mpich-was-told-what-to-speak"),
        pytest.param(MPICH_5_PMIX, open_mpi(4, 0) | PMIX, id="mpich-with-pmix"),
        pytest.param(MPICH_4, SRUN_SHELL | PMIX, id="mpich-4-in-a-shell"),
        pytest.param(MPICH_4, PMIX, id="mpich-4-without-a-launch"),
        pytest.param(OPEN_MPI_5, open_mpi(4, 0) | PMIX, id="open-mpi"),
        pytest.param(OPEN_MPI_5, {}, id="open-mpi-alone"),
        pytest.param(OPEN_MPI_5, PMIX_STEP, id="srun-pmix"),
        pytest.param(OPEN_MPI_5, {"PMI_SIZE": "1", "PMI_RANK": "0"}, id="one-process-by-hydra"),
        pytest.param(OPEN_MPI_5, srun(4, 0, pmi2=False), id="srun-without-pmi"),  # singletons: check_launch
        pytest.param(OPEN_MPI_4, srun(4, 0, pmi2=True), id="open-mpi-4-may-speak-pmi2"),
        pytest.param("Intel(R) MPI Library 2021.9", open_mpi(4, 0) | PMIX, id="unknown-library"),
    ],
)
def test_libraries_that_speak_the_launchers_interface(version: str, environment: dict[str, str]) -> None:
    check_library(version, environment)


@pytest.mark.parametrize(
    ("version", "environment", "message"),
    [
        pytest.param(
            MPICH_5, open_mpi(4, 0) | PMIX, "but MPICH 5.0.2 does not; start it with the mpiexec", id="mpich"
        ),
        pytest.param(MPICH_5, PMIX, "or unset PMIX_NAMESPACE", id="mpich-in-a-shell"),
        pytest.param(MPICH_5, PMIX | srun(2, 0, pmi2=True), "PMIX_NAMESPACE is set", id="mpich-finds-both"),
        pytest.param(MPICH_5, PMIX_STEP, "start it with `srun --mpi=pmi2`", id="srun-pmix"),
        pytest.param(MPICH_4, open_mpi(4, 0) | PMIX, "but MPICH 4.2.3 does not", id="mpich-4"),
        pytest.param(
            OPEN_MPI_5,
            mpiexec_in_batch_script(4, 0, nodes=1),
            "started 4 processes, but Open MPI 5.0.11 speaks PMIx; start it with the mpiexec",
            id="open-mpi-by-hydra",
        ),
        pytest.param(OPEN_MPI_5, {"PMI_SIZE": "2"}, "started 2 processes", id="open-mpi-two-processes"),
    ],
)
def test_libraries_that_do_not(version: str, environment: dict[str, str], message: str) -> None:
    with pytest.raises(LaunchError, match=message) as caught:
        check_library(version, environment)
    assert caught.value.reporter


def test_one_process_reports_the_unfit_library() -> None:
    reporters = []
    for rank in range(3):
        with pytest.raises(LaunchError) as caught:
            check_library(MPICH_5, open_mpi(3, rank) | PMIX)
        reporters.append(caught.value.reporter)
    assert reporters == [True, False, False]
