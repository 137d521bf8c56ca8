"""Fixtures shared by the whole test suite."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import hypothesis
import pytest

from fedmpi.mpi.forkserver import stub

os.environ.setdefault("OMP_NUM_THREADS", "1")

# What an example may take says nothing where other work shares the machine.
hypothesis.settings.register_profile("any machine", deadline=None)
hypothesis.settings.load_profile("any machine")

# In the background or under nohup these are ignored, and programs that tests start would inherit that.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

_HERE = Path(__file__).resolve().parent
_LONGEST_FIRST = (
    "slurm/test_node_ends",
    "slurm/test_many_nodes",
    "mpi/test_methods",
    "slurm",
    "mpi/test_kill_and_resume",
    "mpi/test_signals",
    "mpi/test_state_on_disk",
    "mpi/test_soak_kills",
    "parts/test_user_parts",
    "mpi",
    "experiment/test_retiming",
    "cli",
)
"""Where names of test files begin so, these begin before all others."""

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


def pytest_configure(config: pytest.Config) -> None:
    """One process that has imported torch, from which all runs that tests start are forked, alone or under mpiexec.

    The workers of pytest-xdist share that of the process that starts them.
    """
    worker = hasattr(config, "workerinput")
    if worker or config.option.collectonly or sys.platform != "linux" or stub.VARIABLE in os.environ:
        return
    serving = ExitStack()
    os.environ[stub.VARIABLE] = serving.enter_context(stub.running_server(sys.executable, ["pandas"]))
    serving.callback(os.environ.pop, stub.VARIABLE, None)
    config.add_cleanup(serving.close)


@pytest.hookimpl(tryfirst=True)  # before xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of a file stay together where files run side by side, those of the one-node cluster share that.

    What takes longest begins first.
    """
    names = {item: item.path.relative_to(_HERE).as_posix() for item in items}

    def order(item: pytest.Item) -> int:
        begins = (i for i, begin in enumerate(_LONGEST_FIRST) if names[item].startswith(begin))
        return next(begins, len(_LONGEST_FIRST))

    items.sort(key=order)
    for item in items:
        one_node = "cluster" in getattr(item, "fixturenames", ())
        item.add_marker(pytest.mark.xdist_group("one-node cluster" if one_node else names[item]))


@pytest.fixture(scope="session")
def made_once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[Path], object]], Path]:
    """``made_once(name, make)``: a folder that ``make`` fills, once for all workers; tests may only read it."""

    def folder_of(name: str, make: Callable[[Path], object]) -> Path:
        shared = tmp_path_factory.getbasetemp()
        if "PYTEST_XDIST_WORKER" in os.environ:
            shared = shared.parent
        folder, done = shared / name, shared / f"{name}.done"
        with (shared / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # what a worker left that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return folder_of


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
def small_sweep(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of a sweep of real runs: ``dense`` and ``fab`` with two seeds, twelve rounds of four clients."""

    def run(folder: Path) -> None:
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

    return made_once("small_sweep", run) / "sweep"
