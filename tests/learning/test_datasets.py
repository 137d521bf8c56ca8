"""Data sets by name, the digits, and values as float32."""

import sys
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import sklearn.datasets
import torch

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, Dataset, as_float32, digits, load
from fedmpi.learning.datasets.dataset import inverted


def test_digits() -> None:
    data = load(DataConfig("digits"))
    assert data.input_shape == (1, 8, 8)
    assert data.classes == 10
    assert data.train_writer is None
    assert data.train_x.dtype == np.float32
    assert data.train_y.dtype == np.int64
    assert len(data.train_y) + len(data.test_y) == 1797
    assert len(data.train_x) == len(data.train_y)
    assert len(data.test_x) == len(data.test_y)
    assert data.train_x.min() == 0.0
    assert data.train_x.max() == 1.0
    shares = np.bincount(data.test_y) / (np.bincount(data.test_y) + np.bincount(data.train_y))
    assert shares.size == 10
    assert np.abs(shares - 0.2).max() < 0.004


def test_digits_are_those_of_scikit_learn() -> None:
    values, labels = sklearn.datasets.load_digits(return_X_y=True)
    data = load(DataConfig("digits"))
    ours = sorted(
        (*image.ravel().tolist(), int(label))
        for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y))
        for image, label in zip(x, y, strict=True)
    )
    assert ours == sorted(
        (*(row / 16).tolist(), int(label)) for row, label in zip(values, labels, strict=True)
    )


@pytest.mark.parametrize("found", [None, ModuleSpec("sklearn", None, is_package=True)])
def test_digits_without_scikit_learn_are_refused(
    monkeypatch: pytest.MonkeyPatch, found: ModuleSpec | None
) -> None:
    monkeypatch.setattr(digits, "find_spec", lambda name: found)
    with pytest.raises(DataError, match=r"digits come with scikit-learn, but .*pip install scikit-learn"):
        load(DataConfig("digits"))


def test_the_test_split_of_digits_is_fixed() -> None:
    first, second = load(DataConfig("digits")), load(DataConfig("digits"))
    assert np.array_equal(first.test_x, second.test_x)
    assert not (np.diff(first.test_y) == 0).all()


def test_invert_replaces_x_by_one_minus_x() -> None:
    plain, turned = load(DataConfig("digits")), load(DataConfig("digits", invert=True))
    assert np.array_equal(turned.train_x, 1 - plain.train_x)
    assert np.array_equal(turned.test_x, 1 - plain.test_x)


def test_inverted_bytes_are_exact() -> None:
    x = np.arange(256, dtype=np.uint8)
    assert np.array_equal(inverted(x.copy()), 255 - np.arange(256))
    assert inverted(x.copy()).dtype == np.uint8


def test_as_float32_gives_arrays_and_tensors_the_same_bits() -> None:
    x = np.arange(256, dtype=np.uint8)
    values = as_float32(x)
    assert values.dtype == np.float32
    assert np.array_equal(values, (np.arange(256) / 255).astype(np.float32))
    assert np.array_equal(as_float32(torch.from_numpy(x)).numpy(), values)


def test_as_float32_leaves_float32_and_refuses_the_rest() -> None:
    x = np.zeros(3, dtype=np.float32)
    assert as_float32(x) is x
    with pytest.raises(TypeError, match="int64"):
        as_float32(np.zeros(3, dtype=np.int64))
    with pytest.raises(TypeError, match=r"torch\.float64"):
        as_float32(torch.zeros(3, dtype=torch.float64))


def test_unknown_data_set_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r'\[data\] dataset: found "svhn"; allowed: digits, idx, leaf, cifar10'
    ):
        load(DataConfig("svhn"))


def users_data(given: object, monkeypatch: pytest.MonkeyPatch, **settings: bool) -> Dataset:
    """What becomes of a data set of a user's own that gives, or raises, ``given``."""

    def read(folder: Path) -> object:
        if isinstance(given, Exception):
            raise given
        return given

    module = ModuleType("users_data")
    module.read = read  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "users_data", module)
    return load(DataConfig("users_data:read", path="somewhere", **settings))


