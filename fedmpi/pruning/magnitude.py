"""Pruning by magnitude: in every layer the largest weights stay."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.topk import largest
from fedmpi.pruning.mask import LayerSlice, Mask

_MAGNITUDE = np.uint32(0x7FFFFFFF)


def magnitudes(weights: NDArray[np.float32]) -> NDArray[np.uint32]:
    """The bit patterns of ``|weights|``, which order float32 numbers as integers do."""
    return weights.view(np.uint32) & _MAGNITUDE


def keep_largest(
    weights: NDArray[np.float32], mask: Mask, layers: Sequence[LayerSlice], counts: Sequence[int]
) -> Mask:
    """The mask that keeps, of the active weights of each prunable layer, the ``counts`` largest.

    ``weights`` float32 (D,); ``counts`` has one entry for each prunable layer. Ties go to the lowest index.
    Raises ValueError when a count is negative or exceeds the active weights of its layer.
    """
    active = np.array(mask.flags())
    prunable = [layer for layer in layers if layer.prunable]
    for layer, count in zip(prunable, counts, strict=True):
        inside = active[layer.start : layer.stop]
        available = int(np.count_nonzero(inside))
        if not 0 <= count <= available:
            raise ValueError(
                f"{count} weights are to stay of the layer at {layer.start}, allowed are 0 to {available}"
            )
        keys = magnitudes(weights[layer.start : layer.stop])
        keys += np.uint32(1)  # above the zero of what is inactive, also for a weight of zero
        keys *= inside
        inside[:] = False
        inside[largest(keys, count)] = True
    return Mask.of(active)
