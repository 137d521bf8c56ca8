"""The clusters that the tests of this folder share."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from many_nodes_cluster import ManyNodes, many_nodes_cluster, why_not
from one_node_cluster import PROGRAMS, PROJECT, Cluster, one_node_cluster

from fedmpi.mpi.forkserver import stub

sys.path.append(str(PROJECT / "tests" / "mpi"))  # experiments.py


def skip_without_slurm() -> None:
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(
            f"SLURM tests need the Debian packages slurm-wlm and munge; not found: {', '.join(missing)}"
        )
    if os.geteuid() != 0:
        pytest.skip("SLURM tests start their own cluster, for which they need root")


@pytest.fixture(scope="module", autouse=True)
def servers_of_their_own() -> Iterator[None]:
    """Ranks of a node are forked there, as on a user's cluster, not from the process that serves the other tests."""
    name = os.environ.pop(stub.VARIABLE, None)
    yield
    if name is not None:
        os.environ[stub.VARIABLE] = name


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A one-node cluster; skips where SLURM or munge is not installed or where it may not be started."""
    skip_without_slurm()
    with one_node_cluster() as started:
        yield started


@pytest.fixture(scope="session")
def many_nodes() -> Iterator[ManyNodes]:
    """A cluster of three nodes; skips where there is no SLURM, or where a machine cannot be divided into nodes."""
    skip_without_slurm()
    if reason := why_not():
        pytest.skip(reason)
    with many_nodes_cluster(3) as started:
        yield started


@pytest.fixture(scope="session")
def whole(made_once: Callable[[str, Callable[[Path], object]], Path]) -> tuple[Path, Path]:
    """A configuration, and the folder of its uninterrupted run on one rank."""
    from experiments import write_config
    from many_nodes_jobs import LONG

    def run(folder: Path) -> None:
        config = str(write_config(folder, "fab_adaptive"))
        command = [sys.executable, "-m", "fedmpi", "run", config, *LONG, "--output", str(folder / "run")]
        subprocess.run([*command, "--quiet"], check=True, timeout=240)

    folder = made_once("whole-on-one-rank", run)
    return folder / "fab_adaptive.toml", folder / "run"
