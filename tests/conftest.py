"""Fixtures shared by the whole test suite."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmpi.mpi.forkserver import stub

os.environ.setdefault("OMP_NUM_THREADS", "1")

# In the background or under nohup these are ignored, and programs that tests start would inherit that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

_HERE = Path(__file__).resolve().parent
_SLOW = ("slurm", "mpi")

SMALL_SWEEP = """
seeds = [1, 2]
[base.experiment]
rounds = 12
evaluate_every = 3
[base.clients]
count = 4
[base.data]
dataset = "digits"
[base.training]
learning_rate = 0.3
[base.emulation.network]
uplink_mbit_per_s = { distribution = "lognormal", median = 0.05, sigma = 0.6 }
downlink_mbit_per_s = 0.5
[axes.method]
dense = {}
fab = { sparsification.method = "fab", sparsification.k_fraction = 0.1 }
"""


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file stay together where files run side by side; clusters are never more than one at a time.

    What takes longest begins first.
    """
    items.sort(key=lambda item: next((i for i, name in enumerate(_SLOW) if name in item.path.parts), len(_SLOW)))
    for item in items:
        group = "clusters" if "slurm" in item.path.parts else str(item.path.relative_to(_HERE))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session", autouse=True)
def fork_server() -> Iterator[None]:
    """One process that has imported torch, from which all runs that tests start are forked, alone or under mpiexec."""
    if sys.platform != "linux" or stub.VARIABLE in os.environ:
        yield
        return
    with stub.running_server(sys.executable, ["pandas"]) as name:
        os.environ[stub.VARIABLE] = name
        yield
        del os.environ[stub.VARIABLE]


@pytest.fixture(scope="session")
def golden_dir() -> Path:
    """The folder of golden vectors and measured constants."""
    return Path(__file__).resolve().parent / "golden"


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder of real data beside the project; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[1] / ".." / "shared"
    if not (folder / "data").is_dir():
        pytest.skip(f"real data are not there: {folder} is missing")
    return folder.resolve()


@pytest.fixture(scope="session")
def small_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of real runs: ``dense`` and ``fab`` with two seeds, twelve rounds of four clients."""
    folder = tmp_path_factory.mktemp("small_sweep")
    (folder / "small.toml").write_text(SMALL_SWEEP)
    launch = ("PMI_", "PMIX_", "OMPI_", "MPI_", "SLURM_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(launch)}
    subprocess.run(
        [sys.executable, "-m", "fedmpi", "sweep", "small.toml", "--output", "sweep", "--quiet"],
        cwd=folder,
        env={**kept, "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "OMP_NUM_THREADS": "1"},
        check=True,
        timeout=300,
    )
    return folder / "sweep"
