"""CelebA (Liu, Luo, Wang and Tang, ICCV 2015): faces of celebrities, one of 40 attributes being the label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from fedmpi.config.errors import ConfigError, shortened
from fedmpi.config.spelling import did_you_mean
from fedmpi.learning.datasets.dataset import DataError, Dataset
from fedmpi.learning.datasets.images import decode_images
from fedmpi.numerics.streams import Purpose, generator

USUAL_SIZE = 84

_IMAGES_FOLDER = "img_align_celeba"
_ATTRIBUTES_FILE = "list_attr_celeba.txt"
_IDENTITIES_FILE = "identity_CelebA.txt"
_LEAST_IMAGES = 5
_TEST_SHARE = 10
_SPLIT_SEED = 0
_MOST_DIGITS = 18
_ABSENT_OR_PRESENT = {"-1": 0, "1": 1}


def load_celeba(folder: Path, attribute: str, image_size: int = 0) -> Dataset:
    """Faces with and without ``attribute`` (label 1 and 0), uint8 (n, 3, size, size); ``image_size`` 0: the usual one.

    The folder holds ``list_attr_celeba.txt`` and the images, in ``img_align_celeba`` or beside it. With
    ``identity_CelebA.txt`` the writer of an image is its celebrity; as in LEAF (Caldas et al. 2018),
    celebrities of fewer than 5 images are left out, and of each other one a tenth of the images, rounded up, are
    test images. Without that file writers are not known, and a tenth of all images are. The choice is the
    same for every experiment seed.

    All 202,599 images take 4.3 GB at the usual 84 x 84. DataError for what is missing or damaged,
    ConfigError for an unknown attribute.
    """
    size = image_size or USUAL_SIZE
    names, labels = _read_attributes(folder / _ATTRIBUTES_FILE, attribute)
    celebrities = None
    if (folder / _IDENTITIES_FILE).is_file():
        celebrities = _read_identities(folder / _IDENTITIES_FILE, names)
    groups = np.zeros(len(names), dtype=np.int64) if celebrities is None else celebrities
    is_used, is_test = _split(groups, least=1 if celebrities is None else _LEAST_IMAGES)
    train, test = np.flatnonzero(is_used & ~is_test), np.flatnonzero(is_used & is_test)
    if not train.size or not test.size:
        problem = f"{train.size} training and {test.size} test images are left of {len(names)}"
        raise DataError(f"{folder}: {problem}, at least one of each expected")
    writer = test_writer = None
    if celebrities is not None:  # every celebrity who has test images has training images too
        writer, test_writer = (np.searchsorted(np.unique(groups[train]), groups[at]) for at in (train, test))
    images = folder / _IMAGES_FOLDER if (folder / _IMAGES_FOLDER).is_dir() else folder
    train_x = decode_images([images / names[i] for i in train], size, stretch=True)
    test_x = decode_images([images / names[i] for i in test], size, stretch=True)
    return Dataset(train_x, labels[train], writer, test_x, labels[test], 2, test_writer)


def _split(groups: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Which images belong to a group of at least so many, and which of the images are test images."""
    draw = generator(_SPLIT_SEED, Purpose.TEST_SPLIT)
    is_used = np.zeros(groups.size, dtype=bool)
    is_test = np.zeros(groups.size, dtype=bool)
    order = np.argsort(groups, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(groups[order])) + 1):
        if members.size >= least:
            is_used[members] = True
            is_test[draw.permutation(members)[: -(-members.size // _TEST_SHARE)]] = True
    return is_used, is_test


def _read_attributes(path: Path, attribute: str) -> tuple[list[str], np.ndarray]:
    """The names of the images, and int64 labels: 1 where the attribute is present."""
    lines = _read_lines(path)
    header = lines[1].split() if len(lines) > 1 else []
    if len(lines) < 3 or not lines[0].strip().isdecimal():
        raise DataError(f"{path}: the number of images, the names of attributes and images are expected")
    if attribute not in header:
        problem = f"{path} has no attribute {attribute!r}{did_you_mean(attribute, header)}"
        raise ConfigError("data.attribute", problem, ", ".join(header))
    column = 1 + header.index(attribute)
    names, labels = [], []
    for number, line in enumerate(lines[2:], start=3):
        fields = line.split()
        if len(fields) != 1 + len(header) or fields[column] not in _ABSENT_OR_PRESENT:
            problem = f"line {number} is no image name with {len(header)} values 1 or -1"
            raise DataError(f"{path}: {problem}")
        names.append(fields[0])
        labels.append(_ABSENT_OR_PRESENT[fields[column]])
    if len(names) != _integer(lines[0].strip()):
        expected = shortened(lines[0].strip())
        raise DataError(f"{path}: {len(names)} images, {expected} expected as its first line says")
    return names, np.array(labels, dtype=np.int64)


def _read_identities(path: Path, names: list[str]) -> np.ndarray:
    """The celebrity of each of the named images, int64."""
    celebrities = {}
    for number, line in enumerate(_read_lines(path), start=1):
        match line.split():
            case [name, celebrity] if (number_of_celebrity := _integer(celebrity)) is not None:
                celebrities[name] = number_of_celebrity
            case _:
                raise DataError(f"{path}: line {number} is no image name with the number of a celebrity")
    unknown = [name for name in names if name not in celebrities]
    if unknown:
        raise DataError(f"{path}: {shortened(unknown[0])} is missing, and {len(unknown) - 1} other images")
    return np.array([celebrities[name] for name in names], dtype=np.int64)


def _integer(text: str) -> int | None:
    """The integer of at least 0 that int64 can hold; None for any other text."""
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="ascii").splitlines()
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as text ({error})") from error
