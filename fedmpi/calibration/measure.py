"""Seconds of training steps on this host, with dense kernels and with sparse ones at many densities."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
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
    ``seconds`` (n,): steps with sparse kernels at the measured points; ``held_out_densities``, ``held_out_active``
    (m, L) and ``held_out_seconds`` (m,): those that a fit is to be tried on; ``dense_step_s``: with dense kernels.
    ``repetitions`` of each, and ``spread``: see there.
    """

    layers: tuple[str, ...]
    sizes: NDArray[np.int64]
    active: NDArray[np.int64]
    seconds: NDArray[np.float64]
    held_out_densities: tuple[float, ...]
    held_out_active: NDArray[np.int64]
    held_out_seconds: NDArray[np.float64]
    dense_step_s: float
    repetitions: int
    spread: float


def spread(times: Sequence[Sequence[float]]) -> float:
    """How far the medians of the first and of the second half of repetitions are apart, over the median of all.

    The largest of all that was measured; inf for less than two repetitions. A machine that is busy for a while, or
    slows down, shows in it.
    """
    apart = []
    for one in times:
        half = len(one) // 2
        if half == 0:
            return inf
        apart.append(abs(median(one[:half]) - median(one[half:])) / median(one))
    return max(apart, default=0.0)


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
    *,
    held_out: Sequence[float] = (),
    most_spread: float = inf,
    most_steps: int = 0,
    loss: str = "cross_entropy",
) -> Measured:
    """Time ``steps`` steps of each kind, after one that is not counted, every kind once before any is repeated.

    While the ``spread`` is above ``most_spread``, ``steps`` more follow, up to ``most_steps`` in all. ``held_out``:
    densities of all layers that are measured besides. Weights are pruned at random. The time is the CPU time of one
    thread, which other programs disturb less than time by the clock. Raises ConfigError for a model that cannot be
    built or has no prunable layers.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        plan = _Plan(tuple(densities), tuple(held_out), steps, most_spread, max(steps, most_steps))
        return _measured(model, input_shape, classes, batch_size, plan, loss)
    finally:
        torch.set_num_threads(threads)


@dataclass(frozen=True)
class _Plan:
    """What is measured, and for how long."""

    densities: tuple[float, ...]
    held_out: tuple[float, ...]
    steps: int
    most_spread: float
    most_steps: int


def _measured(
    model: ModelConfig,
    input_shape: tuple[int, ...],
    classes: int,
    batch_size: int,
    plan: _Plan,
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
    for index, density in enumerate((*plan.densities, *plan.held_out)):
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
    fitted = points(len(prunable), plan.densities)
    first_held_out = len(plan.densities)
    chosen = [*fitted, *((first_held_out + held,) * len(prunable) for held in range(len(plan.held_out)))]
    times: list[list[float]] = [[] for _ in (None, *chosen)]  # of dense kernels, then of each point

    def repeat() -> None:
        times[0].append(_seconds(flat.module, x, y, loss))
        nonlocal body
        for taken, point in zip(times[1:], chosen, strict=True):
            for name, index in zip(names, point, strict=True):
                body = replaced(body, name.rpartition(".")[0], sparse_layers[name, index])
            taken.append(_seconds(body, x, y, loss))

    repeat()
    for taken in times:
        taken.clear()
    while not times[0] or (spread(times) > plan.most_spread and len(times[0]) < plan.most_steps):
        for _ in range(plan.steps):
            repeat()
    points_active = np.array([[counts[key] for key in zip(names, point, strict=True)] for point in chosen])
    seconds = np.array([median(taken) for taken in times[1:]])
    return Measured(
        layers=tuple(names),
        sizes=np.array([layer.stop - layer.start for layer in prunable]),
        active=points_active[: len(fitted)],
        seconds=seconds[: len(fitted)],
        held_out_densities=plan.held_out,
        held_out_active=points_active[len(fitted) :],
        held_out_seconds=seconds[len(fitted) :],
        dense_step_s=median(times[0]),
        repetitions=len(times[0]),
        spread=spread(times),
    )


def timed_step(step: Callable[[], None]) -> float:
    """Seconds that this thread computes in ``step``."""
    start = thread_time()
    step()
    return thread_time() - start


def _seconds(module: nn.Module, x: Tensor, y: Tensor, loss: str) -> float:
    return timed_step(training_step(module, x, y, loss))
