"""The mask: which parameters of the flat vector are active.

Sparse code sees a mask as the rising indices of the active coordinates, pruning sees layers as slices of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, Self

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

    def __post_init__(self) -> None:
        if self.active is not None:
            self.active.flags.writeable = False

    @classmethod
    def of(cls, active: np.ndarray) -> Self:
        """The mask of a bool (dimension,) array, which cannot be changed afterwards."""
        if active.dtype != np.bool_ or active.ndim != 1:
            raise ValueError(f"a mask is one-dimensional bool, not {active.ndim}-D {active.dtype}")
        return cls(active.size, None if active.all() else active)

    @classmethod
    def from_bits(cls, bits: np.ndarray, dimension: int) -> Self:
        """The inverse of ``to_bits``. Raises ValueError when the length does not fit ``dimension``."""
        if bits.dtype != np.uint8 or bits.shape != (-(-dimension // 8),):
            raise ValueError(
                f"the bits of a mask over {dimension} parameters are uint8 of shape ({-(-dimension // 8)},), "
                f"found {bits.dtype} of shape {bits.shape}"
            )
        return cls.of(np.unpackbits(bits, count=dimension).view(np.bool_))

    def to_bits(self) -> np.ndarray:
        """One bit for every parameter, the first in the highest bit: uint8 (ceil(dimension / 8),)."""
        return np.packbits(self.flags())

    def flags(self) -> np.ndarray:
        """Bool (dimension,), also where all are active; a copy can be changed."""
        if self.active is not None:
            return self.active
        flags = np.ones(self.dimension, np.bool_)
        flags.flags.writeable = False
        return flags

    def apply(self, vector: np.ndarray) -> None:
        """Set the inactive entries of a float32 vector (dimension,) to zero, in place, whatever they hold."""
        if vector.dtype != np.float32 or vector.shape != (self.dimension,):
            raise ValueError(
                f"a mask over {self.dimension} parameters applies to float32 of shape ({self.dimension},), "
                f"not to {vector.dtype} of shape {vector.shape}"
            )
        if self.active is not None:
            # Bit patterns times 0 or 1: NaN becomes zero as well, and no zero gets a sign.
            patterns = vector.view(np.uint32)
            np.multiply(patterns, self.active, out=patterns)

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


def never_pruned(layers: Sequence[LayerSlice]) -> int:
    """The number of parameters that are active under every mask."""
    return sum(layer.stop - layer.start for layer in layers if not layer.prunable)
