"""Models by name, with reproducible initial weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import nn

from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.schema import ModelConfig
from fedmpi.learning.failures import ANY_FAILURE, described
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models.cnn import cnn
from fedmpi.learning.models.conv2 import conv2
from fedmpi.learning.models.conv4 import conv4
from fedmpi.learning.models.mlp import mlp
from fedmpi.learning.models.resnet18 import resnet18
from fedmpi.learning.models.size import refuse_oversized
from fedmpi.learning.models.vgg11 import vgg11
from fedmpi.learning.seeding import seeded
from fedmpi.numerics.streams import Purpose, torch_seed

__all__ = ["MODELS", "build", "build_flat", "is_users"]

Shape = tuple[int, ...]

MODELS: dict[str, Callable[[ModelConfig, Shape, int], nn.Module]] = {
    "mlp": lambda config, shape, classes: mlp(shape, classes, config.hidden),
    "logistic": lambda _, shape, classes: mlp(shape, classes, ()),
    "cnn": lambda _, shape, classes: cnn(shape, classes),
    "conv2": lambda _, shape, classes: conv2(shape, classes),
    "conv4": lambda _, shape, classes: conv4(shape, classes),
    "vgg11": lambda _, shape, classes: vgg11(shape, classes),
    "resnet18": lambda _, shape, classes: resnet18(shape, classes),
}


def is_users(name: str) -> bool:
    """Whether a model's name is that of a user's factory, ``module:factory``."""
    return ":" in name


def build(config: ModelConfig, input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A model for samples (C, H, W) with (n, classes) logits, on the CPU, in training mode.

    ``config.name`` is one of ``MODELS``, or ``module:factory``, which is imported and called as
    ``factory(input_shape, classes)``. Initial weights depend on ``seed`` alone; the global generators of torch, NumPy
    and Python are put back afterwards. ConfigError for a name that cannot be built, whatever the factory raises.
    """
    if config.name in MODELS:
        refuse_oversized(config.name, lambda: MODELS[config.name](config, input_shape, classes))
    with seeded(torch_seed(seed, Purpose.INITIAL_WEIGHTS)):
        if is_users(config.name):
            return _built_by_user(config.name, input_shape, classes)
        if config.name not in MODELS:
            allowed = f"{', '.join(MODELS)}, or module:factory"
            raise ConfigError("model.name", f"there is no model {config.name!r}", allowed)
        try:
            return MODELS[config.name](config, input_shape, classes)
        except (
            RuntimeError,
            MemoryError,
            TypeError,
            OverflowError,
        ) as error:  # sizes beyond memory or torch's integers
            key, problem = ("model.hidden", "") if config.name == "mlp" else ("model.name", f"{config.name} ")
            raise ConfigError(
                key, f"{problem}cannot be built: {described(error)}", "a smaller model"
            ) from error


def build_flat(config: ModelConfig, input_shape: Shape, classes: int, seed: int) -> FlatModel:
    """The model of ``build`` with its flat vector; ConfigError also for what has no place in one."""
    module = build(config, input_shape, classes, seed)
    try:
        return FlatModel(module)
    except (ValueError, RuntimeError, MemoryError) as error:
        problem = str(error) if type(error) is ValueError else described(error)
        raise ConfigError("model.name", f"{shown_value(config.name)}: {problem}") from error


def _built_by_user(name: str, input_shape: Shape, classes: int) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        problem = f"{name!r} cannot be imported ({error})"
        raise ConfigError("model.name", problem, "a module on Python's path (PYTHONPATH)") from error
    except ValueError as error:
        raise ConfigError("model.name", f"{name!r} names no module", "module:factory") from error
    except ANY_FAILURE as error:
        raise ConfigError("model.name", f"{name!r} cannot be imported: {described(error)}") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ConfigError("model.name", f"{module_name} has no function {factory_name!r}", "module:factory")
    try:
        model = factory(input_shape, classes)
    except ConfigError:
        raise
    except ANY_FAILURE as error:
        problem = f"{name!r} cannot be called as factory(input_shape, classes): {described(error)}"
        raise ConfigError("model.name", problem, "a factory of torch.nn.Module") from error
    if not isinstance(model, nn.Module):
        problem = f"{name!r} gave a {type(model).__name__}"
        raise ConfigError("model.name", problem, "a factory of torch.nn.Module")
    return model