GIVEN = Dataset(
    train_x=np.zeros((3, 1, 2, 2), np.float32),
    train_y=np.array([0, 1, 3]),
    train_writer=np.array([4, 4, 5]),
    test_x=np.zeros((2, 1, 2, 2), np.float32),
    test_y=np.array([3, 0]),
    classes=4,
    test_writer=np.array([4, -1]),
)


def test_a_data_set_of_ones_own_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert users_data(GIVEN, monkeypatch) is GIVEN
    assert (users_data(GIVEN, monkeypatch, invert=True).test_x == 1.0).all()
    for without in (replace(GIVEN, train_writer=None), replace(GIVEN, test_writer=None)):
        assert users_data(without, monkeypatch) is without


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_x": np.zeros((3, 4), np.float32)}, r"train_x as float32 of shape \(3, 4\)"),
        ({"train_x": np.zeros((3, 1, 2, 2))}, "train_x as float64"),
        ({"test_x": np.zeros((0, 1, 2, 2), np.float32)}, r"test_x as float32 of shape \(0, 1, 2, 2\)"),
        (
            {"train_x": np.zeros((3, 1, 0, 2), np.float32)},
            r"train_x as float32 of shape \(3, 1, 0, 2\); allowed: .* \(n, C, H, W\), each at least 1",
        ),
        (
            {"train_y": np.array([], np.int64)},
            r"train_y as int64 of shape \(0,\); allowed: int64 of shape \(3,\)",
        ),
        ({"train_y": np.array(["a", "b", "c"])}, r"train_y as <U1 of shape \(3,\); allowed: int64"),
        ({"train_y": np.array([0, 1])}, r"train_y as int64 of shape \(2,\), from 0 to 1"),
        ({"train_y": np.array([0, 1, 4])}, "train_y as int64 .* from 0 to 4; allowed: .* from 0 to 3"),
        ({"test_y": np.array([-1, 1])}, "test_y as int64 .* from -1 to 1"),
        ({"test_y": np.array([0, 1], np.int32)}, "test_y as int32"),
        ({"train_writer": np.array([1, 2])}, "train_writer as int64 of shape"),
        ({"test_writer": np.array([1.0, 2.0])}, "test_writer as float64"),
        ({"test_x": np.zeros((2, 1, 2, 3), np.float32)}, "samples of other shapes or types"),
        ({"test_x": np.zeros((2, 1, 2, 2), np.uint8)}, "samples of other shapes or types"),
    ],
)
def test_a_data_set_of_ones_own_is_checked(
    changes: dict[str, np.ndarray], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=message):
        users_data(replace(GIVEN, **changes), monkeypatch)


@pytest.mark.parametrize("classes", [4, 10**6, np.int64(7)])
def test_so_many_classes_are_taken(classes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = users_data(replace(GIVEN, classes=classes), monkeypatch).classes
    assert (taken, type(taken)) == (classes, int)


@pytest.mark.parametrize("classes", [0, -1, 10**6 + 1, 4.0, "4", None])
def test_other_numbers_of_classes_are_refused(classes: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"gave classes as .*; allowed: an integer from 1 to 1000000"):
        users_data(replace(GIVEN, classes=classes), monkeypatch)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ("digits", ConfigError, "gave a str; allowed: a fedmpi.learning.datasets.Dataset"),
        (ZeroDivisionError("no"), ConfigError, "failed: .*no.*; allowed: a function of a folder"),
        (DataError("a file is bad"), DataError, "^a file is bad$"),
        (
            FileNotFoundError(2, "No such file", "x.npy"),
            DataError,
            r"^x\.npy: cannot be read \(No such file\)",
        ),
        (OSError("broken"), DataError, r"^somewhere: cannot be read \(broken\)"),
        (MemoryError("7 GB"), DataError, r"somewhere: the data do not fit in memory \(7 GB\)"),
    ],
)
def test_what_a_data_set_of_ones_own_raises_is_told(
    given: object, error: type[Exception], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(error, match=message):
        users_data(given, monkeypatch)
