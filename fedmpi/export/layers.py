"""Layers whose weights are sparse: what is pruned is neither stored nor computed, in inference and in training.

``values`` (active,) are their trainable weights, ``pattern`` says where these lie in the matrix. They work on
the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmpi.export.csr import Pattern, multiply
from fedmpi.learning.failures import ANY_FAILURE
from fedmpi.learning.known_code import is_known
from fedmpi.learning.own_state import OwnState
from fedmpi.learning.seeding import seeded

KERNELS = ("auto", "sparse", "dense")

_AGREEMENT = 1e-4
"""Outputs with sparse and dense layers agree when they differ by at most this part of the largest."""

_LINEAR_CROSSOVER = 0.25
_CONVOLUTION_CROSSOVER = 0.03
"""Densities below which ``auto`` takes sparse products (benchmarks/inference.py measures where they win)."""


class SparseLinear(nn.Module):
    """``nn.Linear`` with its (out, in) weight matrix in CSR form.

    Its outputs lie transposed in memory, as they were computed, or with ``contiguous`` as those of ``nn.Linear``.
    """

    def __init__(self, layer: nn.Linear, pattern: Pattern, values: Tensor, contiguous: bool = False) -> None:
        super().__init__()
        self.pattern = pattern
        self.values = nn.Parameter(values)
        self.bias = layer.bias
        self.contiguous = contiguous

    def forward(self, x: Tensor) -> Tensor:
        """(..., in) -> (..., out)."""
        columns = x.reshape(-1, x.shape[-1]).t()
        y = multiply(self.pattern, self.values, columns).t()
        y = y.contiguous() if self.contiguous else y
        return (y if self.bias is None else y + self.bias).view(*x.shape[:-1], -1)


class SparseConv2d(nn.Module):
    """``nn.Conv2d`` with its weight as an (out, in * kernel height * kernel width) matrix in CSR form.

    It multiplies the patches of the images, pixels in rows and images lying together (as convolutions were
    first lowered to matrix products: Chellapilla, Puri, Simard, 2006). Outputs lie with channels last, or with
    ``contiguous`` channels first.
    """

    def __init__(self, layer: nn.Conv2d, pattern: Pattern, values: Tensor, contiguous: bool = False) -> None:
        super().__init__()
        self.pattern = pattern
        self.values = nn.Parameter(values)
        self.bias = layer.bias
        self.kernel_size, self.stride = layer.kernel_size, layer.stride
        if isinstance(layer.padding, str):
            raise ValueError(f"padding is {layer.padding!r}, allowed are numbers")
        self.padding, self.dilation = layer.padding, layer.dilation
        self.contiguous = contiguous

    def forward(self, x: Tensor) -> Tensor:
        """(n, in, H, W) -> (n, out, H', W')."""
        height, width = (
            (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for size, padding, dilation, kernel, stride in zip(
                x.shape[2:], self.padding, self.dilation, self.kernel_size, self.stride, strict=True
            )
        )
        geometry = (self.kernel_size, self.stride, self.padding, self.dilation, (height, width))
        patches: Tensor = _Patches.apply(x, *geometry)
        y = multiply(self.pattern, self.values, patches).t()
        y = y if self.bias is None else y + self.bias
        images = y.view(height, width, len(x), -1).permute(2, 3, 0, 1)
        order = torch.contiguous_format if self.contiguous else torch.channels_last
        return images.contiguous(memory_format=order)


class _Patches(torch.autograd.Function):
    """Images (n, C, H, W) -> (C * kernel height * kernel width, H' * W' * n), and the sum back."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
    ) -> Tensor:
        ctx.shape, ctx.geometry = x.shape, (kernel, stride, padding, dilation, size)
        high, wide = padding
        pixels = F.pad(x.permute(1, 2, 3, 0).contiguous(), (0, 0, wide, wide, high, high))
        of_channel, of_row, of_pixel, _ = pixels.stride()
        steps = (of_channel, of_row * dilation[0], of_pixel * dilation[1])
        moves = (of_row * stride[0], of_pixel * stride[1], 1)
        shape = (x.shape[1], *kernel, *size, len(x))
        return pixels.as_strided(shape, steps + moves).reshape(x.shape[1] * kernel[0] * kernel[1], -1)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None, None]:
        n, channels, height, width = ctx.shape
        kernel, stride, (high, wide), dilation, size = ctx.geometry
        parts = gradients[0].view(channels, *kernel, *size, n)
        pixels = parts.new_zeros(channels, height + 2 * high, width + 2 * wide, n)
        for i in range(kernel[0]):
            rows = slice(i * dilation[0], i * dilation[0] + (size[0] - 1) * stride[0] + 1, stride[0])
            for j in range(kernel[1]):
                columns = slice(j * dilation[1], j * dilation[1] + (size[1] - 1) * stride[1] + 1, stride[1])
                pixels[:, rows, columns] += parts[:, i, j]
        inside = pixels[:, high : high + height, wide : wide + width]
        return inside.permute(3, 0, 1, 2), None, None, None, None, None


