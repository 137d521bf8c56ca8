"""Fetching a public data set: all of its files, with the published checksums, or none."""

from __future__ import annotations

import logging
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

from fedmpi.config.schema import DataConfig
from fedmpi.learning.datasets import DataError, load
from fedmpi.learning.sources import PublicDataset, RemoteFile


class DownloadError(OSError):
    """A file that cannot be fetched, or is not the published one; the text is one line for a reader."""


def fetch(source: PublicDataset, folder: Path, report: Callable[[str], None]) -> tuple[int, int]:
    """Make ``folder`` with the files of a data set, ready for its reader; training and test samples in it.

    ``report`` gets a line before each file. Files are fetched, unpacked and read in a temporary folder on the
    same file system, which is renamed at the end: whatever goes wrong, ``folder`` is not there, and nothing
    else is left. ``folder`` must be new or empty. DownloadError (an OSError) when a file cannot be
    fetched, is not the published one, or pooch is not installed; OSError when it cannot be written.
    """
    target = folder.absolute()
    existing = next(place for place in target.parents if place.exists())
    with tempfile.TemporaryDirectory(dir=existing, prefix=f".fedmpi-{target.name}-") as workshop:
        content = Path(workshop) / "content"
        content.mkdir()
        for file in source.files:
            report(f"fetching {file.url} ({file.size_mb:g} MB)")
            _fetch_file(file, Path(workshop))
            _put(file, Path(workshop) / file.name, content)
        try:
            data = load(DataConfig(source.dataset, str(content)))
        except DataError as error:
            raise DownloadError(f"what was fetched cannot be read: {error}") from error
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            target.rmdir()
        os.rename(content, target)
    return len(data.train_y), len(data.test_y)


def _fetch_file(file: RemoteFile, folder: Path) -> None:
    try:
        import pooch
    except ImportError as error:
        raise DownloadError("fetching data needs pooch: pip install 'fedmpi[data]'") from error
    pooch.get_logger().setLevel(logging.WARNING)
    try:
        pooch.retrieve(file.url, f"sha256:{file.sha256}", fname=file.name, path=folder)
    except OSError as error:  # what requests raises are OSErrors too
        raise DownloadError(f"{file.url}: cannot be fetched ({error})") from error
    except ValueError as error:  # pooch says so when the checksum differs
        problem = f"what came is not the published file, its SHA-256 is not {file.sha256}"
        raise DownloadError(f"{file.url}: {problem}") from error


def _put(file: RemoteFile, fetched: Path, folder: Path) -> None:
    """Copy a fetched file into ``folder``, or only the members of an archive."""
    if not file.members:
        shutil.copyfile(fetched, folder / file.name)  # renamed, it would stay unreadable for others
        return
    try:
        with tarfile.open(fetched) as archive:
            for member in file.members:
                content = archive.extractfile(member)
                if content is None:
                    raise DownloadError(f"{file.url}: {member} in it is no file")
                with content, (folder / Path(member).name).open("wb") as target:
                    shutil.copyfileobj(content, target)
    except (tarfile.TarError, KeyError, EOFError, zlib.error) as error:
        raise DownloadError(f"{file.url}: cannot be unpacked ({error})") from error
