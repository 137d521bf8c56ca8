"""Random streams keyed by (seed, purpose, round, client), never by rank.

Whoever draws for a purpose gets the same numbers wherever it runs, so that nothing random depends on how
clients are laid on ranks, nor on what was drawn before: a resumed run needs no generator state.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is drawn for. The numbers are part of the results: never renumber them."""

    PARTITION = 1
    INITIAL_WEIGHTS = 2
    PARTICIPANTS = 3
    BATCHES = 4
    AUGMENTATION = 5
    K_CONTROL = 6
    PROBE_SAMPLE = 7
    DEVICES = 8
    LINKS = 9
    JITTER = 10
    AVAILABILITY = 11
    SPARSIFICATION = 12
    PRUNING = 13
    DROPOUT = 14
    TEST_SPLIT = 15
    INITIAL_PRUNING = 16
    EVALUATION = 17
    PROBE_LOSS = 18
    VANISHING = 19
    CLIENT_TESTS = 30
    CLIENT_EVALUATION = 31


_ROUND_OFFSET = 2**31
"""Initial pruning has negative rounds; seed words must not be negative."""


def generator(seed: int, purpose: Purpose, round_index: int = 0, client: int = 0) -> np.random.Generator:
    """The generator of one stream.

    ``seed`` is any non-negative integer, ``round_index`` lies in [-2**31, 2**31), ``client`` in [0, 2**32).
    """
    words = (seed, int(purpose), round_index + _ROUND_OFFSET, client)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(words)))


def torch_seed(seed: int, purpose: Purpose, round_index: int = 0, client: int = 0) -> int:
    """A 63-bit seed for torch's own generators, from the same streams."""
    return int(generator(seed, purpose, round_index, client).integers(2**63 - 1))
