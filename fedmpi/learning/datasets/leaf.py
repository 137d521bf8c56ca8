"""Data of LEAF (Caldas et al. 2018): JSON files of users with their samples, square grey images (FEMNIST).

Each file holds ``users``, ``num_samples`` and ``user_data``: for every user ``x``, a list of rows of pixels
from 0 to 1, and ``y``, a list of labels.
"""

from __future__ import annotations

import json
from math import isqrt
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.config.errors import shortened
from fedmpi.learning.datasets.dataset import MOST_CLASSES, DataError, Dataset
from fedmpi.learning.datasets.folders import visible


def load_leaf(folder: Path) -> Dataset:
    """All users in ``train/*.json`` and ``test/*.json`` of a folder, in the order of their sorted names.

    Writers are the positions of the training users in that order, and -1 for a test user who is none of them; the test
    set joins the samples of all test users, of whom some may have none. A training user without samples is refused:
    nobody could be its client. Users are named by strings or integers, 0 and "0" being the same. Samples are float32
    (n, 1, side, side). Files are read one after the other, each turned into arrays before the next; hidden ones are no
    data.
    DataError for what is missing, damaged or inconsistent.
    """
    train = _load_users(folder / "train", least=1)
    test = _load_users(folder / "test", least=0)
    positions = {name: position for position, name in enumerate(sorted(train))}
    train_x, train_y, train_writer = _joined(train, positions)
    test_x, test_y, test_writer = _joined(test, positions)
    if train_x.shape[1:] != test_x.shape[1:]:
        raise DataError(
            f"{folder}: training samples are {train_x.shape[1:]} and test samples {test_x.shape[1:]}:"
            " the same size is expected"
        )
    classes = int(max(train_y.max(), test_y.max())) + 1
    return Dataset(train_x, train_y, train_writer, test_x, test_y, classes, test_writer)


class _Floats(dict[str, float]):
    """Floats by their text. Pixels have few distinct values: looking them up is thrice as fast as parsing."""

    _LIMIT = 65_536

    def __missing__(self, text: str) -> float:
        value = float(text)
        if len(self) < self._LIMIT:
            self[text] = value
        return value


_Samples = tuple[np.ndarray, np.ndarray]


def _load_users(folder: Path, least: int) -> dict[str, _Samples]:
    """The users in a folder's files, those without samples left out where ``least`` is 0."""
    paths = visible(folder.glob("*.json"))
    if not paths:
        raise DataError(f"{folder}: no *.json file is there, at least one expected")
    parse_float = _Floats().__getitem__
    users: dict[str, _Samples] = {}
    shapes: dict[tuple[int, ...], Path] = {}
    for path in paths:
        for user, samples in _load_file(path, parse_float, least).items():
            if user in users:
                raise DataError(f"{path}: user {user!r} is already in another file of the folder")
            users[user] = samples
            shapes.setdefault(samples[0].shape[1:], path)
    if len(shapes) > 1:
        found = ", ".join(f"{shape} in {path.name}" for shape, path in shapes.items())
        raise DataError(f"{folder}: samples of several sizes are there ({found}), one size expected")
    if not users:
        raise DataError(f"{folder}: no user with samples is in its files, at least one expected")
    return users


def _load_file(path: Path, parse_float: Any, least: int) -> dict[str, _Samples]:
    try:
        content = json.loads(path.read_bytes(), parse_float=parse_float)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is cut short or no JSON ({error})") from error
    match content:
        case {"users": list(users), "num_samples": list(counts), "user_data": dict(data)}:
            pass
        case _:
            raise DataError(f"{path}: an object with users, num_samples and user_data is expected")
    if not all(type(user) in (str, int) for user in users):
        raise DataError(f"{path}: users are not all strings or integers")
    names = [str(user) for user in users]  # keys of JSON objects are strings
    if len(names) != len(counts) or sorted(names) != sorted(data):
        raise DataError(
            f"{path}: {len(names)} users, {len(counts)} num_samples and {len(data)} user_data are there:"
            " one of each expected for every user"
        )
    found = {}
    for name, count in zip(names, counts, strict=True):
        where = f"{path}: user {shortened(repr(name))}"
        x_lists, y_list = _checked_lists(data[name], count, least, where)
        if y_list:
            found[name] = _samples(x_lists, y_list, where)
    return found


def _checked_lists(entry: object, count: object, least: int, where: str) -> tuple[list[Any], list[Any]]:
    """The x and y of one user, as many as are announced."""
    match entry:
        case {"x": list(x_lists), "y": list(y_list)}:
            pass
        case _:
            raise DataError(f"{where}: an object with lists x and y is expected")
    if type(count) is not int or not len(x_lists) == len(y_list) == count or count < least:
        raise DataError(
            f"{where}: {len(x_lists)} x and {len(y_list)} y are there, num_samples says {shortened(repr(count))}:"
            f" the same number, at least {least}, is expected"
        )
    return x_lists, y_list


def _samples(x_lists: list[Any], y_list: list[Any], where: str) -> _Samples:
    """The samples (n, 1, side, side) float32 and labels (n,) int64 of one user."""
    try:
        x = np.array(x_lists)
        y = np.array(y_list)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{where}: x or y are not numbers in rows of one length ({error})") from error
    if y.ndim != 1 or y.dtype.kind != "i" or y.min() < 0 or y.max() >= MOST_CLASSES:
        raise DataError(f"{where}: labels y are not integers from 0 to {MOST_CLASSES - 1}")
    side = isqrt(x.shape[1]) if x.ndim == 2 else 0
    if x.ndim != 2 or side == 0 or side * side != x.shape[1]:
        raise DataError(f"{where}: x has shape {x.shape}, rows of a square number of pixels are expected")
    if x.dtype.kind not in "if":
        raise DataError(f"{where}: x holds values that are no numbers from 0 to 1")
    if not (x.min() >= 0.0 and x.max() <= 1.0):  # also refuses NaN
        raise DataError(f"{where}: x has values from {x.min()} to {x.max()}, 0 to 1 expected")
    return x.reshape(-1, 1, side, side).astype(np.float32), y.astype(np.int64)


def _joined(
    users: dict[str, _Samples], positions: dict[str, int]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, labels and positions of users, users in sorted order; takes the users out of the dictionary."""
    numbers = np.array([positions.get(name, -1) for name in sorted(users)], dtype=np.int64)
    ordered = [users.pop(name) for name in sorted(users)]
    writer = np.repeat(numbers, [y.size for _, y in ordered])
    return np.concatenate([x for x, _ in ordered]), np.concatenate([y for _, y in ordered]), writer
