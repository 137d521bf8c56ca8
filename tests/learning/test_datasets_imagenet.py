"""Photographs in one folder for each class."""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, Dataset, load
from fedmpi.learning.datasets.images import decode_images

CLASSES = {"n01440764": (200, 0, 0), "n01443537": (0, 200, 0), "n01484850": (0, 0, 200)}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of one colour, each with two training images and one for validation, and no photographs."""
    for name, colour in CLASSES.items():
        for part, files in (("train", (f"{name}_1.JPEG", f"{name}_20.JPEG")), ("val", ("val_7.JPEG",))):
            (tmp_path / part / name).mkdir(parents=True)
            (tmp_path / part / name / "notes.txt").write_text("no image", encoding="ascii")
            for file in files:
                Image.new("RGB", (40, 30), colour).save(tmp_path / part / name / file, quality=95)
    (tmp_path / "train" / "README").write_text("no class", encoding="ascii")
    return tmp_path


def _load(folder: Path, classes: int = 0, size: int = 16) -> Dataset:
    return load(DataConfig("imagenet", str(folder), classes=classes, image_size=size))


def _brightest_channel(x: np.ndarray) -> list[int]:
    return x.mean(axis=(2, 3)).argmax(axis=1).tolist()


def test_labels_are_positions_in_the_sorted_names(folder: Path) -> None:
    data = _load(folder)
    assert data.train_x.dtype == np.uint8
    assert data.train_x.shape == (6, 3, 16, 16)
    assert data.train_y.tolist() == _brightest_channel(data.train_x) == [0, 0, 1, 1, 2, 2]
    assert data.test_y.tolist() == _brightest_channel(data.test_x) == [0, 1, 2]
    assert data.train_y.dtype == np.int64
    assert (data.classes, data.train_writer) == (3, None)


def test_what_systems_and_editors_leave_behind_is_no_data(folder: Path) -> None:
    expected = _load(folder)
    for part in ("train", "val"):
        for name in (".ipynb_checkpoints", ".git", "__MACOSX", "@eaDir"):
            (folder / part / name).mkdir()
            Image.new("RGB", (4, 4)).save(folder / part / name / "a.png")
        for name in ("._n01440764_1.JPEG", ".hidden.png", "Thumbs.db", ".DS_Store"):
            (folder / part / "n01440764" / name).write_bytes(b"no image")
    found = _load(folder)
    assert found.classes == 3
    assert np.array_equal(found.train_x, expected.train_x)
    assert np.array_equal(found.train_y, expected.train_y)
    assert np.array_equal(found.test_y, expected.test_y)


def test_the_first_classes_alone(folder: Path) -> None:
    data = _load(folder, classes=2)
    assert data.classes == 2
    assert data.train_y.tolist() == [0, 0, 1, 1]
    assert data.test_y.tolist() == [0, 1]


def test_the_usual_size(folder: Path) -> None:
    assert _load(folder, classes=1, size=0).input_shape == (3, 168, 168)


def test_the_square_at_the_centre_is_taken(tmp_path: Path) -> None:
    stripes = np.zeros((10, 30, 3), dtype=np.uint8)
    stripes[:, :10, 0], stripes[:, 10:20, 1], stripes[:, 20:, 2] = 255, 255, 255
    for turned, name in ((stripes, "wide.png"), (stripes.transpose(1, 0, 2), "tall.png")):
        Image.fromarray(turned).save(tmp_path / name)
        x = decode_images([tmp_path / name], 5, stretch=False)[0]
        assert (x[1, 1:-1, 1:-1] == 255).all()
        assert not x[[0, 2], 1:-1, 1:-1].any()
        assert x[1].min() > 4 * x[[0, 2]].max()  # resizing looks a little beyond the edges of the square


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK", "1"])
def test_images_of_other_kinds_become_colour_images(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("image.jpg" if mode == "CMYK" else "image.png")
    Image.new("RGB", (12, 8), "white").convert(mode).save(path)
    assert decode_images([path], 4, stretch=True).min() > 250


def test_many_images_keep_their_order(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(200)]
    for number, path in enumerate(paths):
        Image.new("L", (3, 3), number).save(path)
    x = decode_images(paths, 2, stretch=True)
    assert np.array_equal(x, np.broadcast_to(np.arange(200)[:, None, None, None], (200, 3, 2, 2)))


def _too_few_classes(folder: Path) -> str:
    return r"train: 3 classes are there, 4 expected"


def _no_train(folder: Path) -> str:
    (folder / "train").rename(folder / "training")
    return r"train: no folder of a class is there"


def _class_without_validation(folder: Path) -> str:
    (folder / "val" / "n01484850").rename(folder / "val" / "n0")
    return r"val/n01484850: no image \(\.jpeg, \.jpg, \.png\) of this class is there"


def _class_without_images(folder: Path) -> str:
    for path in (folder / "train" / "n01443537").glob("*.JPEG"):
        path.unlink()
    return r"train/n01443537: no image"


def _cut_image(folder: Path) -> str:
    path = folder / "train" / "n01443537" / "n01443537_1.JPEG"
    path.write_bytes(path.read_bytes()[:-300])
    return r"n01443537_1\.JPEG: is no image or a damaged one"


def _image_of_another_kind(folder: Path) -> str:
    name = folder / "train" / "n01443537" / "scan.TIFF"
    Image.new("RGB", (40, 30)).save(name)
    return r"n01443537.scan\.TIFF: is an image that is not read; allowed are \.jpeg, \.jpg, \.png"


@pytest.mark.parametrize(
    "damage",
    [
        _too_few_classes,
        _no_train,
        _class_without_validation,
        _class_without_images,
        _cut_image,
        _image_of_another_kind,
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], str]) -> None:
    message = damage(folder)
    with pytest.raises(DataError, match=message):
        _load(folder, classes=4 if damage is _too_few_classes else 0)


def test_what_does_not_fit_in_memory_is_named_before_decoding(folder: Path) -> None:
    with pytest.raises(DataError, match=r"2 images of 10000000 x 10000000 take \d+\.\d GiB"):
        _load(folder, classes=1, size=10_000_000)


def test_without_pillow_the_error_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"photographs need Pillow: pip install 'fedmpi\[data\]'"):
        _load(folder)