def sparsify(
    module: nn.Module,
    weights: Mapping[str, tuple[Pattern, Tensor]],
    kernels: str = "auto",
    sample: Tensor | None = None,
) -> nn.Module:
    """``module`` with the weights of some of its layers pruned; it is changed, and returned.

    ``weights``: for names such as ``fc1.weight``, the pattern of the weight as a matrix of as many rows as it
    has output channels, and its values, float32 (active,). ``kernels`` ``sparse`` makes of such a layer a
    ``SparseLinear`` or ``SparseConv2d``; ``dense`` keeps it, with zeros, and keeps gradients from them;
    ``auto`` does what is faster at the layer's density. Layers that are no plain linear layer or convolution
    (of another class, with hooks, groups, padding other than with zeros) stay dense, and so do those whose weight
    something else than their own forward pass uses, as torch's attention does. In a module of unknown code (see
    ``fedmpi.learning.known_code``) that is found by passing ``sample``, a batch of inputs, through it; without a
    sample its layers stay dense. ValueError for a weight that the module does not have in this shape.
    """
    if kernels not in KERNELS:
        raise ValueError(f"kernels is {kernels!r}, allowed are {', '.join(KERNELS)}")
    # Random numbers are drawn in the order of memory: those of dropout after a layer shall be the same.
    contiguous = not is_known(module)
    dense: dict[str, nn.Module] = {}
    sparse: dict[str, nn.Module] = {}
    for name, (pattern, values) in weights.items():
        owner = name.rpartition(".")[0]
        layer = _prune(module, name, pattern, values)
        if kernels == "sparse" or (kernels == "auto" and pattern.density <= _crossover(layer)):
            replacement = _sparse_layer(layer, pattern, values, contiguous)
            if replacement is not None:
                dense[owner], sparse[owner] = layer, replacement
    module, kept = _with_those_that_agree(module, dense, sparse, sample)
    for name, (pattern, values) in weights.items():
        owner = name.rpartition(".")[0]
        if owner not in kept:
            weight = module.get_parameter(name)
            weight.register_hook(pattern.dense(torch.ones_like(values)).view_as(weight).mul)
    return module


def _prune(module: nn.Module, name: str, pattern: Pattern, values: Tensor) -> nn.Module:
    """Give the weight ``name`` these values, and zeros; returns its layer."""
    try:
        layer = module.get_submodule(name.rpartition(".")[0])
    except AttributeError as error:
        raise ValueError(f"the model has no {name}: {error}") from error
    weight = layer._parameters.get("weight")
    if weight is None or (len(weight), weight[0].numel()) != pattern.shape:
        raise ValueError(f"the model has no {name} of {pattern.shape[0]} x {pattern.shape[1]}")
    if values.shape != (pattern.count,) or values.dtype != torch.float32:
        raise ValueError(
            f"{name} has {pattern.count} active weights, found {values.dtype} values {tuple(values.shape)}"
        )
    with torch.no_grad():
        weight.copy_(pattern.dense(values).view_as(weight))
    return layer


def _with_those_that_agree(
    module: nn.Module,
    dense: Mapping[str, nn.Module],
    sparse: Mapping[str, nn.Module],
    sample: Tensor | None,
) -> tuple[nn.Module, set[str]]:
    """``module`` with as many of its ``dense`` layers replaced as leave it what it computes; which these are."""
    if is_known(module):
        return _all_replaced(module, sparse), set(sparse)
    expected = None if sample is None else _outputs(module, sample)
    if sample is None or expected is None:
        return module, set()
    if _agree(_outputs(_all_replaced(module, sparse), sample), expected):
        return module, set(sparse)
    _all_replaced(module, dense)
    kept = set()
    for owner, layer in sparse.items():
        replaced(module, owner, layer)
        if _agree(_outputs(module, sample), expected):
            kept.add(owner)
        else:
            replaced(module, owner, dense[owner])
    return module, kept


def _all_replaced(module: nn.Module, layers: Mapping[str, nn.Module]) -> nn.Module:
    for path, layer in layers.items():
        module = replaced(module, path, layer)
    return module


def _outputs(module: nn.Module, sample: Tensor) -> list[Tensor] | None:
    """What ``module`` gives in training and in evaluation, its state put back; None where it fails."""
    outputs = []
    modes = {child: child.training for child in module.modules()}
    state = OwnState(module, (), attributes=True)
    try:
        for training in (True, False):
            module.train(training)
            with seeded(0), torch.no_grad():
                outputs.append(module(sample))
            state.put_back()
    except ANY_FAILURE:
        return None
    finally:
        state.put_back()
        for child, mode in modes.items():
            child.training = mode
    return outputs if all(isinstance(found, Tensor) for found in outputs) else None


def _agree(found: list[Tensor] | None, expected: list[Tensor]) -> bool:
    return found is not None and all(
        one.shape == other.shape and bool((one - other).abs().max() <= _AGREEMENT * other.abs().max())
        for one, other in zip(found, expected, strict=True)
    )


def _crossover(layer: nn.Module) -> float:
    return _LINEAR_CROSSOVER if isinstance(layer, nn.Linear) else _CONVOLUTION_CROSSOVER


def _sparse_layer(layer: nn.Module, pattern: Pattern, values: Tensor, contiguous: bool) -> nn.Module | None:
    forward = type(layer).forward
    if not is_known(layer):
        return None
    if isinstance(layer, nn.Linear) and forward is nn.Linear.forward:
        return SparseLinear(layer, pattern, values, contiguous)
    if isinstance(layer, nn.Conv2d) and forward is nn.Conv2d.forward:
        plain = layer.groups == 1 and layer.padding_mode == "zeros" and not isinstance(layer.padding, str)
        return SparseConv2d(layer, pattern, values, contiguous) if plain else None
    return None


def replaced(module: nn.Module, path: str, layer: nn.Module) -> nn.Module:
    """``module``, which is changed, with ``layer`` at ``path``; with an empty path, ``layer`` itself."""
    if not path:
        return layer
    parent, _, name = path.rpartition(".")
    setattr(module.get_submodule(parent), name, layer)
    return module
