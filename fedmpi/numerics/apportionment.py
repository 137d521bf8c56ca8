"""Dividing a whole number among shares by the largest remainder (Hamilton's method)."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_DIGITS = 9
"""A quota within rounding of a whole number is that number: 0.1 x 30 is 3.0000000000000004."""


def largest_remainder(weights: ArrayLike, total: int) -> NDArray[np.int64]:
    """``total`` in proportion to ``weights`` (n,), as int64 (n,) of that sum, none off its quota by 1 or more.

    What is left after rounding down goes to the largest remainders, ties to the first. Integer weights are divided
    exactly, floats within 1e-9. Raises ValueError for weights that are negative or not finite, or whose sum is 0.
    """
    given = np.asarray(weights)
    if not (np.isfinite(given).all() and (given >= 0).all() and given.sum() > 0):
        raise ValueError("weights must be finite and not negative, and not all of them 0")
    if given.dtype.kind in "iu":
        whole, remainder = np.divmod(given.astype(np.int64) * total, given.sum(dtype=np.int64))
    else:
        quota = np.round(given * total / given.sum(), _DIGITS)
        whole = np.floor(quota).astype(np.int64)
        remainder = quota - whole
    raised = np.argsort(-remainder, kind="stable")[: total - int(whole.sum())]
    whole[raised] += 1
    return whole
