"""The memory of a model's activations, from the outputs of its layers."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedmpi.learning.flat import FlatModel
from fedmpi.learning.isolation import evaluated_alone


@dataclass(frozen=True)
class Activations:
    """Bytes for each sample of a batch: ``kept`` by all layers for the backward pass, ``largest`` of any one layer.

    The latter counts a layer's input and output, which are there at once in evaluation. What code computes outside of
    layers is not counted.
    """

    kept: float
    largest: float


def activations(model: FlatModel, input_shape: tuple[int, ...], batch: int) -> Activations:
    """Those of ``model``, by one pass of ``batch`` samples through it in evaluation mode."""
    kept: list[int] = []
    passed: list[int] = []

    def count(_: nn.Module, inputs: tuple[object, ...], output: object) -> None:
        kept.append(_bytes(output))
        passed.append(kept[-1] + sum(map(_bytes, inputs)))

    layers = [layer for layer in model.module.modules() if not any(layer.children())]
    x = torch.zeros((batch, *input_shape), device=model.vector.device)
    with evaluated_alone(model, 0), torch.no_grad():  # which puts hooks back, too, as they were
        handles = [layer.register_forward_hook(count) for layer in layers]
        try:
            model.module(x)
        finally:
            for handle in handles:
                handle.remove()
    return Activations(sum(kept) / batch, max(passed, default=0) / batch)


def _bytes(value: object) -> int:
    if isinstance(value, Tensor):
        return value.nbytes
    return sum(map(_bytes, value)) if isinstance(value, tuple | list) else 0
