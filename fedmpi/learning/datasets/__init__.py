"""Data sets by name."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmpi.config import parts
from fedmpi.config.errors import ConfigError, shown_value
from fedmpi.config.failures import ANY_FAILURE, described
from fedmpi.config.schema import DataConfig
from fedmpi.learning.catalogue import DATASETS
from fedmpi.learning.datasets.dataset import MOST_CLASSES, DataError, Dataset, as_float32, inverted

__all__ = ["DATASETS", "DataError", "Dataset", "as_float32", "check_samples", "load"]

_KEY = "data.dataset"


def load(config: DataConfig) -> Dataset:
    """The data set of ``[data]``; the same for every experiment seed, test samples included.

    The global generators of torch, NumPy and Python start from 0 in a function of one's own, so that all ranks have
    the same samples.
    ``data.invert`` replaces every value x by 1 - x. DataError when files are missing or damaged, ConfigError for a data
    set that cannot be found, does not take the options, or gives something else than a ``Dataset``.
    """
    name, folder = config.dataset, Path(config.path)
    options = parts.options_taken(_KEY, name, config.options)
    read = parts.function(_KEY, name, options, parts.settings_of(config))
    try:
        with nullcontext() if name in DATASETS else _seeded():
            data = read(folder)
    except (ConfigError, DataError):
        raise
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DataError(f"{folder}: the data do not fit in memory ({error})") from error
    except ANY_FAILURE as error:
        if name in DATASETS:
            raise
        raise ConfigError(_KEY, f"{name!r} failed: {described(error)}", "a function of a folder") from error
    if name not in DATASETS:
        check_samples(name, data)
        if type(data.classes) is not int:
            data = replace(data, classes=int(data.classes))
    if config.invert:
        return replace(data, train_x=inverted(data.train_x), test_x=inverted(data.test_x))
    return data


def _seeded() -> AbstractContextManager[None]:
    from fedmpi.learning.seeding import seeded  # and torch, which nothing else here needs

    return seeded(0)


def check_samples(name: str, data: object) -> None:
    """Raise ConfigError for what the data set ``name`` gave, unless it is a Dataset as that says it is."""
    if not isinstance(data, Dataset):
        problem = f"{name!r} gave a {type(data).__name__}"
        raise ConfigError(_KEY, problem, "a fedmpi.learning.datasets.Dataset")
    for field in ("train_x", "train_y", "test_x", "test_y", "train_writer", "test_writer"):
        value = getattr(data, field)
        if not (isinstance(value, np.ndarray) or (value is None and field.endswith("writer"))):
            raise ConfigError(_KEY, f"{name!r} gave {field} as a {type(value).__name__}", "a numpy array")
    if not isinstance(data.classes, int | np.integer) or not 1 <= data.classes <= MOST_CLASSES:
        problem = f"{name!r} gave classes as {shown_value(data.classes)}"
        raise ConfigError(_KEY, problem, f"an integer from 1 to {MOST_CLASSES}")
    for part, x, y in (("train", data.train_x, data.train_y), ("test", data.test_x, data.test_y)):
        if x.ndim != 4 or x.dtype not in (np.uint8, np.float32) or not x.size:
            problem = f"{name!r} gave {part}_x as {x.dtype} of shape {x.shape}"
            raise ConfigError(_KEY, problem, "uint8 or float32 of shape (n, C, H, W), each at least 1")
        if x.dtype == np.float32 and not (np.isfinite(x.min()) and np.isfinite(x.max())):
            raise ConfigError(_KEY, f"{name!r} gave {part}_x with nan or inf", "finite numbers")
        if y.dtype != np.int64 or y.shape != (len(x),) or y.min() < 0 or y.max() >= data.classes:
            ends = f", from {y.min()} to {y.max()}" if y.size and y.dtype.kind in "biuf" else ""
            problem = f"{name!r} gave {part}_y as {y.dtype} of shape {y.shape}{ends}"
            raise ConfigError(_KEY, problem, f"int64 of shape ({len(x)},), from 0 to {data.classes - 1}")
    for part, writer, y in (
        ("train", data.train_writer, data.train_y),
        ("test", data.test_writer, data.test_y),
    ):
        if writer is not None and (writer.dtype.kind != "i" or writer.shape != y.shape):
            problem = f"{name!r} gave {part}_writer as {writer.dtype} of shape {writer.shape}"
            raise ConfigError(_KEY, problem, f"None, or integers of shape {y.shape}")
    if data.train_x.shape[1:] != data.test_x.shape[1:] or data.train_x.dtype != data.test_x.dtype:
        problem = f"{name!r} gave training and test samples of other shapes or types"
        raise ConfigError(_KEY, problem, "the same for both")
