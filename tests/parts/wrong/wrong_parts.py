"""Parts with one fault each, as users make them."""

from dataclasses import dataclass, replace

import numpy as np

from fedmpi.aggregation import Aggregator
from fedmpi.emulation.availability import AvailabilityModel
from fedmpi.emulation.compute import ComputeModel
from fedmpi.k_control import Controller, State
from fedmpi.pruning import NONE, Mask
from fedmpi.sparsification import SparseMethod, union_of


def _method(choose):
    return SparseMethod(
        summary="wrong", select=lambda uploads, k: union_of(uploads), choose=choose, at_most_k_down=False
    )


FLOATS = _method(lambda accumulated, k, choice: np.arange(float(k)))
GLOBAL = _method(
    lambda accumulated, k, choice: np.sort(np.random.permutation(accumulated.size)[:k]).astype(np.int32)  # noqa: NPY002
)
TWICE = _method(lambda accumulated, k, choice: np.zeros(k, np.int32))


@dataclass(frozen=True)
class Nothing(State):
    """Keeps nothing more."""


CONTROLLER = Controller(
    summary="wrong",
    init=lambda setup, draw: Nothing(setup.k_initial, 0),
    step=lambda state, seen, draw: replace(state, k=0),
    state=Nothing,
)
PRUNING = replace(
    NONE, step=lambda setup, state, seen, draw: (replace(state, mask=Mask(3)), None), changes="every"
)
AGGREGATOR = Aggregator(summary="wrong", step=lambda state, mean, indices: (state, mean * np.nan))
COMBINING = Aggregator(summary="wrong", combine=lambda updates, samples: updates[0])
COMPUTE = ComputeModel(summary="wrong", seconds=lambda setup, training: -training.steps)
AVAILABILITY = AvailabilityModel(
    summary="wrong", available=lambda setup, round_index, start_s: np.arange(setup.clients)
)


def two_labels_for_three(folder):
    from fedmpi.learning.datasets import Dataset

    x, y = np.zeros((60, 1, 2, 2), np.float32), np.arange(60) % 3
    return Dataset(x, y, None, x, y, classes=2)


def broken_partition(labels, writers, clients, draw):
    return labels.nothing


def everyone_has_everything(labels, writers, clients, draw):
    return [np.arange(labels.size)] * clients
