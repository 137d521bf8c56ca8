"""Server optimizers: the mean of the updates is taken for a gradient, which moves the model with momentum.

FedAdam and FedYogi: Reddi et al., "Adaptive federated optimization", ICLR 2021, Algorithm 2. FedAvgM: Hsu, Qi, Brown,
"Measuring the effects of non-identical data distribution for federated visual classification", 2019.

m and v are float64: the square of a small float32 is no float32 any more. t counts the server steps of the whole model,
also for a coordinate that was not in all of them; in the others its m and v stayed as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf, sqrt

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation.interface import Aggregator, State

_BLOCK = 1 << 13
"""Coordinates of one float64 scratch block: the few that a step needs stay in the second-level cache."""

Second = Callable[[NDArray[np.float64], NDArray[np.float64], float], None]
"""``second(v, squared, beta2)``: moves v, in place, towards the squared mean, which may be overwritten."""


def fedavgm(learning_rate: float = 1.0, momentum: float = 0.9, dense: bool = False) -> Aggregator:
    """m = momentum x m + mean, change = learning_rate x m. Raises ValueError for options out of their range."""
    _check("learning_rate", learning_rate, 0 < learning_rate < inf, "a finite number above 0")
    _check("momentum", momentum, 0 <= momentum < 1, "a number from 0 to below 1")

    def init(parameters: int) -> State:
        return {"m": np.zeros(parameters)}

    def step(
        state: State, mean: NDArray[np.floating], indices: NDArray[np.int32] | None
    ) -> tuple[State, NDArray[np.floating]]:
        for part, where in _blocks(mean.size, indices):
            m = state["m"][where]
            m *= momentum
            m += mean[part]
            if indices is not None:
                state["m"][where] = m
            mean[part] = learning_rate * m
        return state, mean

    return Aggregator(
        summary="The mean of the updates with momentum.",
        source='Hsu, Qi, Brown, "Measuring the effects of non-identical data distribution for federated visual '
        'classification", 2019',
        init=init,
        step=step,
        dense=dense,
        bytes_per_parameter=8,
    )


def fedadam(
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    bias_correction: bool = False,
    dense: bool = False,
) -> Aggregator:
    """m = beta1 m + (1 - beta1) mean, v = beta2 v + (1 - beta2) mean^2, change = learning_rate m / (sqrt(v) + tau).

    v is tau^2 at first. ``bias_correction``: it is 0, and the change is multiplied by sqrt(1 - beta2^t) / (1 - beta1^t)
    in step t, as in the program of the authors. Raises ValueError for options out of their range.
    """
    summary = "Adam on the mean of the updates."
    return _adaptive(summary, _adam, learning_rate, beta1, beta2, tau, bias_correction, dense)


def fedyogi(
    learning_rate: float = 0.01,
    beta1: float = 0.9,
    beta2: float = 0.99,
    tau: float = 1e-3,
    bias_correction: bool = False,
    dense: bool = False,
) -> Aggregator:
    """FedAdam with v = v - (1 - beta2) mean^2 sign(v - mean^2), which lets v fall more slowly. See ``fedadam``."""
    summary = "Yogi on the mean of the updates: Adam whose second moment falls more slowly."
    return _adaptive(summary, _yogi, learning_rate, beta1, beta2, tau, bias_correction, dense)


def _adam(v: NDArray[np.float64], squared: NDArray[np.float64], beta2: float) -> None:
    v *= beta2
    squared *= 1 - beta2
    v += squared


def _yogi(v: NDArray[np.float64], squared: NDArray[np.float64], beta2: float) -> None:
    sign = np.sign(v - squared)
    squared *= 1 - beta2
    squared *= sign
    v -= squared


def _adaptive(
    summary: str,
    second: Second,
    learning_rate: float,
    beta1: float,
    beta2: float,
    tau: float,
    bias_correction: bool,
    dense: bool,
) -> Aggregator:
    _check("learning_rate", learning_rate, 0 < learning_rate < inf, "a finite number above 0")
    _check("beta1", beta1, 0 <= beta1 < 1, "a number from 0 to below 1")
    _check("beta2", beta2, 0 <= beta2 < 1, "a number from 0 to below 1")
    _check("tau", tau, 0 < tau < inf, "a finite number above 0")

    def init(parameters: int) -> State:
        initial = 0.0 if bias_correction else tau**2
        return {"t": 0, "m": np.zeros(parameters), "v": np.full(parameters, initial)}

    def step(
        state: State, mean: NDArray[np.floating], indices: NDArray[np.int32] | None
    ) -> tuple[State, NDArray[np.floating]]:
        t = state["t"] = state["t"] + 1
        rate = learning_rate
        if bias_correction:
            rate *= sqrt(1 - beta2**t) / (1 - beta1**t)
        for part, where in _blocks(mean.size, indices):
            m, v = state["m"][where], state["v"][where]
            update = mean[part].astype(np.float64)
            squared = np.square(update)
            update *= 1 - beta1
            m *= beta1
            m += update
            second(v, squared, beta2)
            if indices is not None:
                state["m"][where], state["v"][where] = m, v
            divisor = np.sqrt(v, out=squared)
            divisor += tau
            np.divide(m, divisor, out=update)
            update *= rate
            mean[part] = update
        return state, mean

    return Aggregator(
        summary=summary,
        source='Reddi et al., "Adaptive federated optimization", ICLR 2021',
        init=init,
        step=step,
        dense=dense,
        bytes_per_parameter=16,
    )


def _blocks(
    count: int, indices: NDArray[np.int32] | None
) -> Iterator[tuple[slice, slice | NDArray[np.int32]]]:
    """Slices of the mean, and where their coordinates stand in the state: slices give views, indices copies."""
    for start in range(0, count, _BLOCK):
        part = slice(start, min(start + _BLOCK, count))
        yield part, part if indices is None else indices[part]


def _check(name: str, value: float, holds: bool, allowed: str) -> None:
    if not holds:
        raise ValueError(f"{name} is {value}; allowed: {allowed}")
