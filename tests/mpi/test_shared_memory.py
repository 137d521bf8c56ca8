"""Memory that ranks share, ranks that cannot, and ranks in containers of their own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from experiments import assert_same_trace, write_config
from libraries import Mpi

from fedmpi.mpi.forkserver.stub import VARIABLE

PROGRAM = Path(__file__).with_name("programs_shared_memory.py")
OWN_NAMESPACE = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"]


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_who_sees_what(launch, ranks: int) -> None:
    assert "all good" in launch(ranks, PROGRAM).stdout


@pytest.fixture
def launch_apart(mpi: Mpi) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``launch_apart(ranks, *arguments)``: each rank in a PID namespace of its own, as in one container each."""
    if subprocess.run([*OWN_NAMESPACE, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip(f"PID namespaces need root and util-linux: {' '.join(OWN_NAMESPACE)} true fails")

    def run(ranks: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        command = mpi.command(ranks, *arguments)
        python = command.index(str(mpi.python))
        given = mpi.environment().items()
        return subprocess.run(
            [*command[:python], *OWN_NAMESPACE, *command[python:]],
            capture_output=True,
            text=True,
            timeout=240,
            env={name: value for name, value in given if not name.startswith(("MPIR_CVAR_", VARIABLE))},
            check=False,
        )

    return run


def test_ranks_in_pid_namespaces_of_their_own_give_the_same_trace(
    launch, launch_apart, tmp_path: Path
) -> None:
    """Process numbers of other ranks mean nothing there, or another process."""
    config = write_config(tmp_path, "fab_adaptive")
    run = ["-m", "fedmpi", "run", config, "--quiet", "--output"]
    launch(3, *run, tmp_path / "together")
    done = launch_apart(3, *run, tmp_path / "apart")
    assert done.returncode == 0, done.stdout + done.stderr
    assert_same_trace(tmp_path / "together", tmp_path / "apart")


def test_long_messages_between_pid_namespaces_are_right(launch_apart, tmp_path: Path) -> None:
    """MPICH would read them out of the memory of whatever process has the sender's number."""
    program = tmp_path / "program.py"
    program.write_text(
        "import os, numpy as np\n"
        "from fedmpi.mpi.library import MPI\n"
        "from fedmpi.mpi.collectives import Ranks\n"
        "from fedmpi.mpi.shared_memory import GroupMemory\n"
        "ranks = Ranks.of(MPI.COMM_WORLD)\n"
        "long = np.full(300_000, 7.0) if ranks.is_server else np.zeros(300_000)\n"
        "ranks.send(long, 1) if ranks.is_server else ranks.receive(long, 0)\n"
        "assert (long == 7.0).all() and os.getpid() == 1\n"
        "print(GroupMemory(MPI.COMM_WORLD).groups)\n"
    )
    done = launch_apart(2, program)
    # A rank's line and its end may be written apart, with the other rank's line between them.
    assert done.stdout.replace("\n", "") == "((0,), (1,))" * 2, done.stdout + done.stderr
