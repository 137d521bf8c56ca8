"""Images in the idx format of MNIST (LeCun, Cortes and Burges) and Fashion-MNIST, plain or gzipped."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from fedmpi.learning.datasets.dataset import DataError, Dataset

_UNSIGNED_BYTE = 8
_WRITERS_FILE = "mnist_writers.npz"


def load_idx(folder: Path) -> Dataset:
    """The four files ``{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]`` of a folder.

    Images stay uint8, (n, 1, H, W). Writers of the training images come from the array ``train_writer`` of
    ``mnist_writers.npz`` where that file lies beside them. DataError for what is missing or damaged.
    """
    train_x, train_y = _load_part(folder, "train")
    test_x, test_y = _load_part(folder, "t10k")
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{folder}: training images are {train_x.shape[1:]} and test images {test_x.shape[1:]}:"
            " the same size is expected"
        )
    classes = int(max(train_y.max(), test_y.max())) + 1
    return Dataset(train_x, train_y, _load_writers(folder, train_y.size), test_x, test_y, classes)


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """The uint8 array of one idx file, with the given number of dimensions and not empty."""
    try:
        with cast(BinaryIO, gzip.open(path)) if path.suffix == ".gz" else path.open("rb") as file:
            shape = _read_header(file, path, dimensions)
            values = _empty(shape, path)
            found = _fill(file, values)
            trailing = len(file.read(1))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: gzip data are cut short or damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if found != values.size or trailing:
        amount = f"only {found}" if found != values.size else "more"
        raise DataError(f"{path}: {amount} bytes of values, {values.size} expected for shape {shape}")
    return values


def _read_header(file: BinaryIO, path: Path, dimensions: int) -> tuple[int, ...]:
    expected = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    magic = file.read(4)
    if magic != expected:
        raise DataError(f"{path}: begins with 0x{magic.hex()}, an idx file of bytes with 0x{expected.hex()}")
    sizes = file.read(4 * dimensions)
    if len(sizes) != 4 * dimensions:
        raise DataError(
            f"{path}: the header ends after {4 + len(sizes)} bytes, {4 + 4 * dimensions} expected"
        )
    shape = tuple(int(size) for size in np.frombuffer(sizes, dtype=">u4"))
    if 0 in shape:
        raise DataError(f"{path}: the header says {shape}: at least one sample and pixel is expected")
    return shape


def _empty(shape: tuple[int, ...], path: Path) -> np.ndarray:
    try:
        return np.empty(shape, dtype=np.uint8)
    except (MemoryError, ValueError) as error:
        raise DataError(f"{path}: the header says {shape}, which does not fit in memory") from error


def _fill(file: BinaryIO, values: np.ndarray) -> int:
    """Read into an array until it is full or the file ends; the number of bytes read."""
    target = values.reshape(-1).data
    found = 0
    while found < len(target):
        count = file.readinto(target[found:])  # type: ignore[attr-defined]
        if not count:
            break
        found += count
    return found


def _load_part(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    images_path = _find(folder, f"{part}-images-idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    images = read_idx(images_path, dimensions=3)
    labels = read_idx(labels_path, dimensions=1)
    if len(images) != len(labels):
        raise DataError(
            f"{labels_path}: {len(labels)} labels, {len(images)} expected as in {images_path.name}"
        )
    return images[:, np.newaxis], labels.astype(np.int64)


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise DataError(f"{folder}: there is neither {name} nor {name}.gz")


def _load_writers(folder: Path, samples: int) -> np.ndarray | None:
    path = folder / _WRITERS_FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            writers = arrays["train_writer"]
    except Exception as error:  # what numpy and zipfile raise for a damaged file is of any kind
        raise DataError(f"{path}: the array train_writer cannot be read ({error})") from error
    if writers.shape != (samples,) or writers.dtype.kind not in "iu":
        raise DataError(
            f"{path}: train_writer is {writers.dtype} of shape {writers.shape}, {samples} integers expected"
        )
    if writers.max() > np.iinfo(np.int64).max:
        raise DataError(f"{path}: a writer has the number {writers.max()}, beyond those of int64")
    return writers.astype(np.int64)
