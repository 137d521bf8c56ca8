"""How training samples are divided among clients."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi.config import parts
from fedmpi.config.errors import ConfigError
from fedmpi.config.guarding import Guard, read_only
from fedmpi.config.schema import DataConfig
from fedmpi.learning.division import Division
from fedmpi.numerics.apportionment import largest_remainder

BUILT_IN = {
    name: f"fedmpi.learning.partition:{name}"
    for name in ("iid", "by_writer", "by_label", "dirichlet", "shards", "case1", "case2", "case3", "case4")
}
"""Functions of labels, writers (None: not known), the number of clients and a generator; parameters that are keys of
``[data]`` get their values."""

Labels = NDArray[np.int64]
Parts = Division

_KEY = "data.partition"


def partition(
    config: DataConfig, labels: np.ndarray, writers: np.ndarray | None, clients: int, rng: np.random.Generator
) -> Parts:
    """The samples of each client: rising int64 positions in ``labels``. ``rng`` is the only source of randomness; the
    global generators of torch, NumPy and Python are seeded by it for a function of one's own.

    ``labels`` int64 (n,); ``writers`` int64 (n,) or None. No sample is at two clients, but for ``case3``,
    where every client has all samples: then all items are one and the same read-only array. Every
    sample goes to a client unless ``samples_per_client`` is set: then ``iid`` gives exactly that many to
    each, and the others keep a random choice of at most that many, each client its own. ConfigError when a
    client would have none, and when the partition cannot be made.

    ``case1`` to ``case4`` are the divisions of the FAB-top-k experiments (Han, Wang and Leung, ICDCS 2020),
    which draw nothing; its one class per client is ``by_label`` or ``case2``.
    """
    name = config.partition
    options = parts.options_taken(_KEY, name, config.options)
    divide = parts.function(_KEY, name, options, parts.settings_of(config))
    if clients > labels.size and name in BUILT_IN and name != "case3":  # found out before so many are made
        raise _left_empty(name, labels.size, clients, labels.size)
    if name in BUILT_IN:
        divided = divide(labels, writers, clients, rng)
    else:
        from fedmpi.learning.seeding import seeded  # and torch, which nothing else here needs

        arrays = read_only(labels), None if writers is None else read_only(writers)
        guard, before = Guard(_KEY, name, may_draw=True), deepcopy(rng)
        seed = int(deepcopy(rng).integers(2**63))

        def divided_by(draw: np.random.Generator) -> Any:
            with seeded(seed):  # so that global draws are the same on all ranks
                return guard.call("the function", divide, *arrays, clients, draw)

        divided = divided_by(rng)
        check_positions(name, divided, labels.size, clients)
        guard.must_agree(
            "the function", divided, divided_by(before)
        )  # as a run that is resumed divides again
    division = divided if isinstance(divided, Division) else Division.of(divided)
    if not division.sizes.all():
        raise _left_empty(name, int(division.sizes.argmin()), clients, labels.size)
    most = config.samples_per_client
    if 0 < most < division.sizes.max():
        division = Division.of([_at_most(part, most, rng) for part in division])
    return division.in_order()


def check_positions(name: str, divided: object, samples: int, clients: int) -> None:
    """Raise ConfigError for what the partition ``name`` gave, unless it is positions of ``samples`` for each client."""
    if not isinstance(divided, (list, Division)) or len(divided) != clients:
        found = f"a list of {len(divided)}" if isinstance(divided, list) else f"a {type(divided).__name__}"
        raise ConfigError(_KEY, f"{name!r} gave {found}", f"a list of {clients} arrays, one for each client")
    for client, part in enumerate(divided):
        if not isinstance(part, np.ndarray) or part.ndim != 1 or part.dtype.kind != "i":
            raise ConfigError(_KEY, f"{name!r} gave client {client} no array of integers", "int64 positions")
    ordered = Division.of(divided).in_order()
    out_of_range = (ordered.positions < 0) | (ordered.positions >= samples)
    twice = np.diff(ordered.positions, prepend=-1) == 0
    begins = np.zeros(1, np.int64) if ordered.common else ordered.starts[:-1]
    twice[begins[ordered.sizes[: len(begins)] > 0]] = False
    if (wrong := out_of_range | twice).any():
        client = int(np.searchsorted(ordered.starts, int(wrong.argmax()), side="right")) - 1
        problem = f"{name!r} gave client {client} positions that are out of range or there twice"
        raise ConfigError(_KEY, problem, f"distinct positions from 0 to {samples - 1}")


def _left_empty(name: str, client: int, clients: int, samples: int) -> ConfigError:
    problem = f"{name} leaves client {client} of {clients} without any of {samples} samples"
    return ConfigError("data.partition", problem, _REMEDIES.get(name, _REMEDY))


def _at_most(part: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    return part if part.size <= size else rng.choice(part, size, replace=False, shuffle=False)


def iid(
    labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator, samples_per_client: int
) -> Parts:
    """A random order of the samples, cut into parts whose sizes differ by at most one."""
    needed = clients * samples_per_client
    if needed > labels.size:
        problem = f"{clients} clients of {samples_per_client} samples need {needed}"
        raise ConfigError("data.samples_per_client", problem, f"at most {labels.size // clients}")
    order = rng.permutation(labels.size)
    order = order[:needed] if needed else order
    size, larger = divmod(order.size, clients)
    return Division.cut(order, size + (np.arange(clients) < larger))


def by_writer(labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator) -> Parts:
    """Each client gets all samples of one writer, or of several neighbouring ones if clients are fewer."""
    if writers is None:
        problem = "the data set does not say who wrote its samples"
        raise ConfigError("data.partition", problem, "a partition other than by_writer")
    ids, positions = np.unique(writers, return_inverse=True)
    if ids.size < clients:
        problem = f"by_writer cannot divide {ids.size} writers among {clients} clients"
        raise ConfigError("clients.count", problem, f"1 to {ids.size}")
    client_of_writer = np.repeat(np.arange(clients), [part.size for part in np.array_split(ids, clients)])
    return _grouped(client_of_writer[positions], clients)


def by_label(
    labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator, labels_per_client: int
) -> Parts:
    """Client i holds the labels i, i + 1, ... (``labels_per_client`` of them, modulo the classes).

    The samples of a label are divided evenly, at random, among the clients that hold it. ConfigError where
    a label is at no client.
    """
    present = np.unique(labels)
    width = labels_per_client
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


def dirichlet(
    labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator, alpha: float
) -> Parts:
    """Each class is divided in proportions drawn from Dirichlet(alpha) (Hsu, Qi and Brown 2019)."""
    if not 0.0 < alpha < np.inf:
        raise ConfigError("data.alpha", f"dirichlet got {alpha}", "a finite number above 0")
    owner = np.empty(labels.size, dtype=np.int64)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        counts = largest_remainder(rng.dirichlet(np.full(clients, alpha)), members.size)
        owner[members] = np.repeat(np.arange(clients), counts)
    return _grouped(owner, clients)


def shards(
    labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator, shards_per_client: int
) -> Parts:
    """Samples sorted by label are cut into shards, dealt at random (McMahan et al. 2017, section 3)."""
    per_client = shards_per_client
    if per_client < 1 or per_client * clients > labels.size:
        problem = f"{clients} clients of {per_client} shards for {labels.size} samples"
        raise ConfigError("data.shards_per_client", problem, f"1 to {labels.size // clients}")
    shards = np.array_split(np.argsort(labels, kind="stable"), clients * per_client)
    dealt = rng.permutation(len(shards)).reshape(clients, per_client)
    return Division.of([np.concatenate([shards[shard] for shard in hand]) for hand in dealt])


def case1(labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator) -> Parts:
    """Round robin: client i of N gets the samples i, i + N, i + 2 N, ..."""
    return _grouped(np.arange(labels.size) % clients, clients)


def case2(labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator) -> Parts:
    """Client i gets label i modulo the classes, or of more labels than clients i, i + N, i + 2 N, ...

    The samples of a label are dealt in turn to the clients that have it.
    """
    return _grouped(_dealt_by_label(labels, clients), clients)


def case3(labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator) -> Parts:
    """Everyone has everything."""
    everything = np.arange(labels.size)
    everything.flags.writeable = False
    return Division.shared(everything, clients)


def case4(labels: Labels, writers: Labels | None, clients: int, rng: np.random.Generator) -> Parts:
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
    """The int64 client of each sample, see ``case2``."""
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
    return Division.cut(order, np.bincount(owner, minlength=clients))


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

_REMEDY = "fewer clients.count, or another data.partition"
