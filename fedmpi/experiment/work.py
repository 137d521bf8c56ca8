"""The floating-point work of a model, counted while it runs on a batch.

Convolutions and linear layers by their shapes, batch norm by its values, in forward hooks; everything else that torch
can count (attention, matrix products in a model's own code) by ``torch.utils.flop_counter``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd
from torch.utils.flop_counter import FlopCounterMode

from fedmpi.emulation.compute import Work
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import training_alone

Shape = Sequence[int]

_PER_MULTIPLY_ADD = 2
_PER_NORMALISED_VALUE = 4
"""Of batch norm: mean and variance, then scale and shift."""


def count_work(model: FlatModel, input_shape: tuple[int, ...], batch: int) -> Work:
    """The ``Work`` of a sample, from a forward pass in training mode of ``batch`` samples; ``model`` stays as it was.

    The work of a prunable weight whose module is not called but read by another one (the output projection of
    ``nn.MultiheadAttention``) is part of ``other_flops``: it is not saved by pruning.
    """
    layer_flops: dict[str, int] = {}
    norm_flops: list[int] = []
    values: list[int] = []
    total = 0

    def hook(name: str) -> Callable[..., None]:
        def count(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            written = _values(output)
            values.append(sum(map(_values, inputs)) + written)
            if isinstance(module, nn.Linear | _ConvNd):
                weight = f"{name}.weight" if name else "weight"
                flops = _PER_MULTIPLY_ADD * _multiply_adds(module, inputs[0], output)
                layer_flops[weight] = layer_flops.get(weight, 0) + flops
            elif isinstance(module, _BatchNorm):
                norm_flops.append(_PER_NORMALISED_VALUE * written)

        return count

    buffers = model.buffers.clone()
    hooked = [
        (module, hook(name))
        for name, module in model.module.named_modules()
        if not any(module.children()) or isinstance(module, nn.MultiheadAttention)
    ]
    handles = []
    try:
        x = torch.rand(
            (batch, *input_shape), generator=torch.Generator().manual_seed(0), device=torch.device("cpu")
        ).to(model.vector.device)
        with training_alone(model, 0):  # which puts hooks back, too, as they were
            handles += [module.register_forward_hook(hook) for module, hook in hooked]
            if _hooks_see_all(model):
                model.module(x)
                total = sum(layer_flops.values())
            else:
                total = _total_flops(model.module, x)
    finally:
        for handle in handles:
            handle.remove()
        model.put_back()
        model.buffers.copy_(buffers)
    prunable = [layer for layer in model.layers if layer.prunable]
    of_layers = [layer_flops.get(layer.name, 0) for layer in prunable]
    others = max(0, total - sum(of_layers)) + sum(norm_flops)
    return Work(
        layer_flops=tuple(flops / batch for flops in of_layers),
        layer_sizes=tuple(layer.stop - layer.start for layer in prunable),
        other_flops=others / batch,
        values=sum(values) / batch,
        parameters=model.parameter_count,
    )


def _hooks_see_all(model: FlatModel) -> bool:
    """Whether all products of a forward pass are those of layers with hooks; torch's counter takes seconds to import.

    In code that is known, others are only in modules that have parameters of another kind, as attention has, and in
    leaves that are not torch's.
    """
    return model.known and all(
        isinstance(module, nn.Linear | _ConvNd | _BatchNorm)
        if list(module.parameters(recurse=False))
        else any(module.children()) or type(module).__module__.startswith("torch.nn.")
        for module in model.module.modules()
    )


def _total_flops(module: nn.Module, x: Tensor) -> int:
    """What torch counts in a forward pass; of attention only the plain matrix products have formulas on CPUs."""
    not_in_torch = {
        torch.ops.aten.mkldnn_rnn_layer: _flops_of_a_layer_on_cpus,
        torch.ops.aten._cudnn_rnn: _flops_of_layers_on_gpus,
        torch.ops.aten._trilinear: _flops_of_bilinear_forms,
    }
    counter = FlopCounterMode(display=False, custom_mapping=not_in_torch)
    with sdpa_kernel(SDPBackend.MATH), counter:
        module(x)
    total: int = counter.get_total_flops()
    return total


def _flops_of_a_layer_on_cpus(x: Shape, of_inputs: Shape, of_states: Shape, *_: Any, **__: Any) -> int:
    """One direction of a layer of an LSTM, whose gates are products with both weights at every step."""
    return _PER_MULTIPLY_ADD * prod(x[:2]) * (prod(of_inputs) + prod(of_states))


def _flops_of_layers_on_gpus(x: Shape, weights: Sequence[Shape], *_: Any, **__: Any) -> int:
    """All layers and directions at once, their biases among the ``weights``."""
    return _PER_MULTIPLY_ADD * prod(x[:2]) * sum(prod(shape) for shape in weights if len(shape) == 2)


def _flops_of_bilinear_forms(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """``nn.Bilinear`` of a batch: every entry of the weight counts once for each row."""
    return _PER_MULTIPLY_ADD * x[0] * prod(weight)


def _multiply_adds(module: nn.Linear | _ConvNd, x: Tensor, output: Tensor) -> int:
    """Every output value is a product with one row of the weight; of a transposed convolution, every input value."""
    weight = module.weight
    along = x if isinstance(module, _ConvNd) and module.transposed else output
    return along.numel() // weight.shape[0] * weight.numel()


def _values(value: object) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    return sum(map(_values, value)) if isinstance(value, tuple | list) else 0
