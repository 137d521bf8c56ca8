"""What an experiment will need: the memory of each rank, and the bytes and times of its first round."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.config import Config
from fedmpi.emulation.compute import compute_seconds
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.timeline import Timeline, round_timeline
from fedmpi.federation.plan import draw_participants
from fedmpi.learning.datasets import Dataset
from fedmpi.learning.flat import FlatModel
from fedmpi.sparsification.wire import message_bytes

_LIBRARIES_BYTES = 145 * 10**6
"""Resident memory of Python with torch, MPI and HDF5 (measured: torch 2.13 for the CPU)."""

_VECTORS = 5
"""Flat vectors of the model that a rank holds at once: global, model, gradient, sum of directions, step."""


@dataclass(frozen=True)
class FirstRound:
    """The first round: ``k`` entries of each of ``participants``, bytes of one of them, times of all."""

    participants: np.ndarray
    k: int
    bytes_down: int
    bytes_up: int
    timeline: Timeline


def memory_bytes(
    config: Config, model: FlatModel, dataset: Dataset, samples: list[np.ndarray], block: range, rank: int
) -> int:
    """Memory of a rank whose home clients are ``block``, without the activations of the model.

    Rank 0 reads the whole data set before it hands out the samples.
    """
    sample = dataset.train_x.nbytes // len(dataset.train_x) + dataset.train_y.itemsize
    mine = sum(len(samples[client]) for client in block)
    test = dataset.test_x.nbytes + dataset.test_y.nbytes
    whole = dataset.train_x.nbytes + dataset.train_y.nbytes if rank == 0 else 0
    vector = 4 * model.vector.numel()
    sparse = config.sparsification.method != "dense"
    kept = len(block) * 4 * model.parameter_count if sparse else len(block) * vector + 2 * vector
    return _LIBRARIES_BYTES + whole + mine * sample + test + _VECTORS * vector + kept


def first_round(config: Config, model: FlatModel, fleet: Fleet, sizes: np.ndarray) -> FirstRound:
    """Bytes and emulated times of round 0, without jitter and probe; ``sizes`` (N,) are the clients' samples.

    Everybody downloads the whole model. Training that is to be ``measured`` counts as taking no time.
    """
    dimension, tail = model.parameter_count, 4 * model.buffer_count
    participants = draw_participants(
        config.experiment.seed, 0, config.clients.count, config.clients.per_round
    )
    k = first_k(config, dimension)
    form = "dense" if config.sparsification.method == "dense" else config.sparsification.wire
    down = message_bytes("dense", dimension, dimension) + tail
    up = message_bytes(form, k, dimension) + tail
    timeline = round_timeline(
        0.0,
        fleet,
        participants,
        down,
        compute_seconds(
            fleet,
            participants,
            local_steps(config, sizes[participants]),
            [layer.stop - layer.start for layer in model.layers if layer.prunable],
            np.zeros(len(participants)),
        ),
        up,
    )
    return FirstRound(participants, k, down, up, timeline)


def first_k(config: Config, dimension: int) -> int:
    """The number of entries that a client sends in round 0."""
    section = config.sparsification
    if section.method == "dense":
        return dimension
    if section.k:
        return section.k
    fraction = (
        section.k_fraction if config.k_control.method == "fixed" else config.k_control.k_initial_fraction
    )
    return max(1, round(fraction * dimension))


def local_steps(config: Config, sizes: np.ndarray) -> np.ndarray:
    """Local steps of clients with ``sizes`` samples, in steps of ``batch_size`` samples, float64."""
    training = config.training
    if training.local_epochs:
        return training.local_epochs * sizes / training.batch_size
    return training.local_steps * np.minimum(sizes, training.batch_size) / training.batch_size
