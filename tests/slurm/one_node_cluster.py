"""A real SLURM cluster of one node, in a temporary folder and with its own ports.

It is made of the daemons alone (munged, slurmctld, slurmd), without systemd and beside any other SLURM of the
machine, and ends with everything that was started on it.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
PROGRAMS = (
    "munged",
    "mungekey",
    "slurmctld",
    "slurmd",
    "sbatch",
    "srun",
    "sinfo",
    "scontrol",
    "scancel",
    "squeue",
)
NODE_CPUS = 16
"""More than there are: ranks of the tests may share cores."""


@dataclass(frozen=True)
class Job:
    """A finished (or requeued) job: its id, state as `scontrol` says it, exit code and what it printed."""

    number: int
    state: str
    exit_code: int
    output: str


@dataclass(frozen=True)
class Cluster:
    """Commands on the cluster. ``folder`` is a working folder for the jobs."""

    environment: Mapping[str, str]
    folder: Path

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the cluster; the caller looks at its exit code."""
        return subprocess.run(
            [str(word) for word in command],
            env={**self.environment, **variables},
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=240,
        )

    def check(self, *command: str | Path) -> str:
        """The same for a command that must succeed: its output."""
        done = self.run(*command)
        assert done.returncode == 0, f"{command} failed with {done.returncode}: {done.stderr}{done.stdout}"
        return done.stdout

    def submit(self, *arguments: str | Path, **variables: str) -> int:
        """``sbatch`` with these arguments; the job's id. Its output goes to ``job-ID.log``."""
        done = self.run("sbatch", "--parsable", "--output=job-%j.log", *arguments, **variables)
        assert done.returncode == 0, f"sbatch {arguments} failed: {done.stderr}"
        return int(done.stdout.strip())

    def show(self, job: int) -> dict[str, str]:
        """The job's fields, as ``scontrol show job`` names them."""
        words = self.check("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def output(self, job: int) -> str:
        path = self.folder / f"job-{job}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_output(self, job: int, text: str) -> None:
        """Until the job has printed ``text``; fails at once when it ends without."""
        self._wait_for(job, lambda: text in self.output(job), f"never printed {text!r}")

    def wait_for_file(self, job: int, path: Path) -> None:
        """Until the job has made a file; fails at once when it ends without."""
        self._wait_for(job, path.exists, f"never made {path}")

    def _wait_for(self, job: int, reached: Callable[[], bool], otherwise: str) -> None:
        while not reached():
            state = self.show(job)["JobState"]
            if state not in ("PENDING", "CONFIGURING", "RUNNING") and not reached():
                pytest.fail(f"job {job} is {state} and {otherwise}:\n{self.output(job)}")
            time.sleep(0.1)

    def wait(self, job: int, *states: str) -> Job:
        """Until the job is in one of ``states`` (default: ended)."""
        wanted = states or ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        while (fields := self.show(job))["JobState"] not in wanted:
            time.sleep(0.1)
        return Job(job, fields["JobState"], int(fields["ExitCode"].split(":")[0]), self.output(job))

    def wait_until_quiet(self, at_most_s: float = 60) -> None:
        """Until nothing waits or runs, or the time is over."""
        deadline = time.monotonic() + at_most_s
        while self.run("squeue", "--noheader").stdout.strip() and time.monotonic() < deadline:
            time.sleep(0.1)

    def restart(self, job: int) -> None:
        """Let a requeued job start: SLURM itself would hold it for two minutes.

        Not at once, as a node refuses what was ended there in the same second ("credential revoked").
        """
        time.sleep(2)
        self.check("scontrol", "update", f"JobId={job}", "StartTime=now")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _configuration(folder: Path, host: str) -> str:
    """slurm.conf. Job ids begin where no earlier cluster had them: MPICH names shared memory after them."""
    return f"""
ClusterName=fedmpi
FirstJobId={int(time.time()) % 60_000_000 + 1}
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
KillWait=5
MailProg=/bin/true
NodeName={host} NodeAddr=127.0.0.1 CPUs={NODE_CPUS}
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64
"""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _end_whatever_is_left(configuration: Path) -> None:
    """End every process that has this cluster's configuration in its environment: job steps and ranks."""
    mark = f"SLURM_CONF={configuration}".encode()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and int(entry.name) != os.getpid():
            with suppress(OSError):
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    os.kill(int(entry.name), signal.SIGKILL)


def _shared_memory() -> set[Path]:
    """The shared memory of MPICH's ranks; that of ranks that were killed stays."""
    return set(Path("/dev/shm").glob("mpich_shm_*"))


def _remove_shared_memory(candidates: set[Path]) -> None:
    """Remove what no process uses any more."""
    maps = []
    for path in Path("/proc").glob("[0-9]*/maps"):
        with suppress(OSError):
            maps.append(path.read_text())
    for path in candidates:
        if not any(str(path) in text for text in maps):
            path.unlink(missing_ok=True)


def _wait_until_idle(cluster: Cluster, folder: Path, daemons: Mapping[str, subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + 60
    while cluster.run("sinfo", "--noheader", "--format=%T").stdout.strip() != "idle":
        ended = [name for name, process in daemons.items() if process.poll() is not None]
        if ended or time.monotonic() > deadline:
            logs = "".join((folder / f"{name}.log").read_text()[-2000:] for name in daemons)
            pytest.fail(f"the SLURM cluster did not come up (ended: {ended}):\n{logs}")
        time.sleep(0.1)


@contextmanager
def one_node_cluster() -> Iterator[Cluster]:
    """Start the cluster, and end it with the block. Needs root and all of ``PROGRAMS``."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fedmpi-slurm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("state", "spool", "work"):
            (folder / name).mkdir()
        host = socket.gethostname().split(".")[0]
        configuration = folder / "slurm.conf"
        configuration.write_text(_configuration(folder, host))
        own = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("SLURM_", "PMI", "FEDMPI_"))
        }
        cluster = Cluster(
            environment={
                **own,
                "SLURM_CONF": str(configuration),
                "FEDMPI_VENV": sys.prefix,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), own.get("PYTHONPATH")])),
            },
            folder=folder / "work",
        )
        before = _shared_memory()
        stack.callback(lambda: _remove_shared_memory(_shared_memory() - before))
        stack.callback(_end_whatever_is_left, configuration)

        daemons: dict[str, subprocess.Popen[bytes]] = {}

        def start(*command: str) -> None:
            name = command[0]
            log = stack.enter_context((folder / f"{name}.log").open("wb"))
            daemons[name] = subprocess.Popen(
                command,
                env=cluster.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            stack.callback(_end, daemons[name])

        subprocess.run(["mungekey", "--create", f"--keyfile={folder}/munge.key"], check=True)
        munge = [
            f"--{name}={folder}/munge.{end}"
            for name, end in [
                ("key-file", "key"),
                ("socket", "socket"),
                ("pid-file", "pid"),
                ("seed-file", "seed"),
            ]
        ]
        start("munged", "--foreground", "--force", *munge)
        start("slurmctld", "-D", "-i")
        start("slurmd", "-D", "-N", host)
        _wait_until_idle(cluster, folder, daemons)
        yield cluster
        cluster.run("scancel", "--user=root")
        cluster.wait_until_quiet(at_most_s=10)
