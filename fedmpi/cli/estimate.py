"""What an experiment will need: the memory of each rank, and the bytes and times of its first round."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from fedmpi.config import Config
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.experiment.parts import Parts
from fedmpi.federation.accounts import Charges, Work, make_accountant
from fedmpi.federation.plan import Action, RoundPlan, draw_participants, local_steps
from fedmpi.k_control.start import start
from fedmpi.learning.datasets import Dataset
from fedmpi.learning.flat import FlatModel
from fedmpi.pruning.exchange import ActiveValues, new_mask_bytes
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification import SparseMethod
from fedmpi.sparsification.wire import message_bytes

_LIBRARIES_BYTES = 145 * 10**6
"""Resident memory of Python with torch, MPI and HDF5 (measured: torch 2.13 for the CPU)."""

_VECTORS = 5
"""Flat vectors of the model that a rank holds at once: global, model, gradient, sum of directions, step."""


@dataclass(frozen=True)
class FirstRound:
    """The first round: ``k`` entries of each of ``participants``, bytes of one of them, times of all.

    ``left_out`` names what the run will add to the bytes or times, ``bound`` says that times are upper bounds.
    """

    participants: np.ndarray
    k: int
    bytes_down: int
    bytes_up: int
    timeline: Charges
    left_out: tuple[str, ...]
    bound: bool


def memory_bytes(
    parts: Parts, model: FlatModel, dataset: Dataset, samples: list[np.ndarray], block: range, rank: int
) -> int:
    """Memory of a rank whose home clients are ``block``, without the activations of the model.

    Rank 0 reads the whole data set before it hands out the samples, and has the state of the aggregator, and all
    updates of a round where that needs them.
    """
    sample = dataset.train_x.nbytes // len(dataset.train_x) + dataset.train_y.itemsize
    mine = sum(len(samples[client]) for client in block)
    test = dataset.test_x.nbytes + dataset.test_y.nbytes
    whole = dataset.train_x.nbytes + dataset.train_y.nbytes if rank == 0 else 0
    vector = 4 * model.vector.numel()
    if not parts.sends_all:
        kept = len(block) * 4 * model.parameter_count
    else:  # updates of a round, and what clients carry between exchanges
        kept = len(block) * vector * (1 + (parts.period(model.parameter_count) > 1)) + 2 * vector
    if rank == 0:
        participants = parts.config.clients.per_round or parts.config.clients.count
        each = parts.aggregator.bytes_per_parameter + 4 * participants * parts.aggregator.needs_updates
        kept += each * model.parameter_count
    return _LIBRARIES_BYTES + whole + mine * sample + test + _VECTORS * vector + kept


def first_round(
    parts: Parts, model: FlatModel, fleet: Fleet, sizes: np.ndarray, mask: Mask | None = None
) -> FirstRound:
    """Bytes and emulated times of round 0, as the run's own accountant charges them.

    ``sizes`` (N,) are the clients' samples. Everybody downloads the whole model, of a lottery ticket with its ``mask``.
    Jitter, the losses that k is chosen by, and the time of training that is to be ``measured`` are left out. Where the
    time of a round holds the download of its own result, ``unidirectional`` is taken to send as much as clients that
    agree in nothing would get.
    """
    config, tail = parts.config, 4 * model.buffer_count
    present = Mask(model.parameter_count) if mask is None else mask
    dimension = present.count
    if parts.sends_all:
        dimension = ActiveValues(present, model.layers).count
    participants = draw_participants(
        config.experiment.seed, 0, fleet.availability.clients(0, 0.0), config.clients.per_round
    )
    k = min(first_k(parts, model.parameter_count), dimension)
    sent = dimension if parts.sends_all else k
    if parts.period(model.parameter_count) > 1:
        sent = 0
    down = message_bytes("dense", dimension, dimension) + tail
    down += 0 if mask is None else new_mask_bytes(mask, model.layers)
    up = parts.codec.message_bytes(sent, dimension) + tail if sent else 0
    prunable = [layer for layer in model.layers if layer.prunable]
    training = LocalTraining.of(
        participants,
        local_steps(config, sizes[participants]),
        present.active_per_layer(prunable),
        density=present.density(model.layers),
        host_s=0.0,
    )
    compute_s = fleet.compute.seconds(training)
    each = np.ones(len(participants), dtype=np.int64)
    plan = RoundPlan(
        round_index=0,
        action=Action.NONE,
        k=k,
        k_probe=0,
        learning_rate=config.training.learning_rate,
        start_s=0.0,
        participants=participants,
    )
    accountant = make_accountant(
        config, replace(fleet, jitter_s=0.0), model.parameter_count, positions_sent=not parts.sends_all
    )
    charges = accountant.round(plan, Work(down * each, compute_s, sent * each, up * each))
    unknown = isinstance(parts.sparsification, SparseMethod) and not parts.sparsification.at_most_k_down
    k_down = min(dimension, len(participants) * sent) if unknown else sent
    absent = {
        "jitter": fleet.jitter_s > 0,
        "the time of training, which is measured when it runs": fleet.compute.model.needs_host_time,
        "the losses by which k is chosen": parts.k_control.measures_losses,
    }
    return FirstRound(
        participants=participants,
        k=k,
        bytes_down=down,
        bytes_up=up,
        timeline=accountant.close(plan, charges, k_down, None),
        left_out=tuple(name for name, left_out in absent.items() if left_out),
        bound=unknown and config.emulation.compute.model == "normalized",
    )


def initial_round_s(config: Config, model: FlatModel, fleet: Fleet, samples: int) -> float:
    """Emulated seconds of the first local round of initial pruning at its client, on ``samples`` of its samples."""
    steps = samples / config.training.batch_size
    prunable = [layer.stop - layer.start for layer in model.layers if layer.prunable]
    client = np.array([config.pruning.initial.client])
    return float(fleet.compute.seconds(LocalTraining.of(client, steps, prunable, density=1.0))[0])


def first_k(parts: Parts, dimension: int) -> int:
    """The k of round 0, as its controller starts."""
    return start(parts.config, parts.k_control, dimension, parts.fixed_k(dimension)).k
