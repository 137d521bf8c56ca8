"""How training samples are divided among clients."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig

Parts = list[np.ndarray]


def partition(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """The samples of each client: rising int64 positions in ``labels``.

    ``labels`` int64 (n,); ``writers`` int64 (n,) or None. No sample is at two clients, but for ``case3``,
    where every client has all samples: then all items of the list are one and the same read-only array. Every
    sample goes to a client unless ``samples_per_client`` is set: then ``iid`` gives exactly that many to
    each, and the others keep a random choice of at most that many, each client its own. ConfigError when a
    client would have none, and when the partition cannot be made.

    ``case1`` to ``case4`` are the divisions of the FAB-top-k experiments (Han, Wang and Leung, ICDCS 2020),
    which draw nothing; its one class per client is ``by_label`` or ``case2``.
    """
    if config.partition not in PARTITIONS:
        problem = f"there is no partition {config.partition!r}"
        raise ConfigError("data.partition", problem, ", ".join(PARTITIONS))
    if clients > labels.size and config.partition != "case3":  # found out before so many are made
        raise _left_empty(config.partition, labels.size, clients, labels.size)
    parts = PARTITIONS[config.partition](config, labels, writers, clients, rng)
    for client, part in enumerate(parts):
        if part.size == 0:
            raise _left_empty(config.partition, client, clients, labels.size)
    if config.samples_per_client > 0:
        parts = [_at_most(part, config.samples_per_client, rng) for part in parts]
    return [_rising(part) for part in parts]


def _left_empty(name: str, client: int, clients: int, samples: int) -> ConfigError:
    problem = f"{name} leaves client {client} of {clients} without any of {samples} samples"
    return ConfigError("data.partition", problem, _REMEDIES[name])


def _rising(part: np.ndarray) -> np.ndarray:
    """``part`` itself where it rises already, so that clients who share one array go on sharing it."""
    return part if (np.diff(part) > 0).all() else np.sort(part)


def _at_most(part: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return part if part.size <= size else rng.choice(part, size, replace=False, shuffle=False)


def _iid(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """A random order of the samples, cut into parts whose sizes differ by at most one."""
    needed = clients * config.samples_per_client
    if needed > labels.size:
        problem = f"{clients} clients of {config.samples_per_client} samples need {needed}"
        raise ConfigError("data.samples_per_client", problem, f"at most {labels.size // clients}")
    order = rng.permutation(labels.size)
    return np.array_split(order[:needed] if needed else order, clients)


def _by_writer(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Each client gets all samples of one writer, or of several neighbouring ones if clients are fewer."""
    if writers is None:
        problem = f"the data set {config.dataset} does not know who wrote its samples"
        raise ConfigError("data.partition", problem, "a partition other than by_writer")
    ids, positions = np.unique(writers, return_inverse=True)
    if ids.size < clients:
        problem = f"by_writer cannot divide {ids.size} writers among {clients} clients"
        raise ConfigError("clients.count", problem, f"1 to {ids.size}")
    client_of_writer = np.repeat(np.arange(clients), [part.size for part in np.array_split(ids, clients)])
    return _grouped(client_of_writer[positions], clients)


