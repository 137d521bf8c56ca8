"""Launch guards: refuse a launcher that the MPI library does not understand, from the launcher's variables.

A program whose MPI library does not speak the process-management interface (PMI) of the launcher that started
it comes up as n processes that each believe to be alone: n identical experiments writing to one folder. The
launchers leave the number of processes in the environment, where it can be compared with COMM_WORLD
(``check_launch``). Where MPI would print pages of errors instead, or abort, the library's name is enough to
refuse it before it is initialized (``check_library``).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

_SLURM_SPECIAL_STEPS = 0xFFFF_FFF0
"""SLURM numbers interactive shells, batch scripts and the like downwards from 2**32: no launches of ranks."""


_STEP_SIZE = "SLURM_STEP_NUM_TASKS"
_LIBRARY = re.compile(r"(Open MPI|MPICH) +(?:v|Version: *)(\d+)([.\w]*)")

_INTEL = "Intel(R) MPI"
INTEL_PMI_LIBRARY = "I_MPI_PMI_LIBRARY"
"""Intel MPI loads the library that this variable names, SLURM's libpmi2.so, and ends where no PMI server answers it."""

_ADVICE = "start it with the mpiexec of the MPI library that `fedmpi doctor` names"
_ADVICE_IN_STEP = (
    "start it with `srun --mpi=pmi2` (MPICH, Intel MPI) or `srun --mpi=pmix` (Open MPI, Intel MPI) if "
    "`srun --mpi=list` shows it, or with the mpiexec of the MPI library that `fedmpi doctor` names"
)


class LaunchError(RuntimeError):
    """The launcher and the MPI library do not understand each other.

    ``reporter`` is true on the one process that should print the message.
    """

    def __init__(self, message: str, reporter: bool) -> None:
        super().__init__(message)
        self.reporter = reporter


@dataclass(frozen=True)
class Launch:
    """What a launcher says: how many processes it started, and which of them this one is."""

    processes: int
    index: int
    variable: str
    """The environment variable that says so."""


def _integer(environment: Mapping[str, str], name: str) -> int | None:
    """The value of a variable, or None where it is missing or no number of at most 20 digits."""
    text = environment.get(name, "").strip()
    return int(text) if text.isdecimal() and len(text) <= 20 else None


def innermost_launch(environment: Mapping[str, str]) -> Launch | None:
    """The launch that started this very process, or None where no launcher says so.

    Launches nest: ``mpiexec`` inside a SLURM job starts one helper per node with ``srun``, and its ranks
    inherit the variables of that step; a shell under ``srun --mpi=pmi2`` passes PMI_SIZE on to Open MPI's
    ``mpiexec``. Hence Open MPI and MVAPICH first, then PMI (MPICH and Intel MPI, and SLURM's pmi2), then the
    step. The batch script sees SLURM_NTASKS and SLURM_PROCID but is in no numbered step: one process beside
    an allocation of many tasks is legitimate there.
    """
    variables = [
        ("OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"),
        ("MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"),
        ("PMI_SIZE", "PMI_RANK"),
    ]
    step = _integer(environment, "SLURM_STEP_ID")
    if step is not None and step < _SLURM_SPECIAL_STEPS:
        variables.append((_STEP_SIZE, "SLURM_PROCID"))
    for size, rank in variables:
        processes = _integer(environment, size)
        if processes is not None:
            return Launch(processes, _integer(environment, rank) or 0, size)
    return None


def check_library(version_text: str, environment: Mapping[str, str]) -> None:
    """Raise :class:`LaunchError` where MPI must not be initialized, as it does not speak the launcher's interface.

    Open MPI 5 speaks PMIx alone: under a PMI launcher (MPICH's ``mpiexec``, ``srun --mpi=pmi2``) it comes up as
    singletons. MPICH 5 built without PMIx aborts wherever it finds a PMIx launcher's variables, even those
    around a shell; older ones come up as singletons. Intel MPI speaks PMI and PMIx by itself, but aborts where
    ``I_MPI_PMI_LIBRARY`` makes it ask a server that is not there, as under ``srun --mpi=none``. ``version_text`` is
    MPI's own (MPI_Get_library_version).
    """
    if version_text.startswith(_INTEL):
        _check_intel(environment)
        return
    library = _LIBRARY.match(version_text)
    if library is None:
        return
    launch = innermost_launch(environment) or Launch(1, 0, "")
    name, new = f"{library[1]} {library[2]}{library[3]}", int(library[2]) >= 5
    by_pmix = "PMIX_NAMESPACE" in environment
    if library[1] == "Open MPI":
        unfit = new and not by_pmix and launch.variable == "PMI_SIZE" and launch.processes > 1
        problem = f"a launcher that speaks PMI started {launch.processes} processes, but {name} speaks PMIx"
        more = ""
    else:
        speaks_pmix = "pmix" in version_text.lower() or "MPIR_CVAR_PMI_VERSION" in environment
        unfit = by_pmix and not speaks_pmix and (new or launch.processes > 1)
        problem = (
            f"PMIX_NAMESPACE is set by a launcher that speaks PMIx, such as Open MPI's, but {name} does not"
        )
        more = ", or unset PMIX_NAMESPACE where that launcher started the shell around this command"
    if unfit:
        advice = _ADVICE_IN_STEP if launch.variable == _STEP_SIZE else _ADVICE
        raise LaunchError(f"{problem}; {advice}{more}", reporter=launch.index == 0)


def _check_intel(environment: Mapping[str, str]) -> None:
    launch = innermost_launch(environment) or Launch(1, 0, "")
    library = environment.get(INTEL_PMI_LIBRARY, "")
    served = any(name in environment for name in ("PMI_RANK", "PMIX_RANK"))
    if library and launch.processes > 1 and not served:
        problem = f"{INTEL_PMI_LIBRARY}={library} asks for a PMI server, but the launcher is none"
        advice = _ADVICE_IN_STEP if launch.variable == _STEP_SIZE else _ADVICE
        raise LaunchError(f"{problem}; {advice}", reporter=launch.index == 0)


def check_launch(world_size: int, environment: Mapping[str, str]) -> None:
    """Raise :class:`LaunchError` where more processes were started than ``world_size``, COMM_WORLD's size.

    ``environment`` is the process's own (``os.environ``).
    """
    launch = innermost_launch(environment)
    if launch is None or launch.processes <= world_size:
        return
    advice = _ADVICE_IN_STEP if launch.variable == _STEP_SIZE else _ADVICE
    raise LaunchError(
        f"{launch.processes} processes were started ({launch.variable}={launch.processes}), but MPI's "
        f"COMM_WORLD holds {world_size}: launcher and MPI library do not understand each other; {advice}",
        reporter=launch.index == 0,
    )


def inside_mpi_launch(environment: Mapping[str, str]) -> bool:
    """Whether a launcher started this process together with others.

    A launch of one process, such as an interactive shell under ``srun``, is none: ``mpiexec`` may be started
    there.
    """
    launch = innermost_launch(environment)
    return launch is not None and launch.processes > 1
