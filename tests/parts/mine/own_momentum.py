"""FedAvgM as a user would write it (Hsu, Qi, Brown 2019)."""

import numpy as np

from fedmpi.aggregation import Aggregator


def fedavgm(beta: float = 0.9, rate: float = 1.0) -> Aggregator:
    def step(state, mean, indices):
        where = slice(None) if indices is None else indices
        state["m"][where] = beta * state["m"][where] + mean
        return state, (rate * state["m"][where]).astype(np.float32)

    return Aggregator(
        summary="server momentum",
        init=lambda parameters: {"m": np.zeros(parameters)},
        step=step,
        bytes_per_parameter=8,
    )
