"""Sizes of images after pooling."""

from __future__ import annotations

from fedmpi.config.errors import ConfigError


def pooled_twice(model: str, height: int, width: int) -> int:
    """Pixels that two 2 x 2 poolings leave; ConfigError where none is left."""
    pixels = (height // 4) * (width // 4)
    if pixels == 0:
        raise ConfigError("model.name", f"{model} got images of {height} x {width}", "at least 4 x 4 pixels")
    return pixels
