"""Report on this machine: MPI, launcher, threads, HDF5, SLURM, and what is wrong.

Whatever could crash or hang, such as an MPI library, is asked in a process of its own with a time limit.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmpi import __version__
from fedmpi.cli.failure_reason import failure_reason
from fedmpi.cli.launch import ROOT_ALLOWED, find_mpiexec, mpiexec_command, output_of, python_command
from fedmpi.config import ConfigError
from fedmpi.mpi.guards import INTEL_PMI_LIBRARY, inside_mpi_launch
from fedmpi.mpi.placement import SHARING_VARIABLE, most_sharing

_TIMEOUT_S = 60.0
_MIB = 2**20
_SET_BY_INTEL = ("I_MPI_INFO_", "I_MPI_INTERNAL_", "I_MPI_HYDRA_UUID", "I_MPI_RETURN_", "I_MPI_PIN_INFO")
_SMALL_SHM_MIB = 256
"""Below this, ranks that share memory run out of it (containers often have 64 MiB)."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``wrong`` says what is wrong and what to do, empty when nothing is."""

    topic: str
    text: str
    wrong: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def execute(arguments: argparse.Namespace) -> int:
    """Print the report; 0 when all is well, 1 otherwise."""
    findings: list[Finding] = []
    for examine in _EXAMINATIONS:
        for finding in examine():
            print(f"{finding.topic:10}  {finding.text}", flush=True)
            findings.append(finding)
    wrong = [finding for finding in findings if finding.wrong]
    print()
    if not wrong:
        print("all is well")
        return 0
    print("what is wrong:")
    for finding in wrong:
        print(f"- {finding.topic}: {finding.wrong}")
    return 1


def _python() -> list[Finding]:
    version = platform.python_version()
    return [
        Finding("fedmpi", f"{__version__} in {Path(__file__).parent.parent}"),
        Finding(
            "Python",
            f"{version} ({sys.executable}) on {platform.platform()}",
            "" if sys.version_info >= (3, 11) else "fedmpi needs Python 3.11 or later",
        ),
    ]


def _mpi() -> list[Finding]:
    code = (
        "import json, mpi4py; from fedmpi.mpi.library import MPI, library_name; "
        "print(json.dumps([mpi4py.__version__, library_name(), MPI.Get_version(), MPI.Query_thread()]))"
    )
    found = _ask_python(code)
    if isinstance(found, str):
        advice = "install one that works: pip install 'fedmpi[mpi]', or load the module of the cluster's MPI"
        return [Finding("MPI", "cannot be used", f"{found}; {advice}")]
    package, library, standard, _ = found
    old = int(package.split(".")[0]) < 4
    return [
        Finding("mpi4py", package, "fedmpi needs mpi4py 4 or later" if old else ""),
        Finding("MPI", f"{library} (standard {'.'.join(map(str, standard))})"),
    ]


def _intel_mpi() -> list[Finding]:
    """What users have set for Intel MPI; its launcher sets many more, which say nothing about what is wrong."""
    mine = {
        name: value
        for name, value in sorted(os.environ.items())
        if name.startswith("I_MPI_") and not name.startswith(_SET_BY_INTEL)
    }
    if not mine:
        return []
    library = mine.get(INTEL_PMI_LIBRARY, "")
    wrong = ""
    if library and not Path(library).is_file():
        wrong = f"{INTEL_PMI_LIBRARY}={library} is no file; name SLURM's libpmi2.so, or unset it"
    return [Finding("Intel MPI", ", ".join(f"{name}={value}" for name, value in mine.items()), wrong)]


def _launcher() -> list[Finding]:
    mpiexec = find_mpiexec()
    if mpiexec is None:
        return [Finding("launcher", "no mpiexec", "install an MPI with its mpiexec, or start runs with srun")]
    if inside_mpi_launch(os.environ):
        return [Finding("launcher", f"{mpiexec}; not tried, as this runs inside of an MPI launch")]
    code = "import sys; from mpi4py import MPI; sys.stdout.write(f'size {MPI.COMM_WORLD.size}\\n')"
    try:
        command = mpiexec_command(mpiexec, 2, ["-c", code])
        exit_code, out, err = output_of(command, _TIMEOUT_S)
    except (OSError, ConfigError) as error:
        return [Finding("launcher", str(mpiexec), f"it cannot be started: {error}")]
    sizes = re.findall(r"size (\d+)", out)
    if exit_code == 0 and sizes == ["2", "2"]:
        return [Finding("launcher", f"{mpiexec}; mpiexec -n 2 gives 2 ranks")]
    if exit_code == 0 and set(sizes) == {"1"}:
        wrong = "mpiexec -n 2 gives 1 rank twice: it belongs to another MPI library than mpi4py uses"
        return [Finding("launcher", str(mpiexec), f"{wrong}; use the mpiexec of that library")]
    outcome = f"did not end in {_TIMEOUT_S:g} s" if exit_code is None else f"exit code {exit_code}"
    reason = failure_reason(err or out)
    advice = f"; allowed: {ROOT_ALLOWED}" if "--allow-run-as-root" in reason else ""
    return [Finding("launcher", str(mpiexec), f"mpiexec -n 2 failed, {outcome}: {reason}{advice}")]


