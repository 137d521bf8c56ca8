"""CelebA: attributes, celebrities, images, and what is wrong with files."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fedmpi.config.errors import ConfigError
from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, Dataset, load

NAMES = ["5_o_Clock_Shadow", "Smiling", "Young"]
CELEBRITIES = [40, 7, 7, 40, 7, 12, 7, 40, 7, 40, 40, 7]  # 12 has one image alone, the others five and six


def _file(number: int) -> str:
    return f"{number + 1:06d}.png"


def _is_smiling(number: int) -> bool:
    return number % 3 == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Twelve images of one colour each, 20 x number grey, 18 x 22 pixels, and both text files."""
    images = tmp_path / "img_align_celeba"
    images.mkdir()
    rows = []
    for number in range(12):
        grey = 20 * number
        Image.new("RGB", (18, 22), (grey, grey, grey)).save(images / _file(number))
        rows.append(f"{_file(number)} -1  {'1' if _is_smiling(number) else '-1'}  1")
    attributes = "\n".join(["12", " ".join(NAMES) + " ", *rows]) + "\n"
    (tmp_path / "list_attr_celeba.txt").write_text(attributes, encoding="ascii")
    identities = "".join(f"{_file(number)} {who}\n" for number, who in enumerate(CELEBRITIES))
    (tmp_path / "identity_CelebA.txt").write_text(identities, encoding="ascii")
    return tmp_path


def _load(folder: Path, attribute: str = "Smiling", size: int = 0) -> Dataset:
    return load(DataConfig("celeba", str(folder), attribute=attribute, image_size=size))


