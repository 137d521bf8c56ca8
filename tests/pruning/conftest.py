"""Layers for the tests of pruning."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from fedmpi.config.schema import PruningConfig
from fedmpi.pruning.interface import Setup


@dataclass(frozen=True)
class Slice:
    start: int
    stop: int
    prunable: bool


Layers = tuple[Slice, ...]


@pytest.fixture(scope="session")
def layers_of() -> Callable[[Sequence[int]], Layers]:
    """Layers one after the other: a positive size is prunable, a negative one is not."""

    def build(sizes: Sequence[int]) -> Layers:
        layers, start = [], 0
        for size in sizes:
            layers.append(Slice(start, start + abs(size), size >= 0))
            start += abs(size)
        return tuple(layers)

    return build


@pytest.fixture(scope="session")
def setup_of(layers_of: Callable[[Sequence[int]], Layers]) -> Callable[..., Setup]:
    """A setup over layers of the given sizes, with keys of ``[pruning]``."""

    def build(sizes: Sequence[int], rounds: int = 100, **keys: object) -> Setup:
        return Setup(PruningConfig(**keys), rounds, layers_of(sizes))

    return build
