"""Which models can be trained in batches, and what their layers are there (see ``batched``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from torch import Tensor, nn

from fedmpi.learning.batched_layers import (
    AveragePool,
    Convolution,
    Flatten,
    Layer,
    Linear,
    MaxPool,
    Normalisation,
    Relu,
)
from fedmpi.learning.batched_values import Room, Tensors
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models.local_response import LocalResponseNorm
from fedmpi.learning.models.memory_format import ChannelsLast
from fedmpi.learning.summed_linear import LARGE

_OF_IMAGES = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, LocalResponseNorm)
_WEIGHTED = (nn.Linear, nn.Conv2d)


def why_not(model: FlatModel) -> str | None:
    """Why ``model`` cannot be trained in batches, as the end of a sentence; None where it can."""
    if model.vector.device.type != "cpu":
        return f"the model lies on {model.vector.device}"
    if not model.known:
        return "code of others runs in the model"
    if type(model.module) is not nn.Sequential:
        return f"the model is {type(model.module).__name__}, not layers one after the other"
    if model.buffer_count:
        return "the model has float buffers"
    layers = list(_in_order(model.module))
    return next(filter(None, map(_unknown, layers)), None) or _misplaced(layers)


def has_convolutions(model: FlatModel) -> bool:
    """Whether a layer of ``model`` is ``nn.Conv2d``."""
    return any(isinstance(layer, nn.Conv2d) for layer in model.module.modules())


def _in_order(module: nn.Sequential) -> Iterator[nn.Module]:
    for child in module.children():
        if type(child) is nn.Sequential:
            yield from _in_order(child)
        else:
            yield child


def _unknown(layer: nn.Module) -> str | None:
    """What a layer has that ``batched_layers`` does not know."""
    kind = type(layer)
    if not all(parameter.requires_grad for parameter in layer.parameters()):
        return "parameters are frozen"
    if isinstance(layer, nn.Linear) and kind is nn.Linear:
        if layer.weight.numel() >= LARGE:
            return f"a layer has {layer.weight.numel()} weights, at most {LARGE - 1} are worth it"
        if 1 in layer.weight.shape:  # such a matrix looks like its transpose, and torch takes either product
            return "a layer has one input or one output"
        return None
    known = (
        kind in (nn.ReLU, nn.AvgPool2d, ChannelsLast)
        or (kind is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str))
        or (isinstance(layer, LocalResponseNorm) and kind is LocalResponseNorm and layer.beta == 0.75)
        or (kind is nn.MaxPool2d and not layer.return_indices)
        or (kind is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1))
    )
    return None if known else f"the model has a layer {layer}"


def _misplaced(layers: Sequence[nn.Module]) -> str | None:
    """What is wrong with the order: images, then flat samples, and linear layers at the end."""
    flat = weighted = linear = False
    for position, layer in enumerate(layers):
        kind = type(layer)
        if kind is nn.Flatten:
            flat = True
        elif kind is ChannelsLast:
            if position or type(layers[1]) is not nn.Conv2d:
                return "the order in memory changes elsewhere than before a first convolution"
        elif kind in _OF_IMAGES and flat:
            return f"a layer {kind.__name__} comes after the samples are flat"
        elif kind is nn.Linear and not flat:
            return "a linear layer comes before the samples are flat"
        elif kind not in _WEIGHTED and not weighted:
            return f"a layer {kind.__name__} comes before the first with weights"
        weighted = weighted or kind in _WEIGHTED
        linear = linear or kind is nn.Linear
    return None if linear else "the model does not end with linear layers"


class Network:
    """The layers of a model for which ``why_not`` is None, from the first with weights on.

    They are for ``samples`` samples of each of up to ``clients`` clients. ``of_logits``: room for the gradient of what
    the last one gives.
    """

    def __init__(self, model: FlatModel, clients: int, samples: int) -> None:
        assert isinstance(model.module, nn.Sequential)
        self.samples = samples
        self.layers: list[Layer] = []
        positions = {id(parameter): position for position, parameter in enumerate(model.parameters)}
        flat, classes = False, 0
        for child in _in_order(model.module):
            first = not self.layers
            if isinstance(child, nn.Linear | nn.Conv2d):
                weight = positions[id(child.weight)]
                bias = None if child.bias is None else positions[id(child.bias)]
                if isinstance(child, nn.Linear):
                    self.layers.append(Linear(child, weight, bias, first, clients, samples))
                    classes = child.out_features
                else:
                    self.layers.append(Convolution(child, weight, bias, first))
            elif isinstance(child, nn.ReLU):
                self.layers.append(Relu())
            elif isinstance(child, nn.MaxPool2d):
                self.layers.append(MaxPool(child))
            elif isinstance(child, nn.AvgPool2d):
                self.layers.append(AveragePool(child))
            elif isinstance(child, LocalResponseNorm):
                self.layers.append(Normalisation(child))
            elif isinstance(child, nn.Flatten) and not flat:
                flat = True
                if not first:
                    self.layers.append(Flatten(clients, samples))
        self.of_logits = Room(clients, samples, classes)


def entrance(model: FlatModel) -> Callable[[Tensor], Tensors]:
    """What makes of samples (clients, n, C, H, W) the input of the first layer with weights, of every client.

    Every client's samples lie without gaps; they begin in their cache line where they do when it trains alone.
    """
    assert isinstance(model.module, nn.Sequential)
    first = next(_in_order(model.module))
    if isinstance(first, nn.Flatten):
        return _flat
    return _channels_last if isinstance(first, ChannelsLast) else _as_they_are


def _flat(samples: Tensor) -> Tensors:
    return samples.flatten(2).unbind(0)


def _as_they_are(samples: Tensor) -> Tensors:
    return samples.unbind(0)


def _channels_last(samples: Tensor) -> Tensors:
    channels, height, width = samples.shape[2:]
    if channels > 1:
        return [ChannelsLast.forward(_CHANNELS_LAST, own) for own in samples.unbind(0)]
    strides = (samples.stride(0), height * width, 1, width, 1)
    return samples.as_strided(samples.shape, strides, samples.storage_offset()).unbind(0)


_CHANNELS_LAST = ChannelsLast()
