"""The memory footprint of a run: what each rank will take, and what the ranks of a node share."""

from __future__ import annotations

import os

from fedmpi.config import Config
from fedmpi.experiment.parts import Parts
from fedmpi.federation.distribution import ServerData
from fedmpi.learning.activations import Activations
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.minibatches import CONVERTED_BYTES
from fedmpi.mpi.forkserver.stub import VARIABLE as FORKSERVER

_LIBRARIES_BYTES = 159 * 2**20
_FORKED_BYTES = 115 * 2**20
"""Memory of its own that a rank takes for Python with torch and MPI: alone, and forked from the process that imported
them, whose pages it has written to (measured after 150 rounds of the quickstart: torch 2.13 for the CPU)."""

_SHARED_BYTES = 111 * 2**20
_FORK_SERVER_BYTES = 149 * 2**20
"""Code of the same libraries, which the ranks of a node share, and the process from which they are forked."""

_SERVER_BYTES = 5 * 2**20
"""What the trace takes on rank 0."""

PER_CLIENT_BYTES = 400
"""What the server knows of each client: its device and links, samples, version (measured, benchmarks/scaling.py)."""

_WORKSPACE = 2
"""Where a rank trains, memory of activations in units of themselves: with kernels, and what the allocator keeps."""


def libraries_bytes(ranks: int) -> tuple[int, int]:
    """Memory for libraries: of a rank's own, and what the ranks of a node share."""
    if ranks == 1 or os.environ.get(FORKSERVER) == "off":
        return _LIBRARIES_BYTES, _SHARED_BYTES
    return _FORKED_BYTES, _SHARED_BYTES + _FORK_SERVER_BYTES


def memory_bytes(
    parts: Parts,
    model: FlatModel,
    data: ServerData,
    layers: Activations,
    blocks: list[range],
    rank: int,
    read_bytes: int = 0,
) -> int:
    """Memory of a rank whose home clients are ``blocks[rank]``; of what ranks share, its part.

    As if all ranks were on one node, whose rank 0 fills the memory with the samples that they share and is charged all
    of it, the others what they read. It counts the libraries but for the code that ranks share, the samples (rank 0
    holds the whole data set besides), what the server knows of each client, vectors of the model, what clients keep
    from round to round or until their updates are averaged, a group of converted batches, and activations in training
    and evaluation; on rank 0 the state of the aggregator, and all updates of a round where that needs them.
    ``read_bytes``: by how much reading the data set has made this process larger, with libraries and what stays behind.
    """
    config, dataset, block = parts.config, data.dataset, blocks[rank]
    libraries, _ = libraries_bytes(len(blocks))
    sample = dataset.train_x.nbytes // len(dataset.train_x) + dataset.train_y.itemsize
    test = dataset.test_x.nbytes + dataset.test_y.nbytes
    if rank == 0:
        clients = range(1) if data.samples.common else range(len(data.samples))
        held = dataset.train_x.nbytes + dataset.train_y.nbytes + test
        total = libraries + _SERVER_BYTES + max(held, read_bytes) + test
    else:
        clients, total = block, libraries + test // len(blocks)
    at = slice(clients.start, clients.stop)
    theirs = int(data.samples.sizes[at].sum())
    shared = theirs > len(dataset.train_y)  # the data set once, and which samples are whose
    total += len(dataset.train_y) * sample + 8 * theirs if shared else theirs * sample
    if config.experiment.evaluate_clients and data.own_tests is not None:
        total += int(data.own_tests.sizes[at].sum()) * sample
    total += _vectors_bytes(parts, model, blocks, rank)
    training = config.training
    passed = layers.largest * min(training.evaluation_batch_size, len(dataset.test_y))
    if len(block):
        batch = min(training.batch_size, int(data.samples.sizes[block.start : block.stop].max()))
        passed = _WORKSPACE * max(passed, layers.kept * batch)
        total += _converted_bytes(config, batch, 4 * dataset.train_x[0].size)
    return total + int(passed)


def _vectors_bytes(parts: Parts, model: FlatModel, blocks: list[range], rank: int) -> int:
    """Global weights and model; in training two steps' gradients and their sum; updates and what clients keep."""
    vector, parameters = 4 * model.vector.numel(), 4 * model.parameter_count
    clients = parts.config.clients
    total, own = 2 * vector, len(blocks[rank])
    kept = own if clients.state == "memory" else 0
    if rank == 0:
        total += clients.count * PER_CLIENT_BYTES
    if rank == 0:
        aggregator, participants = parts.aggregator, clients.per_round or clients.count
        each = aggregator.bytes_per_parameter + 4 * participants * aggregator.needs_updates
        total += each * model.parameter_count
    rows = -(-(clients.per_round or clients.count) // sum(len(block) > 0 for block in blocks))
    if parts.pruning.importance:
        total += _importance_memory(parts, parameters, len(blocks), kept, rows, rank == 0, own > 0)
    if parts.pruning.own_mask is not None:  # votes, and sums in float64 with what they make
        total += 4 * parameters
    if not parts.sends_all:
        return total + (kept * parameters + 3 * parameters if own else 0)
    total += 2 * vector + vector // len(blocks)  # sums in fixed point, and the mean that ranks share
    if own:
        total += 2 * parameters + rows * vector
        total += kept * vector if parts.period(model.parameter_count) > 1 else 0
    return total


def _importance_memory(
    parts: Parts, vector: int, ranks: int, kept: int, rows: int, server: bool, trains: bool
) -> int:
    """Memory for importance, with float32 vectors of so many bytes: what clients keep, and sums over them.

    Whole vectors are summed as updates are, and twice in float64; pairs in float64 on the server, where what is
    received has a sum of its own.
    """
    whole = parts.clients_keep_importance and parts.config.pruning.importance == "full"
    own = kept * vector if trains and parts.clients_keep_importance else 0
    if whole:
        return own + 6 * vector + vector // ranks + (rows * vector if trains else 0)
    message = 2 * vector if trains else 0  # what may be sent, and where that lies
    received = 2 * vector if parts.config.pruning.importance == "received" else 0
    return own + message + (received + 7 * vector if server else 0)


def _converted_bytes(config: Config, batch: int, sample_bytes: int) -> int:
    """The samples of all steps as float32, as far as they are converted at once."""
    steps = config.training.local_epochs or config.training.local_steps
    return max(batch * sample_bytes, min(CONVERTED_BYTES, steps * batch * sample_bytes))
