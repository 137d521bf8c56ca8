"""Photographs in one folder for each class, as ImageNet's are (Russakovsky et al., IJCV 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedmpi.learning.datasets.dataset import DataError, Dataset
from fedmpi.learning.datasets.folders import visible
from fedmpi.learning.datasets.images import decode_images

USUAL_SIZE = 168

_ENDINGS = frozenset({".jpeg", ".jpg", ".png"})
_OTHER_IMAGES = frozenset(
    {".avif", ".bmp", ".gif", ".heic", ".jfif", ".jp2", ".pgm", ".ppm", ".tif", ".tiff", ".webp"}
)
"""Left out in silence they would be missing samples; other files, such as notes, are none."""


def load_imagenet(folder: Path, classes: int, image_size: int = 0) -> Dataset:
    """The images in ``train/CLASS/`` and ``val/CLASS/``, uint8 (n, 3, size, size); ``image_size`` 0: the usual one.

    Labels are the positions of the classes in the sorted names of the folders in ``train``; only the first
    ``classes`` are taken (0: all). Hidden folders and files, and those of operating systems, are no data. The
    largest square at the centre of each image is resized. At the usual 168 x 168 the about 127,000 images of
    100 classes take 10.7 GB. DataError for what is missing or damaged, and for an image
    of another kind than PNG and JPEG.
    """
    size = image_size or USUAL_SIZE
    names = _class_names(folder / "train")
    if classes > len(names):
        raise DataError(f"{folder / 'train'}: {len(names)} classes are there, {classes} expected")
    names = names[: classes or None]
    train_paths, train_y = _find_images(folder / "train", names)
    test_paths, test_y = _find_images(folder / "val", names)
    train_x = decode_images(train_paths, size, stretch=False)
    test_x = decode_images(test_paths, size, stretch=False)
    return Dataset(train_x, train_y, None, test_x, test_y, len(names))


def _class_names(folder: Path) -> list[str]:
    found = visible(folder.iterdir()) if folder.is_dir() else []
    names = [path.name for path in found if path.is_dir()]
    if not names:
        raise DataError(f"{folder}: no folder of a class is there, at least one expected")
    return names


def _find_images(folder: Path, names: list[str]) -> tuple[list[Path], np.ndarray]:
    """The files of each class in the order of their names, and int64 labels."""
    paths, counts = [], []
    for name in names:
        of_class = folder / name
        found = visible(of_class.iterdir()) if of_class.is_dir() else []
        images = [path for path in found if path.suffix.lower() in _ENDINGS]
        other = next((path for path in found if path.suffix.lower() in _OTHER_IMAGES), None)
        if other is not None:
            problem = (
                f"is an image that is not read; allowed are {', '.join(sorted(_ENDINGS))}, or to take it away"
            )
            raise DataError(f"{other}: {problem}")
        if not images:
            problem = (
                f"no image ({', '.join(sorted(_ENDINGS))}) of this class is there, at least one expected"
            )
            raise DataError(f"{of_class}: {problem}")
        paths += images
        counts.append(len(images))
    return paths, np.repeat(np.arange(len(names), dtype=np.int64), counts)
