"""What the server's arrays in a checkpoint are called that others than their writers read, and what describes them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedmpi.checkpoint.files import CheckpointError
from fedmpi.pruning.interface import MASK
from fedmpi.pruning.mask import Mask

WEIGHTS = "weights"
"""The global weights and float buffers of the model, float32 (D + B,)."""
MODEL = "model"
"""In the values: ``input_shape`` and ``classes`` of the data, from which the model is built, and its ``layout``."""
DEVICES = "devices"
"""In the values: the digest of the fleet (``Fleet.digest``), which must not change under a run."""


def checked_weights(path: Path, arrays: Mapping[str, np.ndarray], count: int) -> np.ndarray:
    """The ``count`` weights among the server's arrays of the checkpoint at ``path``. CheckpointError for others."""
    weights = arrays.get(WEIGHTS)
    if weights is None or weights.dtype != np.float32 or weights.shape != (count,):
        found = "no weights" if weights is None else f"{weights.dtype} weights of shape {weights.shape}"
        raise CheckpointError(f"{path}: holds {found}, the model has {count} in float32")
    return weights


def stored_mask(path: Path, arrays: Mapping[str, np.ndarray], parameters: int) -> Mask | None:
    """The mask among the server's arrays, None where nothing was pruned. CheckpointError for one of another model."""
    if MASK not in arrays:
        return None
    try:
        return Mask.from_bits(arrays[MASK], parameters)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: holds no mask of {parameters} parameters ({error})") from error