def _by_label(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Client i holds the labels i, i + 1, ... (``labels_per_client`` of them, modulo the classes).

    The samples of a label are divided evenly, at random, among the clients that hold it. ConfigError where
    a label is at no client.
    """
    present = np.unique(labels)
    width = config.labels_per_client
    if not 1 <= width <= present.size:
        problem = f"{width} labels for each client"
        raise ConfigError("data.labels_per_client", problem, f"1 to {present.size}")
    if clients + width - 1 < present.size:
        problem = f"{clients} clients of {width} labels leave labels of {present.size} at no client"
        raise ConfigError("data.labels_per_client", problem, f"at least {present.size - clients + 1}")
    holders: list[list[int]] = [[] for _ in present]
    for client in range(clients):
        for offset in range(width):
            holders[(client + offset) % present.size].append(client)
    owner = np.empty(labels.size, dtype=np.int64)
    for label, clients_of_label in zip(present, holders, strict=True):
        members = rng.permutation(np.flatnonzero(labels == label))
        for client, part in zip(
            clients_of_label, np.array_split(members, len(clients_of_label)), strict=True
        ):
            owner[part] = client
    return _grouped(owner, clients)


def _dirichlet(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Each class is divided in proportions drawn from Dirichlet(alpha) (Hsu, Qi and Brown 2019)."""
    if not 0.0 < config.alpha < np.inf:
        raise ConfigError("data.alpha", f"dirichlet got {config.alpha}", "a finite number above 0")
    owner = np.empty(labels.size, dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        counts = _largest_remainder(rng.dirichlet(np.full(clients, config.alpha)), members.size)
        owner[members] = np.repeat(np.arange(clients), counts)
    return _grouped(owner, clients)


def _largest_remainder(proportions: np.ndarray, total: int) -> np.ndarray:
    """Integers in the given proportions that sum to ``total``; equal remainders favour the first."""
    shares = proportions / proportions.sum() * total
    counts = np.floor(shares).astype(np.int64)
    largest = np.argsort(counts - shares, kind="stable")
    counts[largest[: total - counts.sum()]] += 1
    return counts


def _shards(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Samples sorted by label are cut into shards, dealt at random (McMahan et al. 2017, section 3)."""
    per_client = config.shards_per_client
    if per_client < 1 or per_client * clients > labels.size:
        problem = f"{clients} clients of {per_client} shards for {labels.size} samples"
        raise ConfigError("data.shards_per_client", problem, f"1 to {labels.size // clients}")
    shards = np.array_split(np.argsort(labels, kind="stable"), clients * per_client)
    dealt = rng.permutation(len(shards)).reshape(clients, per_client)
    return [np.concatenate([shards[shard] for shard in hand]) for hand in dealt]


def _case1(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Round robin: client i of N gets the samples i, i + N, i + 2 N, ..."""
    return _grouped(np.arange(labels.size) % clients, clients)


def _case2(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Client i gets label i modulo the classes, or of more labels than clients i, i + N, i + 2 N, ...

    The samples of a label are dealt in turn to the clients that have it.
    """
    return _grouped(_dealt_by_label(labels, clients), clients)


def _case3(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """Everyone has everything."""
    everything = np.arange(labels.size)
    everything.flags.writeable = False
    return [everything] * clients


def _case4(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """The first half of the clients as in ``case1`` over the lower labels, the second as in ``case2`` over the upper.

    Of an odd number of labels the middle one is a lower one, of clients the middle one is in the first half.
    """
    present = np.unique(labels)
    if clients < 2 or present.size < 2:
        problem = f"case4 cannot halve {clients} clients and {present.size} labels"
        raise ConfigError("data.partition", problem, "case4 with at least 2 of each")
    first_half = -(-clients // 2)
    is_lower = labels < present[-(-present.size // 2)]
    owner = np.empty(labels.size, dtype=np.int64)
    owner[is_lower] = np.arange(np.count_nonzero(is_lower)) % first_half
    owner[~is_lower] = first_half + _dealt_by_label(labels[~is_lower], clients - first_half)
    return _grouped(owner, clients)


def _dealt_by_label(labels: np.ndarray, clients: int) -> np.ndarray:
    """The int64 client of each sample, see ``_case2``."""
    present, positions = np.unique(labels, return_inverse=True)
    owner = positions % clients
    if clients > present.size:
        for label in range(present.size):
            holders = np.arange(label, clients, present.size)
            members = np.flatnonzero(positions == label)
            owner[members] = holders[np.arange(members.size) % holders.size]
    return owner


def _grouped(owner: np.ndarray, clients: int) -> Parts:
    """Positions by their owner, an int64 client for each position."""
    order = np.argsort(owner, kind="stable")
    return np.split(order, np.cumsum(np.bincount(owner, minlength=clients))[:-1])


PARTITIONS: dict[
    str, Callable[[DataConfig, np.ndarray, np.ndarray | None, int, np.random.Generator], Parts]
] = {
    "iid": _iid,
    "by_writer": _by_writer,
    "by_label": _by_label,
    "dirichlet": _dirichlet,
    "shards": _shards,
    "case1": _case1,
    "case2": _case2,
    "case3": _case3,
    "case4": _case4,
}

_REMEDIES = {
    "iid": "clients.count up to the number of samples",
    "by_writer": "clients.count up to the number of writers",
    "by_label": "fewer clients.count, or more labels_per_client",
    "dirichlet": "a larger data.alpha, fewer clients.count, or another experiment.seed",
    "shards": "fewer clients.count or shards_per_client",
    "case1": "clients.count up to the number of samples",
    "case2": "fewer clients.count",
    "case3": "a data set with training samples",
    "case4": "fewer clients.count",
}
