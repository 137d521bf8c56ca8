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
from collections.abc import Callable, Iterator, Mapping, Sequence
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

    number: int | str
    state: str
    exit_code: int
    output: str


@dataclass(frozen=True)
class Cluster:
    """Commands on the cluster. ``folder`` is a working folder for the jobs.

    Jobs are named by their number, tasks of an array as "7_0". ``inside`` is what stands before a command so that it
    runs where the cluster's network is.
    """

    environment: Mapping[str, str]
    folder: Path
    inside: Sequence[str] = ()

    def run(self, *command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command that sees the cluster; the caller looks at its exit code."""
        return subprocess.run(
            [*self.inside, *(str(word) for word in command)],
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

    def why_no_pmix(self) -> str:
        """Why ``srun --mpi=pmix`` does not work here, though SLURM may list it; empty where it does."""
        done = self.run("srun", "--mpi=pmix", "--ntasks=1", "true")
        if done.returncode == 0:
            return ""
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return f"srun --mpi=pmix does not work; on Debian it needs libpmix-dev, for libpmix.so: {reason}"

    def submit(self, *arguments: str | Path, **variables: str) -> int:
        """``sbatch`` with these arguments; the job's id. Its output goes to ``job-ID.log``."""
        done = self.run("sbatch", "--parsable", "--output=job-%j.log", *arguments, **variables)
        assert done.returncode == 0, f"sbatch {arguments} failed: {done.stderr}"
        return int(done.stdout.strip())

    def show(self, job: int | str) -> dict[str, str]:
        """The job's fields, as ``scontrol show job`` names them."""
        words = self.check("scontrol", "--oneliner", "show", "job", str(job)).split()
        return dict(word.split("=", 1) for word in words if "=" in word)

    def output(self, job: int | str) -> str:
        """What it has printed so far; a task of an array has a number of its own, from its start on."""
        number = job if isinstance(job, int) else self.show(job)["JobId"]
        path = self.folder / f"job-{number}.log"
        return path.read_text() if path.exists() else ""

    def wait_for_output(self, job: int | str, text: str) -> None:
        """Until the job has printed ``text``; fails at once when it ends without."""
        self.wait_for(job, lambda: text in self.output(job), f"never printed {text!r}")

    def wait_for_file(self, job: int | str, path: Path) -> None:
        """Until the job has made a file; fails at once when it ends without."""
        self.wait_for(job, path.exists, f"never made {path}")

    def wait_for(self, job: int | str, reached: Callable[[], bool], otherwise: str) -> None:
        """Until something is so; fails at once, saying what happened otherwise, when the job ends without."""
        while not reached():
            state = self.show(job)["JobState"]
            if state not in ("PENDING", "CONFIGURING", "RUNNING") and not reached():
                pytest.fail(f"job {job} is {state} and {otherwise}:\n{self.output(job)}")
            time.sleep(0.1)

    def wait(self, job: int | str, *states: str) -> Job:
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

    def restart(self, job: int | str) -> None:
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


def _configuration(folder: Path, host: str, address: str, nodes: str) -> str:
    """slurm.conf. Job ids begin where no earlier cluster had them: MPICH names shared memory after them."""
    return f"""
ClusterName=fedmpi
FirstJobId={int(time.time()) % 60_000_000 + 1}
SlurmctldHost={host}({address})
SlurmctldPort={_free_port()}
SlurmdPort={_free_port()}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SlurmdParameters=config_overrides
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
ReturnToService=2
MailProg=/bin/true
{nodes}
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


class Daemons:
    """The processes of a cluster, each with a log of its own in ``folder``; they end with ``stack``."""

    def __init__(self, stack: ExitStack, folder: Path, environment: Mapping[str, str]) -> None:
        self._stack = stack
        self._folder = folder
        self._environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def configure(self, host: str, address: str, nodes: str) -> None:
        """Write slurm.conf for a controller on ``host`` and these lines about nodes and partitions."""
        text = _configuration(self._folder, host, address, nodes)
        (self._folder / "slurm.conf").write_text(text)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        log = self._stack.enter_context((self._folder / f"{name}.log").open("wb"))
        self._running[name] = subprocess.Popen(
            command,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        self._stack.callback(_end, self._running[name])
        return self._running[name]

    def start_and_wait(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """The same for what prints a line when it is ready, and is killed at the end."""
        process = self.start(name, *command)
        self._stack.callback(process.kill)
        self._wait(lambda: bool((self._folder / f"{name}.log").read_text()))
        return process

    def start_munged(self) -> None:
        """The daemon that signs messages, with a key of its own."""
        key = f"--keyfile={self._folder}/munge.key"
        subprocess.run(["mungekey", "--create", key], check=True)
        files = {"key-file": "key", "socket": "socket", "pid-file": "pid", "seed-file": "seed"}
        options = [f"--{name}={self._folder}/munge.{end}" for name, end in files.items()]
        self.start("munged", "munged", "--foreground", "--force", *options)

    def wait_until_idle(self, cluster: Cluster) -> None:
        """Until all nodes are up and have nothing to do."""
        states = ("sinfo", "--noheader", "--format=%T")
        self._wait(lambda: set(cluster.run(*states).stdout.split()) == {"idle"})

    def _wait(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 180
        while not reached():
            ended = [name for name, process in self._running.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "".join((self._folder / f"{name}.log").read_text()[-2000:] for name in self._running)
                pytest.fail(f"the SLURM cluster did not come up (ended: {ended}):\n{logs}")
            time.sleep(0.1)


@contextmanager
def cluster_folder() -> Iterator[tuple[Path, dict[str, str]]]:
    """A folder for the files of a cluster, and the environment of its processes; ends what is left of them."""
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="fedmpi-slurm-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name in ("state", "work"):
            (folder / name).mkdir()
        own = {
            name: text
            for name, text in os.environ.items()
            if not name.startswith(("SLURM_", "PMI", "FEDMPI_"))
        }
        configuration = folder / "slurm.conf"
        before = _shared_memory()
        stack.callback(lambda: _remove_shared_memory(_shared_memory() - before))
        stack.callback(_end_whatever_is_left, configuration)
        yield (
            folder,
            {
                **own,
                "SLURM_CONF": str(configuration),
                "FEDMPI_VENV": sys.prefix,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(PROJECT), own.get("PYTHONPATH")])),
            },
        )


@contextmanager
def one_node_cluster() -> Iterator[Cluster]:
    """Start the cluster, and end it with the block. Needs root and all of ``PROGRAMS``."""
    with ExitStack() as stack:
        folder, environment = stack.enter_context(cluster_folder())
        daemons = Daemons(stack, folder, environment)
        host = socket.gethostname().split(".")[0]
        partition = "Default=YES MaxTime=INFINITE State=UP OverSubscribe=FORCE:64"
        daemons.configure(
            host,
            "127.0.0.1",
            f"""KillWait=5
NodeName={host} NodeAddr=127.0.0.1 CPUs={NODE_CPUS}
PartitionName=main Nodes={host} {partition}""",
        )
        daemons.start_munged()
        daemons.start("slurmctld", "slurmctld", "-D", "-i")
        daemons.start("slurmd", "slurmd", "-D", "-N", host)
        cluster = Cluster(environment, folder / "work")
        daemons.wait_until_idle(cluster)
        yield cluster
        cluster.run("scancel", "--user=root")
        cluster.wait_until_quiet(at_most_s=10)
