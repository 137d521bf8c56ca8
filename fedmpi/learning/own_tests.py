"""Which test samples are a client's own: held back from its training samples, or written by its writers."""

from __future__ import annotations

from math import ceil

import numpy as np

from fedmpi.learning.division import Division
from fedmpi.numerics.streams import Purpose, generator


def hold_back(samples: Division, fraction: float, seed: int) -> tuple[Division, Division]:
    """Divide each client's ``samples`` (rising positions) into those to train with and those to test with.

    A ``fraction`` of them, rounded up, is drawn for testing, by a stream of the client's own; one sample at least is
    left for training, so a client of one sample has none to test with. Clients that share one array share what is
    held back of it.
    """
    if samples.common:
        train, test = _divided(samples[0], fraction, seed, 0)
        return Division.shared(train, len(samples)), Division.shared(test, len(samples))
    divided = [_divided(part, fraction, seed, client) for client, part in enumerate(samples)]
    return Division.of([train for train, _ in divided]), Division.of([test for _, test in divided])


def _divided(part: np.ndarray, fraction: float, seed: int, client: int) -> tuple[np.ndarray, np.ndarray]:
    share = ceil(round(fraction * part.size, 9))  # 0.1 * 30 is a little above 3
    order = generator(seed, Purpose.CLIENT_TESTS, client=client).permutation(part.size)
    is_test = np.zeros(part.size, dtype=bool)
    is_test[order[: min(share, part.size - 1)]] = True
    return part[~is_test], part[is_test]


def of_writers(
    train_writer: np.ndarray | None, test_writer: np.ndarray | None, samples: Division
) -> Division | None:
    """The test samples, rising positions in ``test_writer``, of the writers of each client's training ``samples``.

    None where writers are not known, or one has training samples at several clients: then nobody's client owns them.
    Test samples of writers that are at no client are left out.
    """
    if train_writer is None or test_writer is None:
        return None
    writers, positions = np.unique(train_writer, return_inverse=True)
    owner = np.full(writers.size, -1)
    for client, part in enumerate(samples):
        present = np.unique(positions[part])
        if (owner[present] >= 0).any():
            return None
        owner[present] = client
    found = np.minimum(np.searchsorted(writers, test_writer), writers.size - 1)
    client_of_sample = np.where(writers[found] == test_writer, owner[found], -1)
    order = np.argsort(client_of_sample, kind="stable")
    starts = np.searchsorted(client_of_sample[order], np.arange(len(samples) + 1))
    return Division(order, starts)
