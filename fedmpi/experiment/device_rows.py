"""Who the clients are: the rows of the trace's table ``devices``."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.emulation.devices import Fleet
from fedmpi.federation.distribution import ServerData
from fedmpi.learning.division import Division
from fedmpi.trace.schema import UNKNOWN

_BITS = 64
"""Of so many values or fewer, those that a client has are bits of one number."""


def device_rows(fleet: Fleet, data: ServerData) -> dict[str, Any]:
    """The columns of ``devices``, a row for each client in client order."""
    facts = data.facts()
    writers = data.dataset.train_writer
    return {
        "client": np.arange(len(data.samples)),
        "device": list(fleet.device_names),
        "uplink_bytes_per_s": fleet.uplink.bytes_per_s,
        "downlink_bytes_per_s": fleet.downlink.bytes_per_s,
        "latency_s": fleet.latency_s,
        "samples": facts.sizes,
        "test_samples": facts.own_test_sizes if facts.own_test_sizes.size else 0,
        "labels": _distinct(data.dataset.train_y, data.samples),
        "writers": UNKNOWN if writers is None else _distinct(writers, data.samples),
    }


def _distinct(values: np.ndarray, samples: Division) -> np.ndarray:
    """How many distinct ``values`` the samples of each client have, int64."""
    if samples.common:
        return np.full(len(samples), np.unique(values[samples[0]]).size)
    present, numbers = np.unique(values, return_inverse=True)
    numbers = numbers[samples.positions]
    if present.size <= _BITS and samples.sizes.all():
        flags = np.bitwise_or.reduceat(np.uint64(1) << numbers.astype(np.uint64), samples.starts[:-1])
        distinct = np.zeros(len(samples), np.int64)
        for bit in range(present.size):
            distinct += ((flags >> np.uint64(bit)) & np.uint64(1)).astype(np.int64)
        return distinct
    clients = np.repeat(np.arange(len(samples)), samples.sizes)
    pairs = np.unique(clients * present.size + numbers)
    return np.bincount(pairs // present.size, minlength=len(samples))
