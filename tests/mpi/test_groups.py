"""Ranks without memory in common, as on several nodes: the same traces, and the same after a resume."""

from pathlib import Path

import pytest
from experiments import BASE, VARIANTS, assert_same_trace

SEPARATE = [
    "dense",
    "ogd_float16",
    "fedavg",
    "fub_tree",
    "prunefl",
    "fedyogi_prunefl_buffers",
    "trimmed_mean_prunefl_buffers",
]
"""Each with another way between groups: exact averages, probes, weights that clients carry, flags, importance, what the
server makes of the mean, and all updates to the server."""


@pytest.fixture(scope="module")
def runs(launch_all, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of SEPARATE: ``one`` rank, three that are each ``alone``, and ``pairs``.

    ``pairs`` are as on three nodes, the last with one rank, and go on as on one.
    """
    folder = tmp_path_factory.mktemp("groups")
    config = folder / "base.toml"
    config.write_text(BASE, encoding="utf-8")

    def start(ranks: int, output: str, *more: str) -> None:
        into = ["--quiet", "--output"]
        launch_all(
            ranks, (["run", config, *VARIANTS[v], *more, *into, folder / v / output] for v in SEPARATE)
        )

    start(1, "one")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEDMPI_SHARED_MEMORY", "0")
        start(3, "alone")
        patch.setenv("FEDMPI_SHARED_MEMORY", "2")
        start(5, "pairs", "experiment.rounds=4")
    start(3, "pairs", "--resume")
    return folder


@pytest.mark.parametrize("variant", SEPARATE)
def test_trace_does_not_depend_on_who_shares_memory(runs: Path, variant: str) -> None:
    folder = runs / variant
    assert_same_trace(folder / "one", folder / "alone")
    assert_same_trace(folder / "one", folder / "pairs", ("rounds", "clients", "layers"))


@pytest.mark.parametrize(("value", "groups"), [("0", "0 1 2 3 4"), ("2", "01 23 4"), ("9", "01234")])
def test_groups_are_neighbours(launch, monkeypatch: pytest.MonkeyPatch, value: str, groups: str) -> None:
    monkeypatch.setenv("FEDMPI_SHARED_MEMORY", value)
    program = (
        "import os; from mpi4py import MPI; from fedmpi.mpi.placement import most_sharing; "
        "from fedmpi.mpi.shared_memory import GroupMemory; "
        "memory = GroupMemory(MPI.COMM_WORLD, most_sharing(os.environ)); "
        "MPI.COMM_WORLD.rank or print(*(''.join(map(str, group)) for group in memory.groups))"
    )
    assert launch(5, "-c", program).stdout.split() == groups.split()


def test_a_wrong_switch_is_refused_by_all(launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDMPI_SHARED_MEMORY", "no")
    command = ["-m", "fedmpi", "run", "quickstart", "--quiet", "--output", tmp_path / "run"]
    done = launch(2, *command, check=False)
    assert done.returncode == 2
    assert done.stderr.count("FEDMPI_SHARED_MEMORY: found 'no'") == 1


OVERLAPPING = """
import numpy as np

def windows(labels, writers, clients, rng):
    return list(np.sort((np.arange(clients)[:, None] * 150 + np.arange(700)) % labels.size, axis=1))
"""
"""Clients that together have more samples than there are, in a group or in all, keep the data set once."""


def test_overlapping_clients_train_alike_in_any_group(
    launch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    (tmp_path / "overlap.py").write_text(OVERLAPPING, encoding="utf-8")
    command = ["-m", "fedmpi", "run", config, "data.partition=overlap:windows", "experiment.rounds=3"]
    command += ["experiment.evaluate_clients=true", "data.client_test_fraction=0.2", "--quiet", "--output"]
    launch(1, *command, tmp_path / "one", python_path=tmp_path)
    launch(3, *command, tmp_path / "three", python_path=tmp_path)
    monkeypatch.setenv("FEDMPI_SHARED_MEMORY", "2")
    launch(5, *command, tmp_path / "groups", python_path=tmp_path)
    for name in ("three", "groups"):
        assert_same_trace(tmp_path / "one", tmp_path / name)
