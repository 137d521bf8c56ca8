"""``fedmpi data``: what it prints, what it makes, and its exit codes."""

import gzip
import hashlib
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from fedmpi.cli import data
from fedmpi.cli import main as cli
from fedmpi.learning import sources
from fedmpi.learning.sources import PublicDataset, RemoteFile


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def web(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder served on this machine with the files of a tiny ``mnist``."""
    folder = tmp_path_factory.mktemp("web")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")

    def handler(*args: object) -> _Handler:
        return _Handler(*args, directory=str(folder))  # type: ignore[arg-type]

    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        files = []
        for part in ("train", "t10k"):
            for kind, array in (
                ("images-idx3", np.zeros((3, 2, 2), np.uint8)),
                ("labels-idx1", np.arange(3, dtype=np.uint8)),
            ):
                header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype=">u4").tobytes()
                content = gzip.compress(header + array.tobytes())
                name = f"{part}-{kind}-ubyte.gz"
                (folder / name).write_bytes(content)
                url = f"http://127.0.0.1:{server.server_address[1]}/{name}"
                files.append(RemoteFile(url, hashlib.sha256(content).hexdigest(), 0.1))
        tiny = {"mnist": PublicDataset("tiny digits", "idx", tuple(files))}
        monkeypatch.setattr(data, "PUBLIC", tiny)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield folder
        server.shutdown()
        thread.join()


def test_a_data_set_is_fetched_and_told_how_to_use(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "mnist"
    assert cli.main(["data", "mnist", "--to", str(target)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("fetching http://127.0.0.1:")
    assert out[-2] == f"{target} holds 3 training and 3 test samples"
    assert out[-1] == f'In a configuration: [data] dataset = "idx", path = "{target}"'
    assert {path.name for path in target.iterdir()} == {path.name for path in web.iterdir()}


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_failures_are_one_line_and_exit_with_1(
    damage: str, web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = web / "t10k-labels-idx1-ubyte.gz"
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"x")
    assert cli.main(["data", "mnist", "--to", str(tmp_path / "a" / "mnist")]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("fedmpi: http://127.0.0.1:")
    assert "t10k-labels-idx1-ubyte.gz" in err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_content_is_refused(
    web: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").write_text("important", encoding="ascii")
    assert cli.main(["data", "mnist", "--to", str(tmp_path)]) == 2
    assert "is not empty; allowed: a new or empty folder" in capsys.readouterr().err
    assert cli.main(["data", "mnist", "--to", str(tmp_path / "mine")]) == 2
    assert "is a file; allowed: a new or empty folder" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_list_names_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data"]) == 0
    names = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert names == [*sources.PUBLIC, *sources.MANUAL]


def test_a_public_data_set_is_described(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "cifar10"]) == 0
    out = capsys.readouterr().out
    assert "fedmpi data cifar10 --to DIR fetches 170 MB" in out
    assert "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd" in out


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("femnist", ["github.com/TalwalkarLab/leaf", "preprocess.sh", 'dataset = "leaf"']),
        ("celeba", ["img_align_celeba", "identity_CelebA.txt", 'dataset = "celeba"']),
        ("imagenet", ["ILSVRC2012_img_train.tar", "val/CLASS/", 'dataset = "imagenet"']),
    ],
)
def test_what_must_be_done_by_hand_is_told(
    name: str, told: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["data", name]) == 0
    out = capsys.readouterr().out
    assert all(text in out for text in (*told, "must be fetched by hand"))
    assert cli.main(["data", name, "--to", str(tmp_path / "there")]) == 1
    assert capsys.readouterr().out == out
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_exit_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["data", "mnsit"]) == 2
    assert "data set mnsit: unknown; did you mean mnist?" in capsys.readouterr().err
    assert cli.main(["data", "--to", str(tmp_path / "there")]) == 2
    assert "fedmpi data --to: no data set named; allowed: mnist" in capsys.readouterr().err
