"""The importance of parameters: sums of squared gradients (PruneFL, Jiang et al., IEEE TNNLS 2022)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def add_squares(importance: NDArray[np.float32], gradient: NDArray[np.float32], factor: float = 1.0) -> None:
    """Add gradient^2 x ``factor`` to ``importance``, both float32 (D,), in place.

    A client in federated rounds adds the sum of its gradients over the local steps, with the samples that it
    processed as the factor; initial pruning adds the gradients of single steps. Overflow becomes infinite and
    is refused by ``reconfigure``. Raises ValueError for shapes or dtypes that do not fit.
    """
    if gradient.dtype != np.float32 or importance.dtype != np.float32 or gradient.shape != importance.shape:
        raise ValueError(
            f"importance and gradient are float32 of one shape, found {importance.dtype} of {importance.shape} "
            f"and {gradient.dtype} of {gradient.shape}"
        )
    squared = torch.from_numpy(gradient)
    torch.from_numpy(importance).addcmul_(squared, squared, value=factor)  # a single pass over both
