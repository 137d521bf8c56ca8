"""The layout of a model's vector in a checkpoint: which entries are which tensor, readable without the model's code."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.checkpoint.files import CheckpointError
from fedmpi.learning.flat import FlatModel, Layer

_MOST_ENTRIES = 2**31 - 1


@dataclass(frozen=True)
class Layout:
    """``layers``: the parameters; ``buffers``: name and shape of each float buffer, which follow them in the vector.

    ``others``: tensors of the model's state that are in no vector and stay as the model is built: integer buffers and
    parameters that are not trained.
    """

    layers: tuple[Layer, ...]
    buffers: tuple[tuple[str, tuple[int, ...]], ...]
    others: tuple[str, ...]

    @property
    def length(self) -> int:
        """The entries of the vector."""
        end = self.layers[-1].stop if self.layers else 0
        return end + sum(prod(shape) for _, shape in self.buffers)

    def tensors(self, vector: np.ndarray) -> dict[str, np.ndarray]:
        """Views of a vector (length,) by the names of the tensors."""
        found = {layer.name: vector[layer.start : layer.stop].reshape(layer.shape) for layer in self.layers}
        start = self.layers[-1].stop if self.layers else 0
        for name, shape in self.buffers:
            found[name] = vector[start : start + prod(shape)].reshape(shape)
            start += prod(shape)
        return found


def layout_of(model: FlatModel) -> dict[str, Any]:
    """The layout of a model as JSON."""
    known = {*(layer.name for layer in model.layers), *(name for name, _ in model.buffer_shapes)}
    return {
        "parameters": [[layer.name, list(layer.shape), layer.prunable] for layer in model.layers],
        "buffers": [[name, list(shape)] for name, shape in model.buffer_shapes],
        "others": [name for name in model.module.state_dict() if name not in known],
    }


def read_layout(path: Path, value: Any) -> Layout:
    """The inverse of ``layout_of`` for the checkpoint at ``path``. CheckpointError for anything else."""
    try:
        layers, start = [], 0
        for name, shape, prunable in value["parameters"]:
            size = _size(shape)
            layers.append(Layer(_name(name), start, start + size, tuple(shape), bool(prunable)))
            start += size
        buffers = tuple((_name(name), tuple(shape)) for name, shape in value["buffers"] if _size(shape) >= 0)
        layout = Layout(tuple(layers), buffers, tuple(_name(name) for name in value["others"]))
    except (LookupError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: the layout of its model cannot be read ({error})") from error
    names = [layer.name for layer in layout.layers] + [name for name, _ in layout.buffers]
    if len(set(names)) != len(names) or layout.length > _MOST_ENTRIES:
        raise CheckpointError(f"{path}: the layout of its model has names twice, or too many entries")
    return layout


def _size(shape: Any) -> int:
    if not isinstance(shape, list) or not all(type(n) is int and 0 <= n <= _MOST_ENTRIES for n in shape):
        raise ValueError(f"{shape!r} is no shape")
    return prod(shape)


def _name(text: Any) -> str:
    if not isinstance(text, str) or not text:
        raise ValueError(f"{text!r} is no name")
    return text
