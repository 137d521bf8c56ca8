"""Whether a run trains its clients in batches (``training.batched``), and why not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import Config, ConfigError, parts
from fedmpi.emulation.compute import ComputeModel
from fedmpi.learning.activations import activations
from fedmpi.learning.batched import FEWEST_CLIENTS, BatchTrainer, most_clients
from fedmpi.learning.batched_models import has_convolutions, why_not
from fedmpi.learning.batched_trial import differing_samples
from fedmpi.learning.flat import FlatModel
from fedmpi.pruning import Method


def batch_trainer(
    config: Config, model: FlatModel, input_shape: tuple[int, ...], classes: int, sizes: NDArray[np.int64]
) -> tuple[BatchTrainer | None, str]:
    """What trains many clients of ``sizes`` samples at once, or None with the reason, as the end of a sentence.

    ConfigError where ``training.batched`` is "on" and it cannot be.
    """
    asked = config.training.batched
    if asked == "off":
        return None, "training.batched is off"
    reason, kept = _against(config) or why_not(model), 0.0
    if reason is None:
        kept = _kept_bytes(model, input_shape, min(config.training.batch_size, int(sizes.max())))
        most = most_clients(model, kept)
        if kept and most < FEWEST_CLIENTS:
            size = (kept + 4 * model.parameter_count) / 2**20
            reason = f"clients of {size:.1f} MiB, weights and activations, are not worth it"
    trainer = None
    if reason is None:
        trainer = BatchTrainer(model, config.training.loss, kept)
        few = set(np.quantile(sizes, [0.0, 0.5, 1.0], method="nearest").tolist())
        differing = differing_samples(trainer, config.training, input_shape, classes, few)
        if differing is not None:
            trainer = None
            reason = (
                f"with {differing} samples of a client this processor gives other bits in a batch than alone"
            )
    if reason is not None and asked == "on":
        raise ConfigError("training.batched", f"found on, but {reason}", "auto or off")
    return trainer, reason or ""


def _kept_bytes(model: FlatModel, input_shape: tuple[int, ...], batch: int) -> float:
    """What the layers of a convolutional model keep of one batch of samples for the backward pass; 0 of others."""
    return batch * activations(model, input_shape, 1).kept if has_convolutions(model) else 0.0


def _against(config: Config) -> str | None:
    emulation, pruning = config.emulation, config.pruning
    if parts.build("pruning.method", pruning.method, pruning.options, Method).own_mask is not None:
        return f'clients of pruning.method "{pruning.method}" take masks of their own while they train'
    if config.data.augmentation != "none":
        return f"data.augmentation is {config.data.augmentation}"
    if emulation.clock != "virtual":
        return "the clock is real time, in which every client's training has an end of its own"
    compute = emulation.compute
    if parts.build("emulation.compute.model", compute.model, compute.options, ComputeModel).needs_host_time:
        return "the compute model takes the host seconds of every client"
    return None
