"""Checks of a data set and of a partition: what they give, and that every rank would be given the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.config.guarding import Guard, read_only
from fedmpi.testing.asserting import asserting

_MOST_CLIENTS = 8


@asserting
def check_dataset(read: Callable[[Path], Any], folder: str | Path = ".") -> None:
    """Read the data set twice from ``folder``; ``functools.partial`` sets its options.

    Raises AssertionError, in one line, where it gives no ``Dataset`` of the shapes, types and values that fedmpi trains
    on, or another one the second time. Global generators are seeded as in a run.
    """
    from fedmpi.learning.datasets import check_samples  # which imports torch
    from fedmpi.learning.seeding import seeded

    guard = Guard("check_dataset", getattr(read, "__name__", "the data set"), thorough=True, may_draw=True)
    given = []
    for _ in range(2):
        with seeded(0):
            given.append(guard.call("the function", read, Path(folder)))
    check_samples(guard.name, given[0])
    guard.must_agree("the function", *given)


@asserting
def check_partition(divide: Callable[..., Any], examples: int = 20, *, classes: int = 5) -> None:
    """Divide ``examples`` random sets of samples of ``classes``, each with the same generator twice.

    Raises AssertionError, in one line, where a client's positions are out of range, there twice or not integers; where
    a client gets nothing though there are 20 samples for each; where the same generator gives another division; and
    where labels are changed. Global generators are seeded as in a run.
    """
    from fedmpi.learning.partition import check_positions  # which imports torch
    from fedmpi.learning.seeding import seeded

    guard = Guard(
        "check_partition", getattr(divide, "__name__", "the partition"), thorough=True, may_draw=True
    )
    for seed in range(examples):
        rng = np.random.default_rng(seed)
        clients = int(rng.integers(1, _MOST_CLIENTS + 1))
        labels = read_only(rng.integers(0, classes, 20 * clients))
        writers = read_only(np.sort(rng.integers(0, 2 * clients, labels.size)))
        given = []
        for _ in range(2):
            with seeded(seed):
                rng = np.random.default_rng(seed)
                given.append(guard.call("the function", divide, labels, writers, clients, rng))
        check_positions(guard.name, given[0], labels.size, clients)
        for client, part in enumerate(given[0]):
            if not len(part):
                guard.refuse(
                    "the function", f"gave client {client} no sample", "at least one for each client"
                )
        guard.must_agree("the function", *given)
