"""Seconds of training steps on this host, with dense kernels and with sparse ones at many densities."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from time import thread_time

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedmpi.config import ConfigError
from fedmpi.config.schema import ModelConfig
from fedmpi.export.csr import Pattern
from fedmpi.export.layers import replaced, sparsify
from fedmpi.learning.losses import LOSSES
from fedmpi.learning.models import build_flat


@dataclass(frozen=True)
class Measured:
    """Median seconds of steps of one batch size.

    ``layers`` and ``sizes`` (L,): names and parameters of the prunable weights; ``active`` int64 (n, L) and
    ``seconds`` (n,): steps with sparse kernels at the measured points; ``dense_step_s``: with dense kernels.
    """

    layers: tuple[str, ...]
    sizes: NDArray[np.int64]
    active: NDArray[np.int64]
    seconds: NDArray[np.float64]
    dense_step_s: float


def training_step(module: nn.Module, x: Tensor, y: Tensor, loss: str) -> Callable[[], None]:
    """A step of SGD that can be repeated: forward, backward, and an update too small to change anything."""
    parameters: tuple[Tensor, ...] = tuple(module.parameters())
    mean = LOSSES[loss].mean

    def step() -> None:
        gradients = torch.autograd.grad(mean(module(x), y), parameters)
        with torch.no_grad():
            torch._foreach_add_(parameters, gradients, alpha=-1e-9)

    return step


def points(layers: int, densities: Sequence[float]) -> list[tuple[int, ...]]:
    """What is measured: for each of ``layers``, the position of its density in ``densities``.

    All layers at each density, then every layer at each but the first while the others are at the first.
    """
    together = [(index,) * layers for index in range(len(densities))]
    alone = [
        tuple(index if other == layer else 0 for other in range(layers))
        for layer in range(layers)
        for index in range(1, len(densities))
    ]
    return list(dict.fromkeys(together + alone))


def measure(
    model: ModelConfig,
    input_shape: tuple[int, ...],
    classes: int,
    batch_size: int,
    densities: Sequence[float],
    steps: int,
    loss: str = "cross_entropy",
) -> Measured:
    """Time ``steps`` steps of each kind, after one that is not counted, every kind once before any is repeated.

    Weights are pruned at random. The time is the CPU time of one thread, which other programs disturb less than
    time by the clock. Raises ConfigError for a model that cannot be built or has no prunable layers.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _measured(model, input_shape, classes, batch_size, densities, steps, loss)
    finally:
        torch.set_num_threads(threads)


def _measured(
    model: ModelConfig,
    input_shape: tuple[int, ...],
    classes: int,
    batch_size: int,
    densities: Sequence[float],
    steps: int,
    loss: str,
) -> Measured:
    flat = build_flat(model, input_shape, classes, 0)
    prunable = [layer for layer in flat.layers if layer.prunable]
    if not prunable:
        raise ConfigError("model.name", f"{model.name} has no prunable layers", "a model that has some")
    names = [layer.name for layer in prunable]
    draw = torch.Generator().manual_seed(0)
    x = torch.rand((batch_size, *input_shape), generator=draw)
    y = torch.randint(classes, (batch_size,), generator=draw)
    sparse_layers: dict[tuple[str, int], nn.Module] = {}
    counts: dict[tuple[str, int], int] = {}
    for index, density in enumerate(densities):
        weights = {}
        for layer in prunable:
            matrix = flat.vector[layer.start : layer.stop].view(layer.shape[0], -1)
            active = torch.rand(matrix.shape, generator=draw) < density
            weights[layer.name] = (Pattern.of(active), matrix[active])
            counts[layer.name, index] = int(active.sum())
        module = sparsify(copy.deepcopy(flat.module), weights, "sparse", x)
        for name in names:
            sparse_layers[name, index] = module.get_submodule(name.rpartition(".")[0])
    body = copy.deepcopy(flat.module)
    chosen = points(len(prunable), densities)
    dense_s: list[float] = []
    sparse_s: list[list[float]] = [[] for _ in chosen]
    for repetition in range(steps + 1):
        dense_s.append(_seconds(flat.module, x, y, loss))
        for times, point in zip(sparse_s, chosen, strict=True):
            for name, index in zip(names, point, strict=True):
                body = replaced(body, name.rpartition(".")[0], sparse_layers[name, index])
            times.append(_seconds(body, x, y, loss))
        if repetition == 0:
            dense_s.clear()
            sparse_s = [[] for _ in chosen]
    return Measured(
        layers=tuple(names),
        sizes=np.array([layer.stop - layer.start for layer in prunable]),
        active=np.array([[counts[key] for key in zip(names, point, strict=True)] for point in chosen]),
        seconds=np.array([median(times) for times in sparse_s]),
        dense_step_s=median(dense_s),
    )


def timed_step(step: Callable[[], None]) -> float:
    """Seconds that this thread computes in ``step``."""
    start = thread_time()
    step()
    return thread_time() - start


def _seconds(module: nn.Module, x: Tensor, y: Tensor, loss: str) -> float:
    return timed_step(training_step(module, x, y, loss))
