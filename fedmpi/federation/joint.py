"""The mask and k decided together, by one currency: what they bring per second of the same round.

PruneFL chooses the mask M of the largest Delta(M) / T(M, k) for a given k (Jiang et al., IEEE TNNLS 2022);
``norm_rate`` the k of the largest N(k) / T(M, k) for a given mask. Together they are steps towards the largest
Delta(M) N(k) / T(M, k): each leaves one factor alone and chooses the other at its best, so that none lowers it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

_MOST_STEPS = 8
"""Steps after which the last choice stands; choices usually agree after two or three."""

_Mask = TypeVar("_Mask")


def decide_together(
    k: int, mask_for: Callable[[int], _Mask], k_for: Callable[[_Mask], int]
) -> tuple[_Mask, int]:
    """The mask and the k that suit each other: from ``k`` on, the best mask for it, the best k for that, and so on.

    ``mask_for(k)`` is the choice for a k, ``k_for`` that for a mask. Ends where k was there before, or after 8 steps.
    """
    seen = {k}
    for _ in range(_MOST_STEPS):
        mask = mask_for(k)
        chosen = k_for(mask)
        if chosen in seen:
            return mask, chosen
        seen.add(chosen)
        k = chosen
    return mask_for(k), k
