"""Set-up: the server reads the data set once and hands every group of ranks the samples of its clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import parts
from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import Config
from fedmpi.federation.client import ClientData
from fedmpi.learning.datasets import Dataset, load
from fedmpi.learning.division import Division
from fedmpi.learning.own_tests import hold_back, of_writers
from fedmpi.learning.partition import partition
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.numerics.streams import Purpose, generator


@dataclass(frozen=True)
class DataFacts:
    """What every rank must know of the data set before any sample arrives.

    ``sizes`` int64 (N,): samples of each client; ``common``: all clients have the very same samples, which are then
    kept once. ``own_test_sizes`` int64: how many test samples of its own each client has; empty where that is not
    defined.
    """

    input_shape: tuple[int, ...]
    classes: int
    sizes: NDArray[np.int64]
    train_samples: int
    test_samples: int
    dtype: str
    common: bool
    own_test_sizes: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))


@dataclass(frozen=True)
class ServerData:
    """The data set as the server read it, and the training samples of each client.

    ``own_tests``: positions of each client's own test samples, among the training samples where they were
    ``held_back``, else among the test samples; None where clients have none of their own.
    """

    dataset: Dataset
    samples: Division
    own_tests: Division | None = None
    held_back: bool = False

    def facts(self) -> DataFacts:
        return DataFacts(
            input_shape=tuple(self.dataset.train_x.shape[1:]),
            classes=self.dataset.classes,
            sizes=self.samples.sizes,
            train_samples=len(self.dataset.train_y),
            test_samples=len(self.dataset.test_y),
            dtype=self.dataset.train_x.dtype.str,
            common=self.samples.common,
            own_test_sizes=np.zeros(0, np.int64) if self.own_tests is None else self.own_tests.sizes,
        )


def read_data(config: Config) -> ServerData:
    """Load and partition the data set (server only). Raises DataError and ConfigError with the key or file."""
    section = config.data
    parts.check_shared_options(
        {"data.dataset": section.dataset, "data.partition": section.partition}, section.options
    )
    dataset = load(section)
    draw = generator(config.experiment.seed, Purpose.PARTITION)
    samples = partition(config.data, dataset.train_y, dataset.train_writer, config.clients.count, draw)
    if section.client_test_fraction:
        kept, held = hold_back(samples, section.client_test_fraction, config.experiment.seed)
        data = ServerData(dataset, kept, held, held_back=True)
    else:
        data = ServerData(dataset, samples, of_writers(dataset.train_writer, dataset.test_writer, samples))
    if config.experiment.evaluate_clients and not data.facts().own_test_sizes.any():
        problem = (
            f'found true, and no client has test samples of its own in data set "{section.dataset}" by partition '
            f'"{section.partition}"'
        )
        allowed = (
            "false, data.client_test_fraction above 0, or by_writer where writers of test samples are known"
        )
        raise ConfigError("experiment.evaluate_clients", problem, allowed)
    return data


def distribute_training(
    ranks: Ranks, memory: GroupMemory, placement: Placement, facts: DataFacts, data: ServerData | None
) -> ClientData:
    """Hand every group the samples of its own clients, one client after the other.

    A group whose clients together have more samples than there are gets all of them, and which are whose.
    """
    sizes = facts.sizes
    begins = np.full(placement.clients, -1, dtype=np.int64)
    group = placement.group_of(ranks.rank)
    mine = placement.clients_of_group(group)
    begins[mine] = 0 if facts.common else np.cumsum(sizes[mine]) - sizes[mine]
    counts = [_samples_of(placement.clients_of_group(n), facts) for n in range(len(placement.groups))]
    count = min(counts[group], facts.train_samples)
    x = memory.allocate((count, *facts.input_shape), np.dtype(facts.dtype))
    y = memory.allocate((count,), np.dtype(np.int64))
    shared = counts[group] > facts.train_samples
    rows = memory.allocate((counts[group] if shared else 0,), np.dtype(np.int64))
    for number, members in enumerate(placement.groups):
        pick = source_x = source_y = None
        if data is not None:
            clients = placement.clients_of_group(number)
            pick = data.samples.of_clients(clients[:1] if facts.common else clients)
            source_x, source_y = data.dataset.train_x, data.dataset.train_y
        if counts[number] > facts.train_samples:
            _hand_over(ranks, members, pick, None, rows)
            pick = None
        _hand_over(ranks, members, source_x, pick, x)
        _hand_over(ranks, members, source_y, pick, y)
    ranks.barrier()
    return ClientData(x, y, begins, sizes, rows if shared else None)


def _samples_of(clients: NDArray[np.int64], facts: DataFacts) -> int:
    """How many samples ``clients`` have, those that all share once."""
    return int(facts.sizes[clients[:1] if facts.common else clients].sum())


def distribute_test(
    ranks: Ranks, memory: GroupMemory, placement: Placement, facts: DataFacts, data: ServerData | None
) -> tuple[NDArray[Any], NDArray[Any]]:
    """Hand every group the whole test set."""
    x = memory.allocate((facts.test_samples, *facts.input_shape), np.dtype(facts.dtype))
    y = memory.allocate((facts.test_samples,), np.dtype(np.int64))
    for members in placement.groups:
        _hand_over(ranks, members, None if data is None else data.dataset.test_x, None, x)
        _hand_over(ranks, members, None if data is None else data.dataset.test_y, None, y)
    ranks.barrier()
    return x, y


def _hand_over(
    ranks: Ranks,
    members: tuple[int, ...],
    source: NDArray[Any] | None,
    pick: NDArray[Any] | None,
    target: NDArray[Any],
) -> None:
    """Bring ``source[pick]`` (None: all) from the server into ``target`` on the first rank of a group."""
    leader = members[0]
    if ranks.is_server:
        assert source is not None
        if leader != 0:
            picked = source if pick is None else source[pick]
            ranks.send(np.ascontiguousarray(picked, dtype=target.dtype), leader)
        elif pick is None:
            target[...] = source
        else:
            np.take(source, pick, axis=0, out=target, mode="clip")  # which, unlike "raise", needs no copy
    elif ranks.rank == leader:
        ranks.receive(target, 0)
