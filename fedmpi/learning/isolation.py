"""Running a model's code so that its result depends on what it is given alone, not on what ran before on this rank."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from fedmpi.learning.flat import FlatModel
from fedmpi.learning.seeding import seeded


@contextmanager
def training_alone(model: FlatModel, seed: int | None) -> Iterator[None]:
    """One client's training: the module starts with all outside of ``model.vector`` as it was built.

    A model that draws takes its random numbers from ``seed`` (ValueError without one). At the end ``model.vector``
    has all float buffers.
    """
    if model.draws and seed is None:
        raise ValueError("the model may draw random numbers in training: it needs a torch_seed")
    model.put_back()
    with _random(model.draws, seed, model):
        yield
    model.take_buffers()


@contextmanager
def evaluated_alone(model: FlatModel, seed: int | None) -> Iterator[None]:
    """The evaluation of one block of samples, in evaluation mode; ``model`` is afterwards as it was before.

    Code that is not known takes its random numbers from ``seed`` (ValueError without one).
    """
    if not model.known and seed is None:
        raise ValueError("the model may draw random numbers in evaluation: it needs a seed")
    model.put_back()
    buffers = None if model.known else model.buffers.clone()
    training = [child for child in model.module.modules() if child.training]
    for child in training:
        child.training = False
    try:
        with _random(not model.known, seed, model):
            yield
    finally:
        for child in training:
            child.training = True
        if buffers is not None:
            model.put_back()
            model.buffers.copy_(buffers)


def _random(draws: bool, seed: int | None, model: FlatModel) -> AbstractContextManager[None]:
    return seeded(seed, model.vector.device) if draws and seed is not None else nullcontext()
