"""Photographs as arrays of one size, by Pillow, which is imported only here."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fedmpi.learning.datasets.dataset import DataError

if TYPE_CHECKING:
    from PIL.Image import Image

_BLOCK = 64

_COLOUR_MODES = frozenset({"1", "L", "P", "RGB", "RGBX", "CMYK", "YCbCr", "HSV"})
"""Pillow's modes of 8 bits or less, of which it makes RGB."""

_ALPHA_MODES = frozenset({"LA", "La", "PA", "RGBA", "RGBa"})

_ORIENTATION = 0x0112
"""EXIF's tag: 1 is upright, 2 to 8 are the other ways in which a camera may have been held."""


def decode_images(paths: Sequence[Path], size: int, *, stretch: bool) -> np.ndarray:
    """The images of ``paths`` as uint8 (n, 3, size, size), in colour and upright.

    ``stretch`` squeezes the whole image into the square; otherwise the largest square at its centre is
    taken. Both are resized bicubically. The result takes 3 size^2 bytes an image and is written in place;
    besides it, one decoded image is held for each core.

    DataError when Pillow is not installed, for a file that is missing or damaged, that has transparent pixels,
    values of more than 8 bits (which scanners, cameras and scientists scale in many ways) or more pixels than
    Pillow holds to be safe, and when the result does not fit in memory.
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

    with _pillows_warnings(), ThreadPoolExecutor(_cores()) as pool:  # Pillow decodes without Python's lock
        for _ in pool.map(decode_block, range(0, len(paths), _BLOCK)):
            pass
    return images


@contextmanager
def _pillows_warnings() -> Iterator[None]:
    """Images that are too large are errors; of oddities in a file's description nothing depends."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="PIL")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


def _decode(path: Path, size: int, stretch: bool) -> np.ndarray:
    """One image as uint8 (size, size, 3)."""
    from PIL import Image

    try:
        with Image.open(path) as opened:
            image = _rgb(opened, path)
            image = _upright(image, opened.getexif().get(_ORIENTATION, 1))
            width, height = image.size
            side = min(width, height)
            left, top = (width - side) / 2, (height - side) / 2
            box = None if stretch else (left, top, left + side, top + side)
            return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box))
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except Exception as error:  # the readers of Pillow meet a damaged file with errors of any kind
        raise DataError(f"{path}: is no image or a damaged one ({error})") from error


def _rgb(image: Image, path: Path) -> Image:
    """The image in mode RGB. DataError where it is not certain what its colours are."""
    mode = image.mode
    if mode in _ALPHA_MODES or (mode in _COLOUR_MODES and "transparency" in image.info):
        image = image.convert("RGBA")
        if image.getchannel("A").getextrema() != (255, 255):
            raise DataError(f"{path}: has transparent pixels, and what lies behind them is not known")
    elif mode not in _COLOUR_MODES:
        problem = (
            f"has values of more than 8 bits (Pillow's mode {mode}), and which of them is white is not known"
        )
        raise DataError(f"{path}: {problem}; images of 8 bits are expected")
    return image.convert("RGB")


def _upright(image: Image, orientation: int) -> Image:
    """The image turned and mirrored as its EXIF orientation says; what is no orientation changes nothing."""
    from PIL.Image import Transpose

    steps = {
        2: Transpose.FLIP_LEFT_RIGHT,
        3: Transpose.ROTATE_180,
        4: Transpose.FLIP_TOP_BOTTOM,
        5: Transpose.TRANSPOSE,
        6: Transpose.ROTATE_270,
        7: Transpose.TRANSVERSE,
        8: Transpose.ROTATE_90,
    }
    return image.transpose(steps[orientation]) if orientation in steps else image


def _require_pillow() -> None:
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise DataError("photographs need Pillow: pip install 'fedmpi[data]'") from error


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
