"""The model of a run folder: what its latest good checkpoint holds, without MPI and without the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fedmpi.checkpoint import CheckpointError, latest_good
from fedmpi.checkpoint.contents import MODEL, checked_weights, stored_mask
from fedmpi.checkpoint.store import FOLDER
from fedmpi.config import Config, ConfigError, load
from fedmpi.export.stored_model import Factory, ForeignModel, build_stored, positive_integers
from fedmpi.learning.flat import FlatModel
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


def read_run(folder: Path, factory: Factory | None = None) -> TrainedModel:
    """The model of the run in ``folder``, which may be finished, stopped or still running.

    The folder is data: of a model that is none of fedmpi's own, ``factory(input_shape, classes)`` makes the module.
    Raises ConfigError where there is no run, no checkpoint or no factory, CheckpointError where none is intact.
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
    try:
        input_shape = positive_integers(checkpoint.values[MODEL]["input_shape"], "input_shape")
        (classes,) = positive_integers([checkpoint.values[MODEL]["classes"]], "classes")
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not say the shape of the data ({error})") from error
    arrays = checkpoint.server()
    try:
        module = build_stored(config.model, input_shape, classes, config.experiment.seed, factory)
    except ForeignModel as error:
        allowed = "a run of a model of fedmpi's own, or --factory MODULE:ATTRIBUTE (factory= in Python)"
        raise ConfigError("RUN", f"{folder}: {error}", allowed) from error
    model = FlatModel(module)
    weights = checked_weights(checkpoint.path, arrays, model.vector.numel())
    count = model.parameter_count
    mask = stored_mask(checkpoint.path, arrays, count) or Mask(count)
    mask.apply(weights[:count])
    model.load(torch.from_numpy(weights))
    return TrainedModel(config, model, mask, input_shape, classes, checkpoint.round_index, tuple(problems))
