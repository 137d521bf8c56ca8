"""Lottery tickets: runs that start with the mask of a finished one."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from experiments import BASE, assert_same_trace

from fedmpi import trace
from fedmpi.checkpoint import open_checkpoint, store
from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.cli.main import main
from fedmpi.config import ConfigError, loads
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build
from fedmpi.numerics.streams import Purpose, torch_seed
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification.wire import mask_bytes

PARAMETERS, PRUNABLE, SEED = 1210, 64 * 16 + 16 * 10, 5


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, launch) -> Path:
    """Holds ``base.toml``, and ``finished``, a run with seed 5 that pruned to a density of 0.2."""
    folder = tmp_path_factory.mktemp("tickets")
    (folder / "base.toml").write_text(BASE, encoding="utf-8")
    overrides = ["pruning.method=snip", "pruning.target_density=0.2", "experiment.rounds=2"]
    command = ["-m", "fedmpi", "run", folder / "base.toml", *overrides, "--quiet"]
    launch(2, *command, "--output", folder / "finished")
    return folder


def command_of(folder: Path, method: str, *overrides: str) -> list[str | Path]:
    ticket = [f"pruning.method={method}", f"pruning.ticket={folder / 'finished'}", "experiment.seed=8"]
    return ["-m", "fedmpi", "run", folder / "base.toml", *ticket, *overrides, "--quiet"]


def initial_weights(method: str) -> np.ndarray:
    """Of the finished run, or of a seed that is neither its own nor that of the run that starts."""
    seed = SEED if method == "lottery_reinit" else torch_seed(8, Purpose.PRUNING)
    return FlatModel(build(loads(BASE).model, (1, 8, 8), 10, seed)).vector.detach().numpy()


@pytest.mark.parametrize(
    ("method", "sparse"),
    [("lottery_reinit", []), ("lottery_random", ["sparsification.method=fab", "sparsification.k=60"])],
)
def test_a_ticket_is_the_same_on_any_ranks_and_after_an_interruption(
    folder: Path, tmp_path: Path, launch, method: str, sparse: list[str]
) -> None:
    """Resumed where the finished run's folder is not there any more."""
    for ranks in (1, 3):
        launch(ranks, *command_of(folder, method, *sparse), "--output", tmp_path / f"on-{ranks}")
    parts = command_of(folder, method, *sparse, "--output", tmp_path / "parts")
    launch(2, *parts, "experiment.rounds=4")
    launch(1, *parts, "experiment.rounds=6", "pruning.ticket=moved", "--resume")
    assert_same_trace(tmp_path / "on-1", tmp_path / "on-3")
    assert_same_trace(tmp_path / "on-1", tmp_path / "parts", ("rounds", "clients", "layers"))
    run, found = trace.read(tmp_path / "on-1"), trace.read(folder / "finished")
    assert run.rounds["density"].nunique() == 1
    last = found.layers[found.layers["round"] == found.layers["round"].max()]
    assert run.layers["active"].tolist() == last["active"].tolist()


@pytest.mark.parametrize("method", ["lottery_reinit", "lottery_random"])
def test_weights_are_those_of_the_right_seed_under_the_mask(
    folder: Path, tmp_path: Path, launch, method: str
) -> None:
    """A learning rate that changes no weight leaves the initial ones in the checkpoint."""
    still = ["experiment.rounds=1", "training.learning_rate=1e-30", "training.momentum=0"]
    launch(2, *command_of(folder, method, *still), "--output", tmp_path / "run")
    weights = open_checkpoint(tmp_path / "run" / "checkpoint" / "round-00000001").server()["weights"]
    finished = open_checkpoint(folder / "finished" / "checkpoint" / "round-00000002").server()
    expected = initial_weights(method).copy()
    Mask.from_bits(finished["mask"], PARAMETERS).apply(expected)
    np.testing.assert_array_equal(weights, expected)


def test_the_mask_comes_with_the_first_download(folder: Path, tmp_path: Path, launch) -> None:
    launch(2, *command_of(folder, "lottery_reinit", "clients.per_round=0"), "--output", tmp_path / "run")
    run = trace.read(tmp_path / "run")
    message = 16 + 4 * int(run.rounds["active_parameters"][0])
    active = int(run.layers["active"].sum()) - 26
    mask = 16 + min(mask_bytes(PRUNABLE), 4 * active)
    by_round = run.clients.groupby("round")["bytes_down"]
    assert by_round.nunique().eq(1).all()
    assert by_round.first().tolist() == [message + mask] + [message] * 5
    assert (run.clients["bytes_up"] == message).all()


