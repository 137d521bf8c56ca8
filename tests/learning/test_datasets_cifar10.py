"""CIFAR-10 in its binary version: records, compressed files, and what is wrong with files."""

import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, Dataset, load

RECORDS = np.random.default_rng(0).integers(0, 256, (7, 3073), dtype=np.uint8)
RECORDS[:, 0] = [3, 9, 0, 1, 3, 5, 2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two training batches, of three records in xz and of two gzipped, and a plain test batch of two."""
    (tmp_path / "data_batch_1.bin.xz").write_bytes(lzma.compress(RECORDS[:3].tobytes()))
    (tmp_path / "data_batch_2.bin.gz").write_bytes(gzip.compress(RECORDS[3:5].tobytes()))
    (tmp_path / "test_batch.bin").write_bytes(RECORDS[5:].tobytes())
    (tmp_path / "batches.meta.txt").write_text("airplane\nautomobile\n", encoding="ascii")
    return tmp_path


def _load(folder: Path) -> Dataset:
    return load(DataConfig("cifar10", str(folder)))


def test_records_of_plain_and_compressed_files(folder: Path) -> None:
    data = _load(folder)
    assert data.train_x.dtype == np.uint8
    assert np.array_equal(data.train_x, RECORDS[:5, 1:].reshape(5, 3, 32, 32))
    assert data.train_y.dtype == np.int64
    assert data.train_y.tolist() == [3, 9, 0, 1, 3]
    assert np.array_equal(data.test_x, RECORDS[5:, 1:].reshape(2, 3, 32, 32))
    assert data.test_y.tolist() == [5, 2]
    assert (data.classes, data.input_shape, data.train_writer) == (10, (3, 32, 32), None)


def test_red_comes_first_and_rows_follow_each_other(tmp_path: Path) -> None:
    red = np.zeros((3, 32, 32), dtype=np.uint8)
    red[0, 2, 5] = 200
    for name in ("data_batch_1.bin", "test_batch.bin"):
        (tmp_path / name).write_bytes(bytes([7]) + red.tobytes())
    assert np.argwhere(_load(tmp_path).train_x).tolist() == [[0, 0, 2, 5]]


def test_a_batch_in_several_forms_counts_once(folder: Path) -> None:
    (folder / "data_batch_1.bin").write_bytes(RECORDS[:3].tobytes())
    assert np.array_equal(_load(folder).train_y, [3, 9, 0, 1, 3])


def test_inverted(folder: Path) -> None:
    data = load(DataConfig("cifar10", str(folder), invert=True))
    assert np.array_equal(data.test_x, 255 - RECORDS[5:, 1:].reshape(2, 3, 32, 32))


def test_cifar10(shared_dir: Path) -> None:
    data = _load(shared_dir / "data" / "cifar10")
    assert data.train_x.shape == (9_980, 3, 32, 32)
    assert data.test_x.shape == (9_968, 3, 32, 32)
    assert np.unique(data.train_y).tolist() == list(range(10))
    assert np.bincount(data.train_y).min() > 900
    assert 110 < data.train_x.mean() < 130
    # neighbouring pixels are alike, which they are not when records or rows are read askew
    steps = np.abs(np.diff(data.test_x.astype(np.int16), axis=3)).mean()
    assert steps < 0.25 * data.test_x.std()


def _cut(folder: Path) -> str:
    (folder / "test_batch.bin").write_bytes(RECORDS[5:].tobytes()[:-1])
    return r"test_batch\.bin: 6145 bytes, a multiple of 3073 expected"


def _empty(folder: Path) -> str:
    (folder / "test_batch.bin").write_bytes(b"")
    return r"test_batch\.bin: 0 bytes, a multiple of 3073 expected"


def _cut_after_decompression(folder: Path) -> str:
    (folder / "data_batch_1.bin.xz").write_bytes(lzma.compress(RECORDS[:3].tobytes()[10:]))
    return r"data_batch_1\.bin\.xz: 9209 bytes, a multiple of 3073 expected"


def _cut_xz(folder: Path) -> str:
    path = folder / "data_batch_1.bin.xz"
    path.write_bytes(path.read_bytes()[:-50])
    return r"data_batch_1\.bin\.xz: compressed data are cut short or damaged"


def _cut_gzip(folder: Path) -> str:
    path = folder / "data_batch_2.bin.gz"
    path.write_bytes(path.read_bytes()[:-50])
    return r"data_batch_2\.bin\.gz: compressed data are cut short or damaged"


def _garbage_gzip(folder: Path) -> str:
    (folder / "data_batch_2.bin.gz").write_bytes(b"no gzip at all")
    return r"data_batch_2\.bin\.gz: compressed data are cut short or damaged"


def _label_too_large(folder: Path) -> str:
    (folder / "test_batch.bin").write_bytes(bytes([10]) + bytes(3072))
    return r"test_batch\.bin: a label is 10, 0 to 9 expected"


def _no_test_batch(folder: Path) -> str:
    (folder / "test_batch.bin").unlink()
    return r"no file .* test_batch\.bin, test_batch\.bin\.gz, test_batch\.bin\.xz expected"


def _no_training_batch(folder: Path) -> str:
    for path in folder.glob("data_batch*"):
        path.unlink()
    return r"no file .* data_batch_\*\.bin, .* expected"


def _folder_instead_of_file(folder: Path) -> str:
    (folder / "data_batch_3.bin").mkdir()
    return r"data_batch_3\.bin: cannot be read"


@pytest.mark.parametrize(
    "damage",
    [
        _cut,
        _empty,
        _cut_after_decompression,
        _cut_xz,
        _cut_gzip,
        _garbage_gzip,
        _label_too_large,
        _no_test_batch,
        _no_training_batch,
        _folder_instead_of_file,
    ],
)
def test_damage_is_named(folder: Path, damage: Callable[[Path], str]) -> None:
    message = damage(folder)
    with pytest.raises(DataError, match=message):
        _load(folder)
