"""Random streams keyed by (seed, purpose, round, client), never by rank.

Whoever draws for a purpose gets the same numbers wherever it runs, so that nothing random depends on how
clients are laid on ranks, nor on what was drawn before: a resumed run needs no generator state.
"""

from __future__ import annotations

from collections.abc import Iterator
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.random.bit_generator import ISeedSequence
from numpy.typing import NDArray


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


def generators(
    seed: int, purpose: Purpose, round_index: int, clients: NDArray[np.int64]
) -> Iterator[np.random.Generator]:
    """The ``generator`` of each of ``clients`` (n,), one after the other; faster than asking for each.

    What a generator starts from is computed for all clients at once.
    """
    common = (seed, int(purpose), round_index + _ROUND_OFFSET)
    for state in _seed_states([word for number in common for word in _uint32_words(number)], clients):
        # numpy takes any ISeedSequence; its annotations know its own alone
        yield np.random.Generator(np.random.PCG64(_State(state)))  # type: ignore[arg-type]


class _State(ISeedSequence):
    """A seed sequence whose state is known: four uint64, as PCG64 asks for them."""

    def __init__(self, words: NDArray[np.uint64]) -> None:
        self._words = words

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> NDArray[np.uint64]:
        if n_words != self._words.size or np.dtype(dtype) != self._words.dtype:
            raise ValueError(f"{n_words} words of {np.dtype(dtype)}, allowed are 4 of uint64")
        return self._words


_POOL_WORDS = 4
_INIT_A, _MULTIPLIER_A = 0x43B0D7E5, 0x931E8875
_INIT_B, _MULTIPLIER_B = 0x8B51F9DD, 0x58F38DED
_MIX_LEFT, _MIX_RIGHT = np.uint32(0xCA01F9DD), np.uint32(0x4973F715)
_SHIFT = np.uint32(16)
_OTHERS = [np.delete(np.arange(_POOL_WORDS), word) for word in range(_POOL_WORDS)]
"""Of each word of the pool, the others: those that it is mixed into."""


def _uint32_words(number: int) -> list[int]:
    """A non-negative integer as words of 32 bits, the lowest first; 0 is one word."""
    words = [number & 0xFFFFFFFF]
    while number := number >> 32:
        words.append(number & 0xFFFFFFFF)
    return words


def _seed_states(common: list[int], last: NDArray[np.integer]) -> NDArray[np.uint64]:
    """``SeedSequence([*common, word]).generate_state(4, uint64)`` for every word of ``last`` (n,), as (n, 4).

    The function that numpy documents as stable (after M. E. O'Neill, "Developing a seed_seq alternative", 2015), of at
    least four words of 32 bits. What does not depend on each other is computed together, in rows.
    """
    words = np.empty((len(common) + 1, len(last)), np.uint32)
    words[:-1] = np.array(common, np.uint32)[:, None]
    words[-1] = last
    constants = _constants(_INIT_A, _MULTIPLIER_A, _POOL_WORDS * len(words))
    pool = _hashed(words[:_POOL_WORDS], constants[: _POOL_WORDS + 1])
    used = _POOL_WORDS
    for source, others in enumerate(_OTHERS):
        hashed = _hashed(pool[source], constants[used : used + _POOL_WORDS])
        pool[others] = _mixed(pool[others], hashed)
        used += _POOL_WORDS - 1
    for word in words[_POOL_WORDS:]:
        pool = _mixed(pool, _hashed(word, constants[used : used + _POOL_WORDS + 1]))
        used += _POOL_WORDS
    words = _hashed(np.concatenate([pool, pool]), _constants(_INIT_B, _MULTIPLIER_B, 2 * _POOL_WORDS))
    return np.ascontiguousarray(words.T, dtype="<u4").view("<u8").astype(np.uint64)


def _constants(first: int, multiplier: int, count: int) -> NDArray[np.uint32]:
    """A chain of products modulo 2**32, ``count`` and a last one, as a column."""
    chain = [first]
    for _ in range(count):
        chain.append(chain[-1] * multiplier & 0xFFFFFFFF)
    return np.array(chain, np.uint32)[:, None]


def _hashed(word: NDArray[np.uint32], constants: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """``word`` (n,), or one for each (m, n), under m constants of a chain, each with its successor, (m, n)."""
    word = (word ^ constants[:-1]) * constants[1:]
    return word ^ (word >> _SHIFT)


def _mixed(left: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.uint32]:
    mixed = _MIX_LEFT * left - _MIX_RIGHT * right
    return mixed ^ (mixed >> _SHIFT)


def torch_seed(seed: int, purpose: Purpose, round_index: int = 0, client: int = 0) -> int:
    """A 63-bit seed for torch's own generators, from the same streams."""
    return int(generator(seed, purpose, round_index, client).integers(2**63 - 1))
