"""A partition: client i of N gets every N-th sample, and a share of the next one's."""

import numpy as np


def overlapping_strides(labels, writers, clients, draw, shared_fraction: float = 0.1):
    own = [np.arange(client, labels.size, clients) for client in range(clients)]
    parts = []
    for client, part in enumerate(own):
        following = own[(client + 1) % clients]
        parts.append(np.unique(np.concatenate([part, following[: int(shared_fraction * following.size)]])))
    return parts
