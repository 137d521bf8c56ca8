"""Real data for the tests of learning, unpacked once."""

import tarfile
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def femnist_dir(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """FEMNIST by writer: a folder with ``train/`` and ``test/`` of LEAF JSON files."""
    archive = shared_dir / "data" / "femnist_leaf.tar.xz"
    if not archive.is_file():
        pytest.skip(f"FEMNIST is not there: {archive} is missing")
    folder = tmp_path_factory.mktemp("femnist")
    with tarfile.open(archive) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # not before Python 3.11.4
        tar.extractall(folder)
    return next(folder.rglob("train")).parent


@pytest.fixture(scope="session")
def mnist_dir(shared_dir: Path) -> Path:
    """MNIST in gzipped idx files, with its writers."""
    folder = shared_dir / "data" / "mnist"
    if not folder.is_dir():
        pytest.skip(f"MNIST is not there: {folder} is missing")
    return folder
