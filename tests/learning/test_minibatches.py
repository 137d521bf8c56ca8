"""Minibatches: which samples come when, what decides on it, and how many are taken at once."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from fedmpi.config.schema import TrainingConfig
from fedmpi.learning.augmentation import augmenter
from fedmpi.learning.datasets.dataset import as_float32
from fedmpi.learning.minibatches import (
    CONVERTED_BYTES,
    batch_groups,
    batch_order,
    deciding_bounds,
    steps_of_epoch,
    taken,
)

BYTES = torch.randint(0, 256, (23, 1, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
LABELS = torch.arange(100, 123)


def draws(seed: int = 7) -> np.random.Generator:
    return np.random.default_rng(seed)


@given(
    samples=st.integers(1, 60), batch=st.integers(1, 70), steps=st.integers(1, 12), seed=st.integers(0, 99)
)
def test_steps_draw_full_batches_without_replacement(samples: int, batch: int, steps: int, seed: int) -> None:
    training = TrainingConfig(local_steps=steps, batch_size=batch)
    order, bounds = batch_order(samples, training, draws(seed))
    size = min(batch, samples)
    assert bounds == [(step * size, (step + 1) * size) for step in range(steps)]
    assert order.size == steps * size
    assert order.min() >= 0
    assert order.max() < samples
    epoch = samples // size * size
    for first in range(0, order.size, epoch):
        part = order[first : first + epoch]
        assert np.unique(part).size == part.size


@given(
    samples=st.integers(1, 60), batch=st.integers(1, 70), epochs=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_epochs_take_every_sample_once(samples: int, batch: int, epochs: int, seed: int) -> None:
    training = TrainingConfig(local_epochs=epochs, local_steps=3, batch_size=batch)
    order, bounds = batch_order(samples, training, draws(seed))
    for epoch in range(epochs):
        part = order[epoch * samples : (epoch + 1) * samples]
        assert np.array_equal(np.sort(part), np.arange(samples))
    assert [start for start, _ in bounds] == [0, *[stop for _, stop in bounds[:-1]]]
    assert bounds[-1][1] == order.size
    sizes = [stop - start for start, stop in bounds]
    assert max(sizes) == min(batch, samples)
    assert len(bounds) == epochs * -(-samples // min(batch, samples))


def test_every_sample_can_come_first() -> None:
    training = TrainingConfig(local_steps=1, batch_size=2)
    firsts = {int(batch_order(5, training, draws(seed))[0][0]) for seed in range(80)}
    assert firsts == set(range(5))


@given(samples=st.integers(1, 60), batch=st.integers(1, 70), by_epochs=st.booleans())
def test_batches_of_an_epoch_are_counted_as_they_are_made(samples: int, batch: int, by_epochs: bool) -> None:
    """As many steps as an epoch has, and no more, take no sample twice."""
    steps = steps_of_epoch(samples, TrainingConfig(local_epochs=int(by_epochs), batch_size=batch))
    if by_epochs:
        training = TrainingConfig(local_epochs=1, batch_size=batch)
        assert len(batch_order(samples, training, draws())[1]) == steps
        return
    training = TrainingConfig(local_steps=steps, batch_size=batch)
    order, _ = batch_order(samples, training, draws())
    assert np.unique(order).size == order.size
    assert samples - order.size < min(batch, samples)


@given(
    samples=st.lists(st.integers(1, 30), min_size=2, max_size=6),
    batch=st.integers(1, 20),
    epochs=st.integers(0, 2),
)
def test_clients_have_equal_bounds_where_what_decides_on_them_is_equal(
    samples: list[int], batch: int, epochs: int
) -> None:
    training = TrainingConfig(local_steps=3, local_epochs=epochs, batch_size=batch)
    deciding = deciding_bounds(np.array(samples), training)
    bounds = [batch_order(each, training, draws())[1] for each in samples]
    for one in range(len(samples)):
        for other in range(one):
            assert (deciding[one] == deciding[other]) == (bounds[one] == bounds[other])


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("epochs", [0, 2])
@pytest.mark.parametrize("converted", [1, 2 * 6 * 64, 3 * 6 * 64 - 1, 10**9])
def test_how_many_samples_are_converted_at_once_changes_nothing(
    augmented: bool, epochs: int, converted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = TrainingConfig(local_steps=7, local_epochs=epochs, batch_size=6)
    order, bounds = batch_order(len(BYTES), training, draws())
    sizes: list[int] = []

    def noted(x: Tensor) -> Tensor:
        sizes.append(len(x))
        return as_float32(x)

    monkeypatch.setattr("fedmpi.learning.minibatches.CONVERTED_BYTES", converted)
    monkeypatch.setattr("fedmpi.learning.minibatches.as_float32", noted)
    changes = augmenter("flip_crop", 1, 2, 3)(len(order)) if augmented else None
    batches = list(taken(BYTES, LABELS, torch.from_numpy(order), bounds, changes))

    whole = BYTES[order]
    if augmented:
        whole = augmenter("flip_crop", 1, 2, 3)(len(order))(whole, 0)
    assert len(batches) == len(bounds)
    for (x, y), (first, stop) in zip(batches, bounds, strict=True):
        assert torch.equal(x, whole[first:stop].float() / 255)
        assert torch.equal(y, LABELS[order[first:stop]])
    assert sum(sizes) == (42 if epochs == 0 else 46)
    largest = {1: 6, 2 * 6 * 64: 12, 3 * 6 * 64 - 1: 12 if epochs == 0 else 6 + 6 + 5, 10**9: sum(sizes)}
    assert max(sizes) == largest[converted]


@given(st.lists(st.integers(1, 9), max_size=12), st.integers(1, 40))
def test_groups_of_batches_are_as_large_as_allowed(sizes: list[int], samples_at_once: int) -> None:
    ends = np.cumsum([0, *sizes]).tolist()
    bounds = list(pairwise(ends))
    sample_bytes = CONVERTED_BYTES // samples_at_once
    groups = list(batch_groups(bounds, sample_bytes))
    assert [bound for group in groups for bound in group] == bounds
    most = CONVERTED_BYTES // sample_bytes
    for number, group in enumerate(groups):
        assert len(group) == 1 or group[-1][1] - group[0][0] <= most
        if number + 1 < len(groups):
            assert groups[number + 1][0][1] - group[0][0] > most