def _numbers(x: np.ndarray) -> list[int]:
    """Which images these are, by their grey."""
    assert (x == x[:, :1, :1, :1]).all()
    return (x[:, 0, 0, 0] // 20).tolist()


def test_images_and_labels(folder: Path) -> None:
    data = _load(folder)
    assert data.train_x.dtype == np.uint8
    assert data.input_shape == (3, 84, 84)
    assert data.classes == 2
    assert data.train_y.dtype == np.int64
    for x, y in ((data.train_x, data.train_y), (data.test_x, data.test_y)):
        assert y.tolist() == [int(_is_smiling(number)) for number in _numbers(x)]


def test_clients_are_celebrities_of_five_images_and_each_has_test_images(folder: Path) -> None:
    data = _load(folder, size=4)
    assert data.input_shape == (3, 4, 4)
    assert data.train_writer is not None
    train, test = _numbers(data.train_x), _numbers(data.test_x)
    assert sorted(train + test) == [number for number in range(12) if CELEBRITIES[number] != 12]
    assert [[7, 40][writer] for writer in data.train_writer] == [CELEBRITIES[number] for number in train]
    assert sorted(CELEBRITIES[number] for number in test) == [7, 40]
    assert data.test_writer is not None
    assert data.train_writer.dtype == data.test_writer.dtype == np.int64
    assert [[7, 40][writer] for writer in data.test_writer] == [CELEBRITIES[number] for number in test]


def test_the_split_is_fixed(folder: Path) -> None:
    assert _numbers(_load(folder).test_x) == _numbers(_load(folder, attribute="Young").test_x)


def test_without_celebrities_writers_are_unknown_and_a_tenth_is_for_tests(folder: Path) -> None:
    (folder / "identity_CelebA.txt").unlink()
    data = _load(folder, size=3)
    assert data.train_writer is data.test_writer is None
    assert sorted(_numbers(data.train_x) + _numbers(data.test_x)) == list(range(12))
    assert len(data.test_y) == 2


def test_images_may_lie_beside_the_text_files(folder: Path) -> None:
    for path in (folder / "img_align_celeba").iterdir():
        path.rename(folder / path.name)
    (folder / "img_align_celeba").rmdir()
    assert len(_load(folder, size=2).train_y) == 9


def test_another_attribute_is_another_label(folder: Path) -> None:
    assert set(_load(folder, attribute="Young", size=2).train_y) == {1}
    with pytest.raises(ConfigError, match=r"\[data\] attribute: .*no attribute 'smiling'.*Smiling.*, Young"):
        _load(folder, attribute="smiling")


def test_the_whole_image_is_squeezed_into_the_square(folder: Path) -> None:
    halves = np.zeros((22, 18, 3), dtype=np.uint8)
    halves[:11, :, 0] = 255
    for number in range(12):
        Image.fromarray(halves).save(folder / "img_align_celeba" / _file(number))
    x = _load(folder, size=10).train_x[0]
    assert (x[0, :4] > 250).all()
    assert (x[0, 6:] < 5).all()
    assert not x[1:].any()


def _write(path: Path, change: Callable[[list[str]], object]) -> None:
    lines = path.read_text(encoding="ascii").splitlines()
    change(lines)
    path.write_text("\n".join(lines) + "\n", encoding="ascii")


def _missing_image(folder: Path) -> str:
    (folder / "img_align_celeba" / _file(3)).unlink()
    return r"000004\.png: there is no such file"


def _cut_image(folder: Path) -> str:
    path = folder / "img_align_celeba" / _file(3)
    path.write_bytes(path.read_bytes()[:40])
    return r"000004\.png: is no image or a damaged one"


def _garbage_image(folder: Path) -> str:
    (folder / "img_align_celeba" / _file(0)).write_bytes(b"garbage")
    return r"000001\.png: is no image or a damaged one"


def _no_attributes(folder: Path) -> str:
    (folder / "list_attr_celeba.txt").unlink()
    return r"list_attr_celeba\.txt: there is no such file"


def _no_header(folder: Path) -> str:
    _write(folder / "list_attr_celeba.txt", lambda lines: lines.pop(0))
    return r"list_attr_celeba\.txt: the number of images, the names"


def _binary(folder: Path) -> str:
    (folder / "list_attr_celeba.txt").write_bytes(bytes(range(256)))
    return r"list_attr_celeba\.txt: cannot be read as text"


def _value_missing(folder: Path) -> str:
    _write(folder / "list_attr_celeba.txt", lambda lines: lines.__setitem__(4, f"{_file(2)} -1 1"))
    return r"list_attr_celeba\.txt: line 5 is no image name with 3 values 1 or -1"


def _value_wrong(folder: Path) -> str:
    _write(folder / "list_attr_celeba.txt", lambda lines: lines.__setitem__(4, f"{_file(2)} -1 0 1"))
    return r"list_attr_celeba\.txt: line 5 is no image name with 3 values 1 or -1"


def _rows_missing(folder: Path) -> str:
    _write(folder / "list_attr_celeba.txt", lambda lines: lines.pop())
    return r"list_attr_celeba\.txt: 11 images, 12 expected"


def _celebrity_missing(folder: Path) -> str:
    _write(folder / "identity_CelebA.txt", lambda lines: lines.pop(5))
    return r"identity_CelebA\.txt: 000006\.png is missing, and 0 other images"


def _celebrity_no_number(folder: Path) -> str:
    _write(folder / "identity_CelebA.txt", lambda lines: lines.__setitem__(0, f"{_file(0)} Ann"))
    return r"identity_CelebA\.txt: line 1 is no image name with the number of a celebrity"


def _everybody_has_one_image(folder: Path) -> str:
    lines = "".join(f"{_file(number)} {number}\n" for number in range(12))
    (folder / "identity_CelebA.txt").write_text(lines, encoding="ascii")
    return "0 training and 0 test images are left of 12"


@pytest.mark.parametrize(
    "damage",
    [
        _missing_image,
        _cut_image,
        _garbage_image,
        _no_attributes,
        _no_header,
        _binary,
        _value_missing,
        _value_wrong,
        _rows_missing,
        _celebrity_missing,
        _celebrity_no_number,
        _everybody_has_one_image,
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], str]) -> None:
    message = damage(folder)
    with pytest.raises(DataError, match=message):
        _load(folder, size=4)


@pytest.mark.parametrize("number", ["1" + "0" * 30, "9" * 5000, "-1", "1.5", "\u0661"])
def test_celebrities_beyond_all_numbers_are_refused(folder: Path, number: str) -> None:
    path = folder / "identity_CelebA.txt"
    path.write_text(path.read_text(encoding="ascii").replace(" 12\n", f" {number}\n"), encoding="utf-8")
    with pytest.raises(DataError, match=r"identity_CelebA\.txt: (line \d+ is no image name|cannot be read)"):
        _load(folder)


@pytest.mark.parametrize("number", ["1" + "0" * 30, "9" * 5000])
def test_a_number_of_images_beyond_all_numbers_is_refused(folder: Path, number: str) -> None:
    path = folder / "list_attr_celeba.txt"
    path.write_text(path.read_text(encoding="ascii").replace("12\n", f"{number}\n", 1), encoding="ascii")
    with pytest.raises(DataError, match=r"12 images, \d+(\.\.\.)? expected as its first line says") as caught:
        _load(folder)
    assert len(str(caught.value)) < 300
