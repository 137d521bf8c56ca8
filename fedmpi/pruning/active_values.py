"""What travels under a mask: values of active parameters alone, and the mask itself when it is new.

Both sides know the mask between reconfigurations (Jiang et al., IEEE TNNLS 2022).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.sparsification.wire import HEADER_BYTES, INDEX_BYTES, mask_bytes, message_bytes

DENSE_ABOVE = 0.9
"""A model of higher density travels with its zeros."""


class ActiveValues:
    """The values of a flat vector (D,) that travel under a mask, gathered and taken off.

    Everything that is active, or everything where the density of the prunable parameters exceeds 0.9: then
    ``dense`` is True, ``count`` is D and the values are the vector itself. The positions are kept as int64
    (``count``,), which numpy gathers by without a conversion.
    """

    def __init__(self, mask: Mask, layers: Sequence[LayerSlice]) -> None:
        self.dense = mask.density(layers) > DENSE_ABOVE
        self.dimension = mask.dimension
        self._positions = None if self.dense else np.flatnonzero(mask.flags())
        self.count = self.dimension if self._positions is None else self._positions.size

    def gather(self, vector: NDArray[np.float32], out: NDArray[np.float32]) -> NDArray[np.float32]:
        """Write the values of ``vector`` (D,) that travel to ``out`` (count,), which is returned."""
        self._check(vector, out)
        if self._positions is None:
            out[:] = vector
        else:
            # mode="clip" writes to out directly; all positions are inside.
            np.take(vector, self._positions, out=out, mode="clip")
        return out

    def subtract(self, values: NDArray[np.float32], out: NDArray[np.float32]) -> None:
        """Subtract ``values`` (count,) at their places in ``out`` (D,), whose other entries stay."""
        self._check(out, values)
        if self._positions is None:
            out -= values
        else:
            out[self._positions] -= values

    def message_bytes(self) -> int:
        """Bytes of the message that carries the values, header included."""
        return message_bytes("values", self.count, self.dimension)

    def _check(self, vector: NDArray[np.float32], values: NDArray[np.float32]) -> None:
        if vector.shape != (self.dimension,) or values.shape != (self.count,):
            raise ValueError(
                f"a vector of {self.dimension} parameters and {self.count} values is expected, found shapes "
                f"{vector.shape} and {values.shape}"
            )


def new_mask_bytes(mask: Mask, layers: Sequence[LayerSlice]) -> int:
    """Bytes of a message with a new mask over the prunable parameters: bits or indices of the active ones.

    Whichever is smaller, header included.
    """
    prunable = [layer for layer in layers if layer.prunable]
    parameters = sum(layer.stop - layer.start for layer in prunable)
    active = int(mask.active_per_layer(prunable).sum())
    return HEADER_BYTES + min(mask_bytes(parameters), INDEX_BYTES * active)
