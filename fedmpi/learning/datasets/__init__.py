"""Data sets by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import celeba, imagenet
from fedmpi.learning.datasets.cifar10 import load_cifar10
from fedmpi.learning.datasets.dataset import DataError, Dataset, as_float32, inverted
from fedmpi.learning.datasets.digits import load_digits
from fedmpi.learning.datasets.idx import load_idx
from fedmpi.learning.datasets.leaf import load_leaf

__all__ = ["DATASETS", "DataError", "Dataset", "as_float32", "load"]

DATASETS: dict[str, Callable[[DataConfig, Path], Dataset]] = {
    "digits": lambda config, folder: load_digits(),
    "idx": lambda config, folder: load_idx(folder),
    "leaf": lambda config, folder: load_leaf(folder),
    "cifar10": lambda config, folder: load_cifar10(folder),
    "celeba": lambda config, folder: celeba.load_celeba(
        folder, config.attribute, config.image_size or celeba.USUAL_SIZE
    ),
    "imagenet": lambda config, folder: imagenet.load_imagenet(
        folder, config.classes, config.image_size or imagenet.USUAL_SIZE
    ),
}


def load(config: DataConfig) -> Dataset:
    """The data set of ``[data]``; the same for every experiment seed, test samples included.

    ``data.invert`` replaces every value x by 1 - x. DataError when files are missing or damaged.
    """
    if config.dataset not in DATASETS:
        raise ConfigError("data.dataset", f"there is no data set {config.dataset!r}", ", ".join(DATASETS))
    folder = Path(config.path)
    try:
        data = DATASETS[config.dataset](config, folder)
    except OSError as error:
        raise DataError(f"{error.filename or folder}: cannot be read ({error.strerror or error})") from error
    except MemoryError as error:
        raise DataError(f"{folder}: the data do not fit in memory ({error})") from error
    if config.invert:
        return replace(data, train_x=inverted(data.train_x), test_x=inverted(data.test_x))
    return data
