"""Models by name, with reproducible initial weights."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from torch import nn

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import ModelConfig
from fedmpi.learning.models.cnn import cnn
from fedmpi.learning.models.conv2 import conv2
from fedmpi.learning.models.conv4 import conv4
from fedmpi.learning.models.mlp import mlp
from fedmpi.learning.models.resnet18 import resnet18
from fedmpi.learning.models.size import refuse_oversized
from fedmpi.learning.models.vgg11 import vgg11
from fedmpi.learning.seeding import seeded
from fedmpi.numerics.streams import Purpose, torch_seed

__all__ = ["MODELS", "build"]

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


def build(config: ModelConfig, input_shape: Shape, classes: int, seed: int) -> nn.Module:
    """A model for samples (C, H, W) with (n, classes) logits, on the CPU, in training mode.

    ``config.name`` is one of ``MODELS``, or ``module:factory``, which is imported and called as
    ``factory(input_shape, classes)``. Initial weights hang on ``seed`` alone; torch's generator is put back
    afterwards. ConfigError for a name that cannot be built, and for a model of ``MODELS`` that is too large.
    """
    if config.name in MODELS:
        refuse_oversized(config.name, lambda: MODELS[config.name](config, input_shape, classes))
    with seeded(torch_seed(seed, Purpose.INITIAL_WEIGHTS)):
        if ":" in config.name:
            return _built_by_user(config.name, input_shape, classes)
        if config.name not in MODELS:
            allowed = f"{', '.join(MODELS)}, or module:factory"
            raise ConfigError("model.name", f"there is no model {config.name!r}", allowed)
        return MODELS[config.name](config, input_shape, classes)


def _built_by_user(name: str, input_shape: Shape, classes: int) -> nn.Module:
    module_name, _, factory_name = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        problem = f"{name!r} cannot be imported ({error})"
        raise ConfigError("model.name", problem, "a module on Python's path (PYTHONPATH)") from error
    except ValueError as error:
        raise ConfigError("model.name", f"{name!r} names no module", "module:factory") from error
    factory = getattr(module, factory_name, None)
    if not callable(factory):
        raise ConfigError("model.name", f"{module_name} has no function {factory_name!r}", "module:factory")
    model = factory(input_shape, classes)
    if not isinstance(model, nn.Module):
        problem = f"{name!r} gave a {type(model).__name__}"
        raise ConfigError("model.name", problem, "a factory of torch.nn.Module")
    return model
