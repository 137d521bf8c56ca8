"""The mask: which parameters of the flat vector are active.

Sparse code sees a mask as the rising indices of the active coordinates, pruning sees layers as slices of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np


class LayerSlice(Protocol):
    """What a mask needs to know of a layer: its slice of the flat vector and whether it can be pruned."""

    @property
    def start(self) -> int: ...
    @property
    def stop(self) -> int: ...
    @property
    def prunable(self) -> bool: ...


@dataclass(frozen=True)
class Mask:
    """The active parameters of a model with ``dimension`` parameters.

    ``active`` is bool (dimension,), or None where nothing is pruned, so that an unpruned model pays nothing.
    """

    dimension: int
    active: np.ndarray | None = None

    @property
    def is_full(self) -> bool:
        return self.active is None

    @property
    def count(self) -> int:
        """The number of active parameters."""
        return self.dimension if self.active is None else int(np.count_nonzero(self.active))

    def support(self) -> np.ndarray | None:
        """The rising int32 indices of the active parameters; None where all are active."""
        return None if self.active is None else np.flatnonzero(self.active).astype(np.int32)

    def active_per_layer(self, layers: Sequence[LayerSlice]) -> np.ndarray:
        """The number of active parameters of each layer, int64."""
        if self.active is None:
            return np.array([layer.stop - layer.start for layer in layers], dtype=np.int64)
        active = self.active
        return np.array([np.count_nonzero(active[la.start : la.stop]) for la in layers], dtype=np.int64)

    def density(self, layers: Sequence[LayerSlice]) -> float:
        """Active over all prunable parameters; 1.0 for a model without prunable ones."""
        prunable = [layer for layer in layers if layer.prunable]
        total = sum(layer.stop - layer.start for layer in prunable)
        return float(self.active_per_layer(prunable).sum() / total) if total else 1.0