def _sharing() -> list[Finding]:
    value = os.environ.get(SHARING_VARIABLE, "")
    try:
        most = most_sharing(os.environ)
    except ConfigError as error:
        return [Finding("memory", f"{SHARING_VARIABLE}={value}", str(error))]
    how = (
        "all ranks of a node share theirs" if most is None else f"at most {most} ranks of a node share theirs"
    )
    if most == 1:
        how = "every rank has its own"
    return [Finding("memory", f"{how} ({SHARING_VARIABLE} {value or 'not set'})")]


def _torch() -> list[Finding]:
    code = (
        "import json, torch; print(json.dumps([torch.__version__, torch.get_num_threads(), "
        "torch.cuda.device_count() if torch.cuda.is_available() else 0]))"
    )
    found = _ask_python(code)
    if isinstance(found, str):
        return [Finding("torch", "cannot be used", f"{found}; install torch 2.4 or later")]
    version, threads, devices = found
    text = f"{version}, {threads} threads by default (a rank uses placement.threads_per_rank)"
    return [Finding("torch", f"{text}, {devices} CUDA devices")]


def _hdf5() -> list[Finding]:
    """A file is written in the working directory, as file systems differ in whether HDF5 can lock on them."""
    locking = os.environ.get("HDF5_USE_FILE_LOCKING", "not set")
    code = (
        "import json, tempfile, h5py\n"
        "with tempfile.TemporaryDirectory(dir='.', prefix='.fedmpi-doctor-') as folder:\n"
        "    with h5py.File(folder + '/try.h5', 'w') as file: file['x'] = [1.0]\n"
        "    with h5py.File(folder + '/try.h5', 'r') as file: assert file['x'][0] == 1.0\n"
        "print(json.dumps([h5py.__version__, h5py.version.hdf5_version]))"
    )
    found = _ask_python(code)
    if isinstance(found, str):
        advice = (
            f"is {Path.cwd()} writable? where its file system cannot lock, set HDF5_USE_FILE_LOCKING=FALSE"
        )
        return [Finding("HDF5", "cannot write here", f"{found}; {advice}")]
    return [Finding("HDF5", f"{found[1]}, h5py {found[0]}, HDF5_USE_FILE_LOCKING {locking}")]


def _slurm() -> list[Finding]:
    srun = shutil.which("srun")
    if srun is None:
        return [Finding("SLURM", "no srun")]
    try:
        exit_code, out, err = output_of([srun, "--version"], _TIMEOUT_S)
    except OSError as error:
        return [Finding("SLURM", srun, f"srun cannot be started: {error}")]
    job = os.environ.get("SLURM_JOB_ID")
    if exit_code != 0:
        failed = f"srun --version failed: {failure_reason(err or out)}"
        # Installed but not set up, as on a machine that is no part of a cluster: wrong in a job alone.
        return [Finding("SLURM", f"{srun}; {failed}", failed if job else "")]
    where = f"inside of job {job}" if job else "outside of a job"
    return [Finding("SLURM", f"{out.strip()}, {where}")]


def _machine() -> list[Finding]:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    memory = _meminfo()
    text = f"{cores} cores to use of {os.cpu_count()}"
    if memory:
        total, available = memory["MemTotal"] // _MIB, memory["MemAvailable"] // _MIB
        text += f"; memory {total} MiB, {available} MiB free"
    findings = [Finding("machine", text)]
    shm = Path("/dev/shm")
    if shm.is_dir():
        free = shutil.disk_usage(shm).free // _MIB
        wrong = f"only {free} MiB are free, and ranks share memory there; enlarge it (docker: --shm-size)"
        findings.append(Finding("/dev/shm", f"{free} MiB free", wrong if free < _SMALL_SHM_MIB else ""))
    return findings


_EXAMINATIONS: tuple[Callable[[], list[Finding]], ...] = (
    _python,
    _mpi,
    _intel_mpi,
    _launcher,
    _sharing,
    _torch,
    _hdf5,
    _slurm,
    _machine,
)


def _ask_python(code: str) -> Any:
    """The JSON that ``code`` prints last, run in a Python of its own; or a string: why there is none."""
    try:
        exit_code, out, err = output_of(python_command("-c", code), _TIMEOUT_S)
    except OSError as error:
        return f"{sys.executable} cannot be started: {error}"
    if exit_code is None:
        return f"no answer in {_TIMEOUT_S:g} s"
    if exit_code != 0:
        return f"exit code {exit_code}: {failure_reason(err or out)}"
    return json.loads(out.strip().splitlines()[-1])


def _meminfo() -> Mapping[str, int]:
    """Bytes by name from /proc/meminfo; empty where there is none."""
    path = Path("/proc/meminfo")
    if not path.exists():
        return {}
    rows = (line.split() for line in path.read_text(encoding="ascii").splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if len(row) == 3}
