"""The model of a run folder: what its latest good checkpoint holds, without MPI and without the data."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from fedmpi.checkpoint import Checkpoint, CheckpointError, latest_good
from fedmpi.checkpoint.contents import MODEL, checked_weights, stored_mask
from fedmpi.checkpoint.layout import Layout, read_layout
from fedmpi.checkpoint.store import FOLDER
from fedmpi.config import Config, ConfigError, load
from fedmpi.export.stored_model import Factory, ForeignModel, build_stored, positive_integers
from fedmpi.learning.flat import FlatModel, Layer
from fedmpi.pruning.mask import Mask


@dataclass(frozen=True)
class TrainedModel:
    """The global model of a run after ``rounds`` rounds, and which of its parameters are active.

    ``vector`` float32 (D + B,) holds the parameters of ``layers`` and the float buffers; ``state`` is the model's
    ``state_dict``, as far as it is known without the model's code.
    ``problems``: why newer checkpoints were passed over, and what of the state is not known, a line each.
    """

    config: Config
    layers: tuple[Layer, ...]
    vector: Tensor
    state: dict[str, Tensor]
    mask: Mask
    input_shape: tuple[int, ...]
    classes: int
    rounds: int
    problems: tuple[str, ...] = ()


def read_run(folder: Path, factory: Factory | None = None) -> TrainedModel:
    """The model of the run in ``folder``, which may be finished, stopped or still running.

    The folder is data: code that it names is never run. Of a model that is none of fedmpi's own, the checkpoint knows
    the tensors of the vector; with ``factory(input_shape, classes)``, which makes the module, the others are known too.
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
    try:
        input_shape = positive_integers(checkpoint.values[MODEL]["input_shape"], "input_shape")
        (classes,) = positive_integers([checkpoint.values[MODEL]["classes"]], "classes")
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{checkpoint.path}: does not say the shape of the data ({error})") from error
    arrays = checkpoint.server()
    try:
        module = build_stored(config.model, input_shape, classes, config.experiment.seed, factory)
    except ForeignModel as error:
        if "layout" not in checkpoint.values[MODEL]:
            allowed = "a run of a model of fedmpi's own, or --factory MODULE:ATTRIBUTE (factory= in Python)"
            raise ConfigError("RUN", f"{folder}: {error}", allowed) from error
        layout = read_layout(checkpoint.path, checkpoint.values[MODEL]["layout"])
        return _without_code(config, checkpoint, layout, arrays, input_shape, classes, problems)
    model = FlatModel(module)
    weights, mask = _weights(checkpoint, arrays, model.parameter_count, model.vector.numel())
    model.load(torch.from_numpy(weights))
    state, rounds = module.state_dict(), checkpoint.round_index
    return TrainedModel(
        config, model.layers, model.vector, state, mask, input_shape, classes, rounds, tuple(problems)
    )


def _without_code(
    config: Config,
    checkpoint: Checkpoint,
    layout: Layout,
    arrays: dict[str, np.ndarray],
    input_shape: tuple[int, ...],
    classes: int,
    problems: list[str],
) -> TrainedModel:
    """The model of a user's, of which the checkpoint knows the layout: nothing of its code is needed."""
    parameters = layout.layers[-1].stop if layout.layers else 0
    weights, mask = _weights(checkpoint, arrays, parameters, layout.length)
    state = {name: torch.from_numpy(tensor) for name, tensor in layout.tensors(weights).items()}
    if layout.others:
        left_out = f"{', '.join(layout.others)}: as the model is built, and not in the file"
        problems = [*problems, f"{left_out}; --factory MODULE:ATTRIBUTE builds it"]
    return TrainedModel(
        config,
        layout.layers,
        torch.from_numpy(weights),
        state,
        mask,
        input_shape,
        classes,
        checkpoint.round_index,
        tuple(problems),
    )


def _weights(
    checkpoint: Checkpoint, arrays: dict[str, np.ndarray], parameters: int, length: int
) -> tuple[np.ndarray, Mask]:
    """The vector of a model with so many parameters and entries, zero where pruned, and the mask."""
    weights = checked_weights(checkpoint.path, arrays, length)
    mask = stored_mask(checkpoint.path, arrays, parameters) or Mask(parameters)
    mask.apply(weights[:parameters])
    return weights, mask