def test_check_tells_of_the_first_round_of_the_ticket(folder: Path, capsys: pytest.CaptureFixture) -> None:
    arguments = [str(part) for part in command_of(folder, "lottery_reinit")[3:-1]]
    assert main(["check", *arguments]) == 0
    out = capsys.readouterr().out
    mask = read_ticket(ticket_config(folder / "finished"), PARAMETERS).mask
    active, density = mask.count, (mask.count - 26) / PRUNABLE
    assert density == pytest.approx(0.2, abs=1e-3)
    assert f"; {active} active, density {density:.6g}" in out
    assert f"down {16 + 4 * active + 16 + mask_bytes(PRUNABLE)} and up {16 + 4 * active}" in out


def ticket_config(ticket: Path, *overrides: str):
    return loads(BASE, ["pruning.method=lottery_reinit", f"pruning.ticket={ticket}", *overrides])


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    shutil.copytree(folder / "finished", tmp_path / "copy")
    return tmp_path / "copy"


def test_the_seed_stands_in_the_name_of_the_folder(folder: Path, tmp_path: Path) -> None:
    for seed in (3, 4):
        shutil.copytree(folder / "finished", tmp_path / f"pruned-s{seed}")
    shutil.rmtree(tmp_path / "pruned-s3" / "checkpoint")
    ticket = tmp_path / "pruned-s{seed}"
    assert read_ticket(ticket_config(ticket, "experiment.seed=4"), PARAMETERS).seed == SEED
    with pytest.raises(ConfigError, match="pruned-s3 has no checkpoint"):
        read_ticket(ticket_config(ticket, "experiment.seed=3"), PARAMETERS)
    with pytest.raises(ConfigError, match=r"there is no folder .*pruned-s5"):
        read_ticket(ticket_config(ticket, "experiment.seed=5"), PARAMETERS)


def test_what_is_no_ticket_is_refused_with_the_reason(folder: Path, copy: Path) -> None:
    def refused(config, because: str, parameters: int = PARAMETERS) -> None:
        with pytest.raises(ConfigError) as caught:
            read_ticket(config, parameters)
        assert str(caught.value).startswith("[pruning] ticket: ")
        assert because in str(caught.value)

    assert read_ticket(ticket_config(copy), PARAMETERS).seed == SEED
    refused(ticket_config(folder / "nowhere"), f"there is no folder {folder / 'nowhere'}")
    refused(ticket_config(folder), "there is no trace")
    refused(
        ticket_config(copy, "model.hidden=[8]"),
        "is of model mlp, hidden [16], this one of model mlp, hidden [8];",
    )
    refused(ticket_config(copy), "has 1210 parameters, this one 99", parameters=99)
    manifest = copy / "checkpoint" / "round-00000002" / "manifest.json"
    kept = manifest.read_text()
    body = json.loads(kept)
    del body["checksum"]
    body["values"]["run_id"] = "another"
    manifest.write_text(store._manifest_text(body))
    refused(ticket_config(copy), f"round-00000002 is of another run than {copy / 'trace.h5'}")
    manifest.write_text(kept)
    server = next((copy / "checkpoint").glob("round-00000002/server.npz"))
    server.write_bytes(server.read_bytes()[:-1])
    refused(ticket_config(copy), "server.npz")
    shutil.rmtree(copy / "checkpoint")
    refused(ticket_config(copy), f"{copy} has no checkpoint")
    with h5py.File(copy / "trace.h5", "r+", locking=False) as file:
        file.attrs["status"] = "running"
    refused(ticket_config(copy), f"the run in {copy} is running")


def test_a_run_that_pruned_nothing_is_no_ticket(folder: Path, tmp_path: Path, launch) -> None:
    plain = [
        "-m",
        "fedmpi",
        "run",
        folder / "base.toml",
        "experiment.rounds=1",
        "--output",
        tmp_path / "finished",
    ]
    launch(1, *plain, "--quiet")
    done = launch(
        2, *command_of(folder, "lottery_reinit", f"pruning.ticket={tmp_path / 'finished'}"), check=False
    )
    assert done.returncode == 2
    assert 'had pruning.method "none", and found no mask' in done.stderr
    assert done.stderr.count("fedmpi: ") == 1
