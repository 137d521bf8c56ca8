"""Whether a run trains its clients in batches."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedmpi.config import Config, ConfigError, loads
from fedmpi.experiment import batching
from fedmpi.experiment.batching import batch_trainer
from fedmpi.learning.batched import BatchTrainer
from fedmpi.learning.models import build_flat

SHAPE, CLASSES = (1, 2, 4), 3


def configuration(*overrides: str) -> Config:
    return loads('[model]\nname = "mlp"\nhidden = [5]\n', list(overrides))


def trainer_for(config: Config, sizes: Sequence[int] = (7, 4)) -> tuple[BatchTrainer | None, str]:
    return batch_trainer(config, build_flat(config.model, SHAPE, CLASSES, 0), SHAPE, CLASSES, np.array(sizes))


@pytest.mark.parametrize("asked", ["auto", "on"])
def test_a_small_network_is_trained_in_batches(asked: str) -> None:
    trainer, reason = trainer_for(configuration(f"training.batched={asked}"))
    assert trainer is not None
    assert reason == ""


def test_off_is_off() -> None:
    assert trainer_for(configuration("training.batched=off")) == (None, "training.batched is off")


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("model.name=cnn", r"clients of 2\.7 MiB, weights and activations, are not worth it"),
        ("model.name=conv4", "float buffers"),
        ("data.augmentation=flip_crop", "data.augmentation is flip_crop"),
        ("emulation.clock=realtime", "real time"),
        ("emulation.compute.model=measured", "host seconds of every client"),
    ],
)
def test_why_not_is_said_and_refused(override: str, reason: str) -> None:
    config = configuration(override)
    shape = (1, 28, 28)
    model = build_flat(config.model, shape, CLASSES, 0)
    trainer, found = batch_trainer(config, model, shape, CLASSES, np.array([4]))
    assert trainer is None
    with pytest.raises(ConfigError, match=rf"batched: found on, but .*({reason})"):
        batch_trainer(configuration(override, "training.batched=on"), model, shape, CLASSES, np.array([4]))
    assert found


def test_a_compute_model_of_ones_own_is_asked_whether_it_needs_host_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_times.py").write_text(
        "from fedmpi.emulation.compute import ComputeModel\n"
        "def model(measured: bool = False):\n"
        "    return ComputeModel(summary='', seconds=lambda s, t: t.steps, needs_host_time=measured)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    own = "emulation.compute.model=own_times:model"
    assert trainer_for(configuration(own))[0] is not None
    found, reason = trainer_for(configuration(own, "emulation.compute.options.measured=true"))
    assert found is None
    assert "host seconds of every client" in reason


def test_clients_with_masks_of_their_own_are_trained_one_by_one() -> None:
    overrides = ["pruning.method=feddst", "pruning.target_density=0.5"]
    trainer, reason = trainer_for(configuration(*overrides))
    assert trainer is None
    assert reason == 'clients of pruning.method "feddst" take masks of their own while they train'
    with pytest.raises(ConfigError, match=r"batched: found on, but clients of pruning\.method"):
        trainer_for(configuration(*overrides, "training.batched=on"))


def test_other_bits_than_alone_are_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "differing_samples", lambda *unused: 7)
    trainer, reason = trainer_for(configuration())
    assert trainer is None
    assert reason.startswith("with 7 samples of a client this processor gives other bits")
