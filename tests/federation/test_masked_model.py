"""What follows from a mask on a rank, and that everything in parameter space obeys it from then on."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from fedmpi.federation.masked_model import MaskedModel
from fedmpi.learning.flat import FlatModel
from fedmpi.pruning import Mask

ACTIVE = np.array([1, 0, 1, 1, 0, 0, 1, 1, 0, 1], bool)
"""Of the prunable layers (six and two parameters, two biases between them) three and one are active."""


def test_at_first_nothing_is_pruned(world: Callable) -> None:
    masked = world().masked
    assert masked.mask.is_full
    assert masked.since == 0
    assert masked.support is None
    assert masked.in_training is None
    assert masked.active_prunable.tolist() == [6, 2]
    assert masked.density == 1.0
    assert torch.equal(masked.weights, masked.flat.vector)
    assert masked.weights.data_ptr() != masked.flat.vector.data_ptr()


def test_a_mask_shows_in_all_that_follows_from_it(world: Callable) -> None:
    masked, followed = world().masked, []
    before = masked.weights.clone()
    masked.follow(lambda mask, clients: followed.append((mask, list(clients), masked.mask is mask)))
    masked.follow(lambda mask, clients: followed.append("second"))
    mask = Mask.of(ACTIVE)
    masked.use(mask, 3, [2, 5])
    assert masked.mask is mask
    assert masked.since == 3
    assert followed == [(mask, [2, 5], True), "second"]
    assert masked.support is not None
    assert masked.support.tolist() == np.flatnonzero(ACTIVE).tolist()
    assert masked.in_training is not None
    assert masked.in_training.tolist() == ACTIVE.astype(float).tolist()
    assert masked.active_prunable.tolist() == [3, 1]
    assert masked.density == 0.5
    np.testing.assert_array_equal(masked.weights.numpy(), np.where(ACTIVE, before.numpy(), 0))
    masked.use(Mask(10), 4)
    assert masked.in_training is None
    assert masked.support is None
    assert masked.density == 1.0
    assert followed[2][1] == []


def test_parameters_are_a_view_of_the_weights(world: Callable) -> None:
    masked = world().masked
    masked.parameters[3] = 7.0
    assert masked.weights[3] == 7.0


def test_a_change_is_shared_before_it_is_used(world: Callable) -> None:
    masked = world().masked
    masked.change(Mask.of(ACTIVE), 2, [1])
    np.testing.assert_array_equal(masked.mask.flags(), ACTIVE)
    assert masked.since == 2
    other = masked.shared(Mask.of(~ACTIVE))
    np.testing.assert_array_equal(other.flags(), ~ACTIVE)
    np.testing.assert_array_equal(masked.mask.flags(), ACTIVE)


def test_other_ranks_take_the_servers_mask_as_bits() -> None:
    """They receive as many bytes as 18 flags take."""
    server = Mask.of(np.arange(18) % 5 > 1)

    def broadcast(bits: np.ndarray) -> None:
        assert bits.shape == (3,)
        bits[:] = server.to_bits()

    ranks: Any = SimpleNamespace(broadcast=broadcast, barrier=lambda: None)
    masked = MaskedModel(ranks, FlatModel(torch.nn.Linear(8, 2)))
    masked.change(None, 4, [])
    np.testing.assert_array_equal(masked.mask.flags(), server.flags())
    assert masked.since == 4
