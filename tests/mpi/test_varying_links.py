"""Links that follow traces, with TCP's start and a jitter of each client: as placement-free and resumable as any."""

from pathlib import Path

import numpy as np
import pytest
from experiments import METHODS, PRUNEFL, assert_same_trace, write_config

from fedmpi import trace

EVERY = "experiment.evaluate_every=1"


def links(folder: Path) -> list[str]:
    """Overrides of an experiment's links; two traces are written to ``folder``, one of which stalls."""
    folder.mkdir()
    chances = np.random.default_rng(3).integers(1, 9000, 1500)
    chances = np.sort(chances[(chances < 2000) | (chances > 4500)])
    (folder / "a.up").write_text("\n".join(map(str, chances.tolist())))
    (folder / "b.up").write_text("0 0.5\n0.3 4\n1.1 0.02\n2.9 1\n")
    return [
        "emulation.network.uplink_mbit_per_s=inf",
        f"emulation.network.uplink_trace={folder}",
        "emulation.network.downlink_mbit_per_s=inf",
        f"emulation.network.downlink_trace={folder / 'b.up'}",
        "emulation.network.trace_start=random",
        "emulation.network.transport=tcp",
        "emulation.network.connection=new",
        "emulation.network.latency_s={distribution='uniform', low=0.0, high=0.1}",
        "emulation.network.jitter_s=[0, 0.1, 0.2, 0.3, 0, 0, 0.01, 0.02]",
        "emulation.network.server_ingress_mbit_per_s=1.0",
    ]


KINDS = {**{method: (method, []) for method in METHODS}, "prunefl": ("dense", PRUNEFL)}


@pytest.fixture(scope="module")
def runs(launch_all, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of KINDS: a run on ``one`` rank, on ``three``, and one that was ``resumed``."""
    folder = tmp_path_factory.mktemp("varying")
    varying = links(folder / "links")

    def start(ranks: int, output: str, *given: str) -> None:
        commands = []
        for kind, (method, more) in KINDS.items():
            run = ["run", write_config(folder, method), *more, EVERY, *varying, *given]
            commands.append([*run, "--quiet", "--output", folder / kind / output])
        launch_all(ranks, commands)

    start(1, "one")
    start(3, "three")
    start(3, "resumed", "experiment.rounds=3")
    start(2, "resumed", "--resume")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_any_ranks_and_a_resumed_run_give_one_trace(runs: Path, kind: str) -> None:
    folder = runs / kind
    assert_same_trace(folder / "one", folder / "three")
    assert_same_trace(folder / "one", folder / "resumed")
    clients = trace.read(folder / "one").clients
    assert clients.groupby("client")["upload_s"].nunique().max() > 1


def test_a_run_is_resumed_with_moved_traces_but_not_with_others(launch, tmp_path: Path) -> None:
    run = ["-m", "fedmpi", "run", write_config(tmp_path, "dense")]
    into = ["--output", tmp_path / "run", "--quiet"]
    launch(1, *run, *links(tmp_path / "links"), "experiment.rounds=3", *into)
    launch(1, *run, *links(tmp_path / "moved"), "experiment.rounds=4", *into, "--resume")
    other = links(tmp_path / "other")
    (tmp_path / "other" / "b.up").write_text("0 0.5\n0.3 4\n1.1 0.02\n2.9 2\n")
    done = launch(1, *run, *other, "experiment.rounds=5", *into, "--resume", check=False)
    assert done.returncode == 1
    assert "the devices are not those of before" in done.stderr
