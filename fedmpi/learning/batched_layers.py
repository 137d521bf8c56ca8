"""The layers of a batch of models: the forward and the backward pass of each, over all clients (see ``batched``).

A layer keeps what its backward pass needs from the forward pass before, and no longer: memory that is taken anew each
time would not stay in the cache. ``steps`` has the weights, and room for their
gradients.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from fedmpi.learning.batched_step import ManySteps, padded
from fedmpi.learning.batched_values import Room, Values, room_like
from fedmpi.learning.models.local_response import LocalResponseNorm, negative_power

_CONVOLUTION_BACKWARD = torch.ops.aten.convolution_backward.default
_RELU_BACKWARD = torch.ops.aten.threshold_backward.default
_RELU_BACKWARD_INTO = torch.ops.aten.threshold_backward.grad_input
_MAX_POOL = torch.ops.aten.max_pool2d_with_indices.default
_MAX_POOL_BACKWARD = torch.ops.aten.max_pool2d_with_indices_backward.default
_AVERAGE_POOL = torch.ops.aten.avg_pool2d.default
_AVERAGE_POOL_BACKWARD = torch.ops.aten.avg_pool2d_backward.default
"""What autograd calls."""


class Layer(Protocol):
    """A layer of all clients."""

    def forward(self, x: Values, steps: ManySteps) -> Values:
        """What it gives for ``x``."""

    def backward(self, gradient: Values, steps: ManySteps) -> Values | None:
        """The gradient of ``x``, from that of the outputs, which it may overwrite; None of a model's first layer.

        The gradients of the layer's weights go to ``steps``.
        """


class Linear:
    """``nn.Linear`` on (n, fan_in) of every client; ``weight`` and ``bias`` are positions among the parameters."""

    def __init__(
        self, module: nn.Linear, weight: int, bias: int | None, first: bool, clients: int, samples: int
    ) -> None:
        self._weight, self._bias = weight, bias
        self._output = Room(clients, samples, module.out_features)
        self._of_input = None if first else Room(clients, samples, module.in_features)

    def forward(self, x: Values, steps: ManySteps) -> Values:
        self._x = x.each
        given = self._output.of_first(steps.clients)
        weights = steps.transposed(self._weight)
        if self._bias is None:
            for sample, weight, output in zip(self._x, weights, given.each, strict=True):
                torch.mm(sample, weight, out=output)
        else:
            biases = steps.each(self._bias)
            for sample, weight, bias, output in zip(self._x, weights, biases, given.each, strict=True):
                torch.addmm(bias, sample, weight, out=output)
        return given

    def backward(self, gradient: Values, steps: ManySteps) -> Values | None:
        into = steps.gradients(self._weight)
        for own, sample, of_weight in zip(gradient.transposed, self._x, into, strict=True):
            torch.mm(own, sample, out=of_weight)
        del self._x
        if self._bias is not None:
            torch.sum(gradient.together, 1, out=steps.gradient(self._bias))
        if self._of_input is None:
            return None
        given = self._of_input.of_first(steps.clients)
        for own, weight, of_input in zip(gradient.each, steps.each(self._weight), given.each, strict=True):
            torch.mm(own, weight, out=of_input)
        return given


class Convolution:
    """``nn.Conv2d`` on (n, C, H, W) of every client."""

    def __init__(self, module: nn.Conv2d, weight: int, bias: int | None, first: bool) -> None:
        self._weight, self._bias = weight, bias
        assert not isinstance(module.padding, str)
        self._strides = (module.stride, module.padding, module.dilation)
        self._groups = module.groups
        self._bias_sizes = [0 if bias is None else module.out_channels]
        self._wanted = [not first, True, bias is not None]

    def forward(self, x: Values, steps: ManySteps) -> Values:
        self._x = x.each
        biases = [None] * steps.clients if self._bias is None else steps.each(self._bias)
        return Values(
            [
                torch.convolution(sample, weight, bias, *self._strides, False, (0, 0), self._groups)
                for sample, weight, bias in zip(self._x, steps.each(self._weight), biases, strict=True)
            ]
        )

    def backward(self, gradient: Values, steps: ManySteps) -> Values | None:
        of_inputs, of_weights, of_biases = zip(
            *(
                _CONVOLUTION_BACKWARD(
                    own,
                    sample,
                    weight,
                    self._bias_sizes,
                    *self._strides,
                    False,
                    (0, 0),
                    self._groups,
                    self._wanted,
                )
                for own, sample, weight in zip(gradient.each, self._x, steps.each(self._weight), strict=True)
            ),
            strict=True,
        )
        del self._x
        torch._foreach_copy_(steps.gradients(self._weight), of_weights)
        if self._bias is not None:
            torch._foreach_copy_(steps.gradients(self._bias), of_biases)
        return Values(of_inputs) if self._wanted[0] else None


class Relu:
    """``nn.ReLU``, in place: no other layer needs what it gave."""

    def forward(self, x: Values, steps: ManySteps) -> Values:
        together = x.together
        if together.dim() > 3:  # of images, which torch may describe by other strides than before
            strides = torch.relu(together[0]).stride()
            together = together.as_strided(together.shape, (together.stride(0), *strides))
            x = Values(together=together)
        self._output = together.relu_()
        return x

    def backward(self, gradient: Values, steps: ManySteps) -> Values:
        given = gradient
        if gradient.together.stride()[1:] != self._output.stride()[1:]:
            own = _RELU_BACKWARD(gradient.together[0], self._output[0], 0)
            given = Values(together=room_like(own, steps.clients))
        _RELU_BACKWARD_INTO(gradient.together, self._output, 0, grad_input=given.together)
        del self._output
        return given


class Flatten:
    """``nn.Flatten`` of (n, C, H, W): a copy where channels lie together, in the order of the shape otherwise."""

    def __init__(self, clients: int, samples: int) -> None:
        self._clients, self._samples = clients, samples
        self._room: Room | None = None

    def forward(self, x: Values, steps: ManySteps) -> Values:
        self._shape = x.together.shape
        if x.each[0].is_contiguous():
            return Values(together=x.together.flatten(2))
        if self._room is None:
            self._room = Room(self._clients, self._samples, x.each[0][0].numel())
        given = self._room.of_first(steps.clients)
        given.together.view(self._shape).copy_(x.together)
        return given

    def backward(self, gradient: Values, steps: ManySteps) -> Values:
        return Values(together=gradient.together.view(self._shape))


class MaxPool:
    """``nn.MaxPool2d``, of all samples at once."""

    def __init__(self, module: nn.MaxPool2d) -> None:
        self._how = (
            *(_pair(each) for each in (module.kernel_size, module.stride, module.padding, module.dilation)),
            module.ceil_mode,
        )

    def forward(self, x: Values, steps: ManySteps) -> Values:
        self._x = x.packed
        output, self._indices = _MAX_POOL(self._x, *self._how)
        return Values.of_packed(output, steps.clients)

    def backward(self, gradient: Values, steps: ManySteps) -> Values:
        of_x = _MAX_POOL_BACKWARD(gradient.packed, self._x, *self._how, self._indices)
        del self._x, self._indices
        return Values.of_packed(of_x, steps.clients)


class AveragePool:
    """``nn.AvgPool2d``, of all samples at once."""

    def __init__(self, module: nn.AvgPool2d) -> None:
        self._how = (
            *(_pair(each) for each in (module.kernel_size, module.stride, module.padding)),
            module.ceil_mode,
            module.count_include_pad,
            module.divisor_override,
        )

    def forward(self, x: Values, steps: ManySteps) -> Values:
        self._x = x.packed
        return Values.of_packed(_AVERAGE_POOL(self._x, *self._how), steps.clients)

    def backward(self, gradient: Values, steps: ManySteps) -> Values:
        of_x: Tensor = _AVERAGE_POOL_BACKWARD(gradient.packed, self._x, *self._how)
        del self._x
        return Values.of_packed(of_x, steps.clients)


class Normalisation:
    """``LocalResponseNorm``: sums over channels of one client after the other, all else at once.

    Only for the power 0.75: other powers may be rounded otherwise at the end of a tensor.
    """

    def __init__(self, module: LocalResponseNorm) -> None:
        self._module = module

    def forward(self, x: Values, steps: ManySteps) -> Values:
        module, self._x = self._module, x.together
        squares = Values(together=_product(self._x, self._x))
        self._scale = self._over_channels(squares).mul_(module.alpha).add_(module.bias)
        self._factor = negative_power(self._scale, module.beta)
        return Values(together=_product(self._x, self._factor))

    def backward(self, gradient: Values, steps: ManySteps) -> Values:
        direct = _product(gradient.together, self._factor)
        shares = Values(together=_product(direct, self._x).div_(self._scale))
        coefficient = -2.0 * self._module.alpha * self._module.beta
        direct.addcmul_(self._x, self._over_channels(shares), value=coefficient)
        del self._x, self._scale, self._factor
        return Values(together=direct)

    def _over_channels(self, x: Values) -> Tensor:
        clients, samples, channels, height, width = x.together.shape
        pixels = samples * height * width
        sums = padded(clients, pixels * channels)
        rows = sums.view(clients, pixels, channels).unbind(0)
        for own, row in zip(x.each, rows, strict=True):
            torch.mm(own.permute(0, 2, 3, 1).reshape(-1, channels), self._module.band, out=row)
        return sums.view(clients, samples, height, width, channels).permute(0, 1, 4, 2, 3)


def _product(one: Tensor, other: Tensor) -> Tensor:
    """``one`` x ``other`` (clients, ...), every client's laid out as its own product would be."""
    return torch.mul(one, other, out=room_like(one[0] * other[0], len(one)))


def _pair(size: int | tuple[int, int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size
