"""Sizes of images after pooling."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from fedmpi.config.errors import ConfigError


def pooled_pixels(model: str, height: int, width: int, growths: Sequence[int]) -> int:
    """Pixels that blocks of a convolution and a 2 x 2 pooling leave of an image.

    The convolution of each block adds its ``growth`` to either side before pooling halves it. ConfigError
    where a block would leave nothing.
    """
    pixels = _pooled_side(height, growths) * _pooled_side(width, growths)
    if pixels == 0:
        least = next(side for side in count(1) if _pooled_side(side, growths))
        problem = f"{model} got images of {height} x {width}"
        raise ConfigError("model.name", problem, f"at least {least} x {least} pixels")
    return pixels


def _pooled_side(side: int, growths: Sequence[int]) -> int:
    for growth in growths:
        side = (side + growth) // 2 if side > 0 else 0
    return side
