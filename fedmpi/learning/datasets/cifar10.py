"""CIFAR-10 in its binary version (Krizhevsky 2009), plain, gzipped or in xz."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fedmpi.learning.datasets.dataset import DataError, Dataset

_CLASSES = 10
_SHAPE = (3, 32, 32)
_RECORD_BYTES = 1 + 3 * 32 * 32

_READERS: dict[str, Callable[[Path], bytes]] = {
    "": Path.read_bytes,
    ".gz": lambda path: gzip.decompress(path.read_bytes()),
    ".xz": lambda path: lzma.decompress(path.read_bytes()),
}
"""By the ending after ``.bin``; where a batch lies there in several forms, the first of these is taken."""


def load_cifar10(folder: Path) -> Dataset:
    """All ``data_batch_*.bin[.gz|.xz]`` in the order of their names, and ``test_batch.bin[.gz|.xz]``.

    Images are uint8 (n, 3, 32, 32). A file may hold any number of records. DataError for what is missing or
    damaged.
    """
    train_x, train_y = _load_batches(folder, "data_batch_*.bin")
    test_x, test_y = _load_batches(folder, "test_batch.bin")
    return Dataset(train_x, train_y, None, test_x, test_y, _CLASSES)


def _load_batches(folder: Path, pattern: str) -> tuple[np.ndarray, np.ndarray]:
    batches: dict[str, Path] = {}
    for ending in _READERS:
        for path in folder.glob(pattern + ending):
            batches.setdefault(path.name.removesuffix(ending), path)
    if not batches:
        endings = ", ".join(pattern + ending for ending in _READERS)
        raise DataError(f"{folder}: no file of CIFAR-10's binary version is there: {endings} expected")
    records = [_load_records(batches[name]) for name in sorted(batches)]
    x = np.concatenate([rows[:, 1:].reshape(-1, *_SHAPE) for rows in records])
    return x, np.concatenate([rows[:, 0] for rows in records]).astype(np.int64)


def _load_records(path: Path) -> np.ndarray:
    """uint8 (n, 3073): the label, and the pixels of the red, the green and the blue channel."""
    ending = path.suffix if path.suffix in _READERS else ""
    try:
        content = _READERS[ending](path)
    except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as error:
        raise DataError(f"{path}: compressed data are cut short or damaged ({error})") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if not content or len(content) % _RECORD_BYTES:
        raise DataError(f"{path}: {len(content)} bytes, a multiple of {_RECORD_BYTES} expected")
    rows = np.frombuffer(content, dtype=np.uint8).reshape(-1, _RECORD_BYTES)
    if rows[:, 0].max() >= _CLASSES:
        raise DataError(f"{path}: a label is {rows[:, 0].max()}, 0 to {_CLASSES - 1} expected")
    return rows
