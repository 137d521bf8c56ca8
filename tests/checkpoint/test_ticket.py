"""Lottery tickets: the mask and the seed of a finished run, and why others are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmpi import checkpoint
from fedmpi.checkpoint.ticket import read_ticket
from fedmpi.config import ConfigError, dumps, loads
from fedmpi.pruning.mask import Mask
from fedmpi.trace import TraceWriter

PARAMETERS = 11
ACTIVE = np.arange(PARAMETERS) % 3 > 0
Make = Callable[..., Path]


@pytest.fixture
def finished(tmp_path: Path) -> Make:
    """The folder of a made-up run of seed 5, with a checkpoint at rounds 1 and 2, where it ended."""

    def make(
        *overrides: str,
        status: str = "completed",
        mask: bool = True,
        parameters: int = PARAMETERS,
        **ids: str,
    ) -> Path:
        folder = tmp_path / "finished"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        config = loads(
            "", ["pruning.method=snip", "pruning.target_density=0.5", "experiment.seed=5", *overrides]
        )
        attributes: dict[str, Any] = {
            "config_toml": dumps(config),
            "seed": 5,
            "clients": 10,
            "ranks": 1,
            "parameters": parameters,
            "layer_names": ["weight"],
            **dict.fromkeys(("host", "mpi_library", "slurm_job_id"), ""),
            "run_id": ids.get("of_trace", "one"),
        }
        TraceWriter.create(folder / "trace.h5", attributes).close(status)
        for number, active in ((1, ~ACTIVE), (2, ACTIVE)):
            arrays = {"weights": np.zeros(PARAMETERS, np.float32)}
            if mask:
                arrays["mask"] = Mask.of(active).to_bits()
            partial = checkpoint.start(folder / "checkpoint", number)
            entry = checkpoint.write_server(partial, arrays)
            checkpoint.publish(partial, [entry], {"run_id": ids.get("of_checkpoint", "one")})
        return folder

    return make


def ticket_of(folder: Path, *overrides: str, parameters: int = PARAMETERS) -> Any:
    config = loads("", ["pruning.method=lottery_reinit", f"pruning.ticket={folder}", *overrides])
    return read_ticket(config, parameters)


def test_the_mask_is_the_last_and_the_seed_that_of_the_run(finished: Make) -> None:
    ticket = ticket_of(finished(), "experiment.seed=8")
    assert ticket.seed == 5
    np.testing.assert_array_equal(ticket.mask.flags(), ACTIVE)


def test_the_seed_stands_for_itself_in_the_name(finished: Make, tmp_path: Path) -> None:
    finished().rename(tmp_path / "run-s8-8")
    name = tmp_path / "run-s{seed}-{seed}"
    assert ticket_of(name, "experiment.seed=8").seed == 5
    with pytest.raises(ConfigError, match=r"there is no folder .*run-s7-7"):
        ticket_of(name, "experiment.seed=7")


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "running": ({"status": "preempted"}, "the run in FOLDER is preempted"),
    "failed": ({"status": "failed"}, "the run in FOLDER is failed"),
    "parameters": ({"parameters": 12}, "the model of the run in FOLDER has 12 parameters, this one 11"),
    "no mask": ({"mask": False}, "FOLDER/checkpoint/round-00000002 has no mask"),
    "other run": ({"of_trace": "two"}, "round-00000002 is of another run than FOLDER/trace.h5"),
    "other checkpoint": ({"of_checkpoint": "two"}, "round-00000002 is of another run than FOLDER/trace.h5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_ticket_is_refused_with_the_reason(case: str, finished: Make) -> None:
    changes, message = REFUSED[case]
    folder = finished(**changes)
    with pytest.raises(ConfigError) as caught:
        ticket_of(folder)
    text = str(caught.value)
    assert text.startswith("[pruning] ticket: ")
    assert message.replace("FOLDER", str(folder)) in text
    assert text.endswith("; allowed: the folder of a completed run of the same model that pruned it")


@pytest.mark.parametrize("method", ["none", "lottery_random"])
def test_a_run_that_found_no_mask_of_its_own_is_none(method: str, finished: Make) -> None:
    own = ["pruning.ticket=elsewhere"] if method == "lottery_random" else []
    folder = finished(f"pruning.method={method}", "pruning.target_density=none", *own)
    with pytest.raises(ConfigError, match=f'had pruning.method "{method}", and found no mask'):
        ticket_of(folder)


def test_another_model_is_named_with_its_options(finished: Make) -> None:
    folder = finished("model.name=mine:net", "model.options.width=5")
    with pytest.raises(ConfigError) as caught:
        ticket_of(folder, "model.hidden=[8]")
    assert "is of model mine:net, hidden [" in str(caught.value)
    assert "], width 5, this one of model mlp, hidden [8]; allowed" in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (shutil.rmtree, "there is no folder"),
        (lambda folder: (folder / "trace.h5").unlink(), "there is no trace"),
        (lambda folder: shutil.rmtree(folder / "checkpoint"), "has no checkpoint"),
        (
            lambda folder: (folder / "checkpoint/round-00000002/server.npz").write_bytes(b"x"),
            "server.npz: is 1 b",
        ),
        (
            lambda folder: (folder / "checkpoint/round-00000002/manifest.json").unlink(),
            "manifest.json: No such",
        ),
    ],
)
def test_what_is_not_there_in_full_is_refused(
    damage: Callable[[Path], Any], message: str, finished: Make
) -> None:
    folder = finished()
    damage(folder)
    with pytest.raises(ConfigError, match=message) as caught:
        ticket_of(folder)
    assert str(caught.value).startswith("[pruning] ticket: ")
