"""The model of a run folder: what its latest good checkpoint holds, without MPI and without the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fedmpi.checkpoint import CheckpointError, latest_good
from fedmpi.checkpoint.contents import MODEL, WEIGHTS
from fedmpi.checkpoint.store import FOLDER
from fedmpi.config import Config, ConfigError, load
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build_flat
from fedmpi.pruning.interface import MASK
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class TrainedModel:
    """The global model of a run after ``rounds`` rounds, and which of its parameters are active.

    ``problems``: why newer checkpoints were passed over, a line each.
    """

    config: Config
    model: FlatModel
    mask: Mask
    input_shape: tuple[int, ...]
    classes: int
    rounds: int
    problems: tuple[str, ...] = ()


def read_run(folder: Path) -> TrainedModel:
    """The model of the run in ``folder``, which may be finished, stopped or still running.

    Raises ConfigError where there is no run or no checkpoint, CheckpointError where none is intact.
    """
    if not (folder / "config.toml").is_file():
        found = "holds no config.toml" if folder.is_dir() else "is no folder"
        raise ConfigError("RUN", f"{folder} {found}", "the folder of a run, as fedmpi run --output made it")
    config = load(folder / "config.toml")
    checkpoint, problems = latest_good(folder / FOLDER)
    if checkpoint is None and problems:
        raise CheckpointError("; ".join(problems))
    if checkpoint is None:
        raise ConfigError(
            "RUN",
            f"{folder} holds no checkpoint",
            "a run that has ended, or one with experiment.checkpoint_every",
        )
    if MODEL not in checkpoint.values:
        raise CheckpointError(f"{checkpoint.path}: does not tell the shape of the data")
    input_shape, classes = tuple(checkpoint.values[MODEL]["input_shape"]), checkpoint.values[MODEL]["classes"]
    arrays = checkpoint.server()
    model = build_flat(config.model, input_shape, classes, config.experiment.seed)
    weights = arrays[WEIGHTS]
    if len(weights) != model.vector.numel():
        raise CheckpointError(
            f"{checkpoint.path}: holds {len(weights)} weights, {config.model.name} has {model.vector.numel()}"
        )
    count = model.parameter_count
    mask = Mask.from_bits(arrays[MASK], count) if MASK in arrays else Mask(count)
    mask.apply(weights[:count])
    model.load(torch.from_numpy(weights))
    return TrainedModel(config, model, mask, input_shape, classes, checkpoint.round_index, tuple(problems))
