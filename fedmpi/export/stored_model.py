"""The model that a file or a run folder names: one of fedmpi's own, or what the caller's factory makes.

Files come from anywhere. Whatever they name is data: only a caller names code that is imported and called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from fedmpi.config.schema import ModelConfig
from fedmpi.learning.models import MODELS, build

Factory = Callable[[tuple[int, ...], int], nn.Module]
"""``factory(input_shape, classes)`` makes a model, as ``model.name = "module:factory"`` says in a configuration."""

_LARGEST = 2**31 - 1


class ForeignModel(ValueError):
    """A file names a model that is none of fedmpi's own, and the caller gave no factory."""


def build_stored(
    model: ModelConfig, input_shape: tuple[int, ...], classes: int, seed: int, factory: Factory | None
) -> nn.Module:
    """The model of a file, for samples (C, H, W) and (n, classes) logits; with a ``factory``, what that makes.

    ForeignModel where there is none and the name is not built in, TypeError for a factory that makes no module.
    """
    if factory is not None:
        module = factory(input_shape, classes)
        if not isinstance(module, nn.Module):
            raise TypeError(f"the factory gave a {type(module).__name__}, expected a torch.nn.Module")
        return module
    if model.name not in MODELS:
        raise ForeignModel(
            f'its model "{model.name}" is code of one\'s own, which a file is not trusted to name'
        )
    return build(model, input_shape, classes, seed)


def positive_integers(values: Any, what: str) -> tuple[int, ...]:
    """A list of sizes that stands in a file, such as an input shape. ValueError for anything else."""
    if not isinstance(values, list) or not all(type(v) is int and 0 < v <= _LARGEST for v in values):
        raise ValueError(f"{what} is no list of integers from 1 to {_LARGEST}")
    return tuple(values)
