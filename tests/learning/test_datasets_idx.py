"""idx files: MNIST, and what is wrong with files."""

import gzip
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, load

IMAGES = np.random.default_rng(0).integers(0, 256, (12, 4, 5), dtype=np.uint8)
LABELS = (np.arange(12) % 3).astype(np.uint8)


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Training images gzipped, the rest plain."""
    (tmp_path / "train-images-idx3-ubyte.gz").write_bytes(gzip.compress(_idx(IMAGES)))
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(_idx(LABELS))
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(_idx(IMAGES[:4]))
    (tmp_path / "t10k-labels-idx1-ubyte").write_bytes(_idx(LABELS[:4]))
    return tmp_path


def _load(folder: Path) -> None:
    load(DataConfig("idx", str(folder)))


def test_plain_and_gzipped_files(folder: Path) -> None:
    data = load(DataConfig("idx", str(folder)))
    assert data.train_x.dtype == np.uint8
    assert np.array_equal(data.train_x[:, 0], IMAGES)
    assert np.array_equal(data.test_x[:, 0], IMAGES[:4])
    assert data.train_y.tolist() == LABELS.tolist()
    assert data.test_y.dtype == np.int64
    assert data.input_shape == (1, 4, 5)
    assert data.classes == 3
    assert data.train_writer is None


def test_inverted_images_stay_bytes(folder: Path) -> None:
    data = load(DataConfig("idx", str(folder), invert=True))
    assert data.train_x.dtype == np.uint8
    assert np.array_equal(data.train_x[:, 0], 255 - IMAGES)


def test_writers_beside_the_images(folder: Path) -> None:
    np.savez(folder / "mnist_writers.npz", train_writer=np.arange(12, dtype=np.uint16))
    data = load(DataConfig("idx", str(folder)))
    assert data.train_writer is not None
    assert data.train_writer.dtype == np.int64
    assert data.train_writer.tolist() == list(range(12))


def test_mnist(mnist_dir: Path) -> None:
    data = load(DataConfig("idx", str(mnist_dir)))
    assert data.train_x.shape == (60_000, 1, 28, 28)
    assert data.test_x.shape == (10_000, 1, 28, 28)
    assert data.train_y[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.classes == 10
    assert data.train_writer is not None
    counts = np.unique(data.train_writer, return_counts=True)[1]
    assert (counts.size, counts.min(), counts.max()) == (539, 19, 131)


def _cut_gzip(folder: Path) -> str:
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-40])
    return r"train-images-idx3-ubyte\.gz: gzip data are cut short"


def _garbage_gzip(folder: Path) -> str:
    (folder / "train-images-idx3-ubyte.gz").write_bytes(b"this is no gzip file")
    return r"train-images-idx3-ubyte\.gz: gzip data are cut short or damaged"


def _damaged_gzip(folder: Path) -> str:
    path = folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)
    return r"train-images-idx3-ubyte\.gz: "


def _missing(folder: Path) -> str:
    (folder / "t10k-labels-idx1-ubyte").unlink()
    return r"there is neither t10k-labels-idx1-ubyte nor t10k-labels-idx1-ubyte\.gz"


def _short_values(folder: Path) -> str:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-3])
    return r"t10k-images-idx3-ubyte: only 77 bytes of values, 80 expected for shape \(4, 4, 5\)"


def _long_values(folder: Path) -> str:
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(path.read_bytes() + b"x")
    return "t10k-images-idx3-ubyte: more bytes of values, 80 expected"


def _short_header(folder: Path) -> str:
    path = folder / "t10k-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:6])
    return "the header ends after 6 bytes, 8 expected"


def _empty(folder: Path) -> str:
    (folder / "t10k-labels-idx1-ubyte").write_bytes(b"")
    return "t10k-labels-idx1-ubyte: begins with 0x,"


def _labels_for_images(folder: Path) -> str:
    (folder / "train-labels-idx1-ubyte").write_bytes(_idx(IMAGES))
    return "train-labels-idx1-ubyte: begins with 0x00000803, an idx file of bytes with 0x00000801"


def _counts_differ(folder: Path) -> str:
    (folder / "train-labels-idx1-ubyte").write_bytes(_idx(LABELS[:5]))
    return r"train-labels-idx1-ubyte: 5 labels, 12 expected as in train-images-idx3-ubyte\.gz"


def _no_samples(folder: Path) -> str:
    (folder / "t10k-images-idx3-ubyte").write_bytes(_idx(IMAGES[:0]))
    return r"the header says \(0, 4, 5\)"


def _sizes_differ(folder: Path) -> str:
    (folder / "t10k-images-idx3-ubyte").write_bytes(_idx(IMAGES[:4, :3]))
    return r"training images are \(1, 4, 5\) and test images \(1, 3, 5\)"


def _writers_too_few(folder: Path) -> str:
    np.savez(folder / "mnist_writers.npz", train_writer=np.arange(5))
    return r"mnist_writers\.npz: train_writer is int64 of shape \(5,\), 12 integers expected"


def _writers_of_another_name(folder: Path) -> str:
    np.savez(folder / "mnist_writers.npz", writer=np.arange(12))
    return r"mnist_writers\.npz: the array train_writer cannot be read"


def _writers_of_one_array(folder: Path) -> str:
    with (folder / "mnist_writers.npz").open("wb") as file:
        np.save(file, np.arange(12))
    return r"mnist_writers\.npz: the array train_writer cannot be read"


def _writers_of_objects(folder: Path) -> str:
    np.savez(folder / "mnist_writers.npz", train_writer=np.array([{}] * 12, dtype=object))
    return r"mnist_writers\.npz: the array train_writer cannot be read"


def _writers_beyond_int64(folder: Path) -> str:
    np.savez(folder / "mnist_writers.npz", train_writer=np.full(12, 2**63, dtype=np.uint64))
    return r"mnist_writers\.npz: a writer has the number 9223372036854775808"


def _garbage_writers(folder: Path) -> str:
    (folder / "mnist_writers.npz").write_bytes(b"PK garbage")
    return r"mnist_writers\.npz: the array train_writer cannot be read"


@pytest.mark.parametrize(
    "damage",
    [
        _cut_gzip,
        _garbage_gzip,
        _damaged_gzip,
        _missing,
        _short_values,
        _long_values,
        _short_header,
        _empty,
        _labels_for_images,
        _counts_differ,
        _no_samples,
        _sizes_differ,
        _writers_too_few,
        _writers_of_another_name,
        _garbage_writers,
        _writers_of_one_array,
        _writers_of_objects,
        _writers_beyond_int64,
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], str]) -> None:
    message = damage(folder)
    with pytest.raises(DataError, match=message):
        _load(folder)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: there is neither train-images"):
        _load(tmp_path / "nowhere")


def test_an_absurd_header_is_an_error_and_no_allocation(folder: Path) -> None:
    header = bytes([0, 0, 8, 3]) + np.array([2**31, 2**10, 2**10], dtype=">u4").tobytes()
    (folder / "t10k-images-idx3-ubyte").write_bytes(header + b"x" * 100)
    with pytest.raises(DataError, match="t10k-images-idx3-ubyte: "):
        _load(folder)


@pytest.mark.parametrize("seed", range(40))
def test_a_writers_file_with_damaged_bytes_is_read_as_it_was_or_refused(folder: Path, seed: int) -> None:
    path = folder / "mnist_writers.npz"
    np.savez(path, train_writer=np.arange(12))
    content, draw = bytearray(path.read_bytes()), np.random.default_rng(seed)
    for place in draw.integers(len(content), size=3):
        content[place] = draw.integers(256)
    path.write_bytes(content)
    try:
        writers = load(DataConfig("idx", str(folder))).train_writer
    except DataError as error:
        refusal = str(error)
    else:
        assert writers is not None
        assert writers.tolist() == list(range(12))
        return
    assert "mnist_writers.npz: " in refusal


def test_a_folder_with_a_name_that_no_file_system_holds(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        _load(tmp_path / ("a" * 300))
