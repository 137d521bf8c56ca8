"""Which processes of one launch share a node, as launchers say it in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_HYDRA_PROXY = "hydra_pmi_proxy"
_NAMESPACES = ("mnt", "pid", "net", "user", "ipc")
_STEP_TASKS = re.compile(r"(\d+)(?:\(x(\d+)\))?")


@dataclass(frozen=True)
class NodeLaunch:
    """This process among those that one launch started on this node."""

    key: str
    """The same on all of them, and on no other launch of this machine."""
    index: int
    processes: int


def node_launch(environment: Mapping[str, str], proc: Path = Path("/proc")) -> NodeLaunch | None:
    """The launch on this node that started this process; None where no known launcher says so.

    Known are Open MPI's launcher (by its namespace), the Hydra of MPICH and Intel MPI (by the helper process that
    is the parent of the node's ranks) and SLURM's ``srun`` (by job, step and node).
    """
    found = _open_mpi(environment) or _hydra(environment, proc) or _slurm(environment)
    if found is None:
        return None
    key = " ".join([found.key, str(os.getuid()), *namespaces(proc)])
    return NodeLaunch(key, found.index, found.processes)


def namespaces(proc: Path = Path("/proc")) -> list[str]:
    """The namespaces of Linux that this process is in: others in a container of its own."""
    return [os.readlink(proc / "self" / "ns" / name) for name in _NAMESPACES]


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _launch(key: str | None, index: int | None, processes: int | None) -> NodeLaunch | None:
    if not key or index is None or processes is None or index >= processes:
        return None
    return NodeLaunch(key, index, processes)


def _open_mpi(environment: Mapping[str, str]) -> NodeLaunch | None:
    return _launch(
        environment.get("PMIX_NAMESPACE"),
        _number(environment, "OMPI_COMM_WORLD_LOCAL_RANK"),
        _number(environment, "OMPI_COMM_WORLD_LOCAL_SIZE"),
    )


def _hydra(environment: Mapping[str, str], proc: Path) -> NodeLaunch | None:
    index, processes = _number(environment, "MPI_LOCALRANKID"), _number(environment, "MPI_LOCALNRANKS")
    return _launch(_ancestor(_HYDRA_PROXY, proc), index, processes) if index is not None else None


def _ancestor(name: str, proc: Path) -> str | None:
    """Number and start time of the nearest ancestor that runs a program of this name."""
    process = os.getppid()
    while process > 0:
        try:
            program, _, rest = (proc / str(process) / "stat").read_text().partition("(")[2].rpartition(")")
        except OSError:
            return None
        fields = rest.split()  # from the third field of proc(5) on: state, parent, ..., start time
        if program == name:
            return f"{process} {fields[19]}"
        process = int(fields[1])
    return None


def _slurm(environment: Mapping[str, str]) -> NodeLaunch | None:
    job, step = environment.get("SLURM_JOB_ID"), environment.get("SLURM_STEP_ID")
    node, tasks = _number(environment, "SLURM_NODEID"), environment.get("SLURM_STEP_TASKS_PER_NODE", "")
    if not (job and step) or node is None:
        return None
    per_node = [int(count) for count, times in _STEP_TASKS.findall(tasks) for _ in range(int(times or 1))]
    key = f"{job} {step} {environment.get('SLURMD_NODENAME', '')}"
    return _launch(
        key, _number(environment, "SLURM_LOCALID"), per_node[node] if node < len(per_node) else None
    )
