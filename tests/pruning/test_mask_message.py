"""Masks as they travel."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.pruning import Mask
from fedmpi.pruning.active_values import new_mask_bytes
from fedmpi.pruning.mask_message import decode_mask, encode_mask
from fedmpi.sparsification.wire import WireError


@given(st.lists(st.integers(1, 90), min_size=1, max_size=4), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_masks_come_back_from_as_many_bytes_as_are_charged(
    layers_of: Callable, sizes: list[int], density: float, seed: int
) -> None:
    layers = layers_of([size if place % 2 == 0 else -size for place, size in enumerate(sizes)])
    flags = np.random.default_rng(seed).random(sum(sizes)) < density
    for layer in layers:
        if not layer.prunable:
            flags[layer.start : layer.stop] = True
    mask = Mask.of(flags)
    data = encode_mask(mask, layers)
    assert data.dtype == np.uint8
    assert len(data) == new_mask_bytes(mask, layers)
    assert (decode_mask(data, layers).flags() == flags).all()


def test_few_active_ones_travel_as_indices(layers_of: Callable) -> None:
    layers = layers_of([80, -4, 20])
    mask = Mask.of(np.isin(np.arange(104), [3, 80, 81, 82, 83, 85]))
    data = encode_mask(mask, layers)
    assert data[16:].view("<i4").tolist() == [3, 81]
    assert encode_mask(Mask(104), layers)[16:].tolist() == [255] * 12 + [240]


@pytest.mark.parametrize("spoil", [lambda data: data[:-1], lambda data: data[:8], lambda data: data + 1])
def test_damaged_bytes_are_refused(layers_of: Callable, spoil: Callable) -> None:
    layers = layers_of([80, -4, 20])
    with pytest.raises(WireError, match="no mask over 100 prunable parameters"):
        decode_mask(spoil(encode_mask(Mask(104), layers)), layers)


def test_a_message_by_hand(layers_of: Callable) -> None:
    """Four bytes of flags are as many as one index: flags are taken. With 33 parameters the index is shorter."""
    for size, form, body in ((32, 0, [0, 0, 8, 0]), (33, 1, [20, 0, 0, 0])):
        mask = Mask.of(np.isin(np.arange(size), [20]))
        data = encode_mask(mask, layers_of([size]))
        assert data.tolist() == [*b"fmpm", form, 0, 0, 0, 1, 0, 0, 0, size, 0, 0, 0, *body]


def test_a_mask_over_other_layers_is_refused(layers_of: Callable) -> None:
    """Of as many bytes: 100 and 97 flags are 13 bytes each."""
    with pytest.raises(WireError, match="no mask over 97 prunable parameters"):
        decode_mask(encode_mask(Mask(100), layers_of([100])), layers_of([97]))


def test_too_few_indices_are_refused(layers_of: Callable) -> None:
    layers = layers_of([100])
    data = encode_mask(Mask.of(np.isin(np.arange(100), [5, 7])), layers)
    assert np.flatnonzero(decode_mask(data, layers).flags()).tolist() == [5, 7]
    with pytest.raises(WireError, match="20 bytes that are no mask over 100 prunable parameters"):
        decode_mask(data[:-4], layers)


def test_where_nothing_can_be_pruned_a_header_is_all(layers_of: Callable) -> None:
    layers = layers_of([-4, -2])
    data = encode_mask(Mask(6), layers)
    assert len(data) == 16
    assert decode_mask(data, layers).is_full
