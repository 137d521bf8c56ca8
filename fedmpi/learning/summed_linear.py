"""Gradients of large linear layers, added up over the steps by the matrix product that makes them.

The gradient of such a layer does not stay in the cache: to write it, to read it for the sum and to read it again for
the weights costs more than to compute it. Here the product of a step adds to the sum in place, and the weights
of plain SGD come from the sum alone: w = w_start - rate x sum. This is right where nothing but the layer's forward
pass uses the weight, and nothing but the step changes it: in models of known code (``fedmpi.learning.known_code``).
All other models keep the gradients that autograd gives.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fedmpi.learning.flat import FlatModel

LARGE = 1 << 20
"""Entries of a weight matrix from which on this is faster."""


class Total:
    """The sum of a layer's weight gradients, (out, in); ``fresh`` until there is one."""

    def __init__(self, total: Tensor) -> None:
        self.total = total
        self.fresh = True

    def add(self, gradient: Tensor, x: Tensor) -> None:
        """Add the gradient of a weight that made (n, out) of ``x`` (n, in)."""
        if self.fresh:
            torch.mm(gradient.t(), x, out=self.total)
        else:
            self.total.addmm_(gradient.t(), x)
        self.fresh = False


class _SummedLinear(torch.autograd.Function):
    """``F.linear`` whose backward pass adds the weight's gradient to a total and does not return it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, total: Total) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.total = total
        return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, None, Tensor | None, None]:
        (gradient,) = gradients
        x, weight = ctx.saved_tensors
        ctx.total.add(gradient, x)
        of_x = gradient @ weight if ctx.needs_input_grad[0] else None
        of_bias = gradient.sum(0) if ctx.needs_input_grad[2] else None
        return of_x, None, of_bias, None


@contextmanager
def summed_linear(model: FlatModel, sums: Sequence[Tensor] | None) -> Iterator[dict[int, Total]]:
    """Within it the gradients of large linear layers go to ``sums`` (one view for each parameter of ``model``).

    Without ``sums``, and in a model of unknown code, everything stays as it is. Yields the totals by position among
    the model's parameters; autograd gives None for these weights.
    """
    positions = {id(parameter): position for position, parameter in enumerate(model.parameters)}
    totals: dict[int, Total] = {}
    changed = []
    for module in () if sums is None or not model.known else model.module.modules():
        if not _is_large_linear(module) or id(module.weight) not in positions:
            continue
        assert sums is not None
        position = positions[id(module.weight)]
        totals[position] = Total(sums[position])
        module.forward = partial(_forward, module, totals[position])  # type: ignore[method-assign]
        changed.append(module)
    try:
        yield totals
    finally:
        for module in changed:
            del module.forward


def _is_large_linear(module: nn.Module) -> TypeGuard[nn.Linear]:
    return type(module) is nn.Linear and module.weight.numel() >= LARGE


def _forward(layer: nn.Linear, total: Total, x: Tensor) -> Tensor:
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _SummedLinear.apply(rows, layer.weight, layer.bias, total)
    return y.view(*x.shape[:-1], -1)
