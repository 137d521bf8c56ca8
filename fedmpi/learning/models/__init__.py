"""Models by name, with reproducible initial weights."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from fedmpi.config import parts
from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.failures import ANY_FAILURE, described
from fedmpi.config.schema import ModelConfig
from fedmpi.learning.catalogue import MODELS
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models.size import refuse_oversized
from fedmpi.learning.seeding import seeded
from fedmpi.numerics.streams import Purpose, torch_seed

__all__ = ["MODELS", "build", "build_flat", "is_users"]

Shape = tuple[int, ...]

_TOO_LARGE = (RuntimeError, MemoryError, TypeError, OverflowError)
"""What sizes beyond memory, or beyond torch's integers, raise."""


def is_users(name: str) -> bool:
    """Whether a model's name is that of a user's factory, ``module:attribute``."""
    return name not in MODELS


def build(config: ModelConfig, input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A model for samples (C, H, W) with (n, classes) logits, on the CPU, in training mode.

    ``config.name`` is one of ``MODELS``, or ``module:attribute``, which is imported and called with the shape, the
    classes and the options. Initial weights depend on ``seed`` alone; the global generators of torch, NumPy and Python
    are put back afterwards. ConfigError for a name that cannot be built, whatever the factory raises.
    """
    with seeded(torch_seed(seed, Purpose.INITIAL_WEIGHTS)):
        make = parts.function("model.name", config.name, config.options, parts.settings_of(config))
        if is_users(config.name):
            return _built_by_user(config.name, make, input_shape, classes)
        refuse_oversized(config.name, lambda: make(input_shape, classes))
    with seeded(torch_seed(seed, Purpose.INITIAL_WEIGHTS)):
        try:
            module: nn.Module = make(input_shape, classes)
        except _TOO_LARGE as error:
            key, problem = ("model.hidden", "") if config.name == "mlp" else ("model.name", f"{config.name} ")
            raise ConfigError(
                key, f"{problem}cannot be built: {described(error)}", "a smaller model"
            ) from error
        return module


def build_flat(config: ModelConfig, input_shape: Shape, classes: int, seed: int) -> FlatModel:
    """The model of ``build`` with its flat vector; ConfigError also for what has no place in one."""
    module = build(config, input_shape, classes, seed)
    try:
        return FlatModel(module)
    except (ValueError, RuntimeError, MemoryError) as error:
        problem = str(error) if type(error) is ValueError else described(error)
        raise ConfigError("model.name", f"{shown_value(config.name)}: {problem}") from error


def _built_by_user(name: str, make: Callable[..., object], input_shape: Shape, classes: int) -> nn.Module:
    try:
        model = make(input_shape, classes)
    except ConfigError:
        raise
    except ANY_FAILURE as error:
        problem = f"{name!r} cannot be called as factory(input_shape, classes): {described(error)}"
        raise ConfigError("model.name", problem, "a factory of torch.nn.Module") from error
    if not isinstance(model, nn.Module):
        problem = f"{name!r} gave a {type(model).__name__}"
        raise ConfigError("model.name", problem, "a factory of torch.nn.Module")
    return model
