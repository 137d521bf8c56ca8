"""Photographs as arrays of one size, by Pillow, which is imported only here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from fedmpi.learning.datasets.dataset import DataError

_BLOCK = 64


def decode_images(paths: Sequence[Path], size: int, *, stretch: bool) -> np.ndarray:
    """The images of ``paths`` as uint8 (n, 3, size, size), in colour.

    ``stretch`` squeezes the whole image into the square; otherwise the largest square at its centre is
    taken. Both are resized bicubically. The result takes 3 size^2 bytes an image and is written in place;
    besides it, one decoded image is held for each core. DataError when Pillow is not installed, for a file
    that is missing or damaged, and when the result does not fit in memory.
    """
    _require_pillow()
    shape = (len(paths), 3, size, size)
    try:
        images = np.empty(shape, dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        problem = f"{len(paths)} images of {size} x {size} take {np.prod(shape, dtype=float) / 2**30:.1f} GiB"
        raise DataError(f"{paths[0].parent}: {problem}, which do not fit in memory") from error

    def decode_block(first: int) -> None:
        for position in range(first, min(first + _BLOCK, len(paths))):
            images[position] = _decode(paths[position], size, stretch).transpose(2, 0, 1)

    with ThreadPoolExecutor(_cores()) as pool:  # Pillow decodes without Python's lock
        for _ in pool.map(decode_block, range(0, len(paths), _BLOCK)):
            pass
    return images


def _decode(path: Path, size: int, stretch: bool) -> np.ndarray:
    """One image as uint8 (size, size, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = None if stretch else (left, top, left + side, top + side)
            resized = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box=box)
            return np.asarray(resized)
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DataError(f"{path}: is no image or a damaged one ({error})") from error


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError("photographs need Pillow: pip install 'fedmpi[data]'") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
