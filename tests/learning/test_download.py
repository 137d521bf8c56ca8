"""Fetching data sets from a server on this machine: all of their files, or none."""

import gzip
import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DATASETS, load
from fedmpi.learning.download import DownloadError, fetch
from fedmpi.learning.sources import MANUAL, PUBLIC, PublicDataset, RemoteFile


def _idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes() + array.tobytes()


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4), dtype=np.uint8)
LABELS = (np.arange(6) % 3).astype(np.uint8)
IDX_FILES = {
    "train-images-idx3-ubyte.gz": gzip.compress(_idx(IMAGES)),
    "train-labels-idx1-ubyte.gz": gzip.compress(_idx(LABELS)),
    "t10k-images-idx3-ubyte.gz": gzip.compress(_idx(IMAGES[:2])),
    "t10k-labels-idx1-ubyte.gz": gzip.compress(_idx(LABELS[:2])),
}


def _archive(names: tuple[str, ...]) -> bytes:
    """A tar.gz file with three CIFAR-10 records in each of the named members."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for label, name in enumerate(names):
            entry = tarfile.TarInfo(name)
            entry.size = 3 * 3073
            archive.addfile(entry, io.BytesIO((bytes([label]) + bytes(3072)) * 3))
        archive.addfile(tarfile.TarInfo("cifar-10-batches-bin/readme.html"))
    return content.getvalue()


class _Handler(BaseHTTPRequestHandler):
    """Sends ``server.files``; of the paths in ``server.cut`` only the first half."""

    def do_GET(self) -> None:
        files: dict[str, bytes] = self.server.files  # type: ignore[attr-defined]
        content = files.get(self.path)
        if content is None:
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        cut = self.path in self.server.cut  # type: ignore[attr-defined]
        self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        return


class Server(ThreadingHTTPServer):
    """A web server on this machine alone."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.cut: set[str] = set()

    def offer(self, name: str, content: bytes, members: tuple[str, ...] = ()) -> RemoteFile:
        """Serve a file; what the table of sources would say of it."""
        self.files[f"/{name}"] = content
        url = f"http://127.0.0.1:{self.server_address[1]}/{name}"
        return RemoteFile(url, hashlib.sha256(content).hexdigest(), len(content) / 1e6, members)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _idx_source(server: Server) -> PublicDataset:
    files = tuple(server.offer(name, content) for name, content in IDX_FILES.items())
    return PublicDataset("tiny digits", "idx", files)


def _silent(line: str) -> None:
    return


def test_files_are_kept_as_they_are(server: Server, tmp_path: Path) -> None:
    lines: list[str] = []
    folder = tmp_path / "data" / "mnist"
    assert fetch(_idx_source(server), folder, lines.append) == (6, 2)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == IDX_FILES
    assert np.array_equal(load(DataConfig("idx", str(folder))).train_x[:, 0], IMAGES)
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["mnist"]
    assert lines[0].startswith("fetching http://127.0.0.1:")
    assert len(lines) == 4


def test_others_can_read_what_was_fetched(server: Server, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("made as files usually are", encoding="ascii")
    fetch(_idx_source(server), tmp_path / "mnist", _silent)
    assert {path.stat().st_mode for path in (tmp_path / "mnist").iterdir()} == {plain.stat().st_mode}


def test_archives_are_unpacked_into_what_the_reader_wants(server: Server, tmp_path: Path) -> None:
    members = PUBLIC["cifar10"].files[0].members
    file = server.offer("cifar-10-binary.tar.gz", _archive(members), members)
    folder = tmp_path / "cifar10"
    folder.mkdir()
    assert fetch(replace(PUBLIC["cifar10"], files=(file,)), folder, _silent) == (15, 3)
    names = [f"data_batch_{number}.bin" for number in range(1, 6)]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "test_batch.bin"]
    assert load(DataConfig("cifar10", str(folder))).test_y.tolist() == [5, 5, 5]


def _assert_nothing_is_left(tmp_path: Path) -> None:
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum(server: Server, tmp_path: Path) -> None:
    source = _idx_source(server)
    server.files["/t10k-images-idx3-ubyte.gz"] += b"x"
    with pytest.raises(DownloadError, match=r"t10k-images-.*is not the published file, its SHA-256 is not"):
        fetch(source, tmp_path / "data" / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_a_missing_file(server: Server, tmp_path: Path) -> None:
    source = _idx_source(server)
    del server.files["/train-labels-idx1-ubyte.gz"]
    with pytest.raises(DownloadError, match=r"train-labels-idx1-ubyte\.gz: cannot be fetched \(404"):
        fetch(source, tmp_path / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_a_cut_connection(server: Server, tmp_path: Path) -> None:
    source = _idx_source(server)
    server.cut.add("/train-images-idx3-ubyte.gz")
    with pytest.raises(DownloadError, match=r"train-images-idx3-ubyte\.gz: cannot be fetched"):
        fetch(source, tmp_path / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_no_server(tmp_path: Path, server: Server) -> None:
    source = _idx_source(server)
    server.server_close()
    with pytest.raises(DownloadError, match=r"train-images-idx3-ubyte\.gz: cannot be fetched"):
        fetch(source, tmp_path / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_an_archive_without_a_member(server: Server, tmp_path: Path) -> None:
    members = PUBLIC["cifar10"].files[0].members
    file = server.offer("cifar-10-binary.tar.gz", _archive(members[1:]), members)
    with pytest.raises(DownloadError, match=r"cannot be unpacked .*data_batch_1\.bin"):
        fetch(replace(PUBLIC["cifar10"], files=(file,)), tmp_path / "cifar10", _silent)
    _assert_nothing_is_left(tmp_path)


def test_no_archive(server: Server, tmp_path: Path) -> None:
    file = server.offer("cifar-10-binary.tar.gz", b"no archive", ("test_batch.bin",))
    with pytest.raises(DownloadError, match="cannot be unpacked"):
        fetch(replace(PUBLIC["cifar10"], files=(file,)), tmp_path / "cifar10", _silent)
    _assert_nothing_is_left(tmp_path)


def test_what_cannot_be_read_is_not_kept(server: Server, tmp_path: Path) -> None:
    file = server.offer("train-images-idx3-ubyte.gz", gzip.compress(_idx(IMAGES)))
    with pytest.raises(DownloadError, match=r"what was fetched cannot be read: .*train-labels"):
        fetch(PublicDataset("half", "idx", (file,)), tmp_path / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_without_pooch_the_error_says_what_to_install(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DownloadError, match=r"pip install 'fedmpi\[data\]'"):
        fetch(_idx_source(server), tmp_path / "mnist", _silent)
    _assert_nothing_is_left(tmp_path)


def test_sources_are_read_by_data_sets_that_exist() -> None:
    assert {source.dataset for source in (*PUBLIC.values(), *MANUAL.values())} <= set(DATASETS)
    assert not set(PUBLIC) & set(MANUAL)
    for source in PUBLIC.values():
        for file in source.files:
            assert file.url.startswith("https://")
            assert len(bytes.fromhex(file.sha256)) == 32


def test_checksums_of_mnist_are_those_of_its_files(mnist_dir: Path) -> None:
    """The images of the training set are left out: there they are the same values, gzipped once more."""
    for file in PUBLIC["mnist"].files[1:]:
        content = (mnist_dir / file.name).read_bytes()
        assert hashlib.sha256(content).hexdigest() == file.sha256
