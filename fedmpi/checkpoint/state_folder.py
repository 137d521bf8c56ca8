"""The folder in which the state of clients lies on disk, and the tables by which a checkpoint refers to it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from fedmpi.checkpoint.files import CheckpointError, errors_of
from fedmpi.checkpoint.row_files import NOWHERE, verify_rows
from fedmpi.config import Config, ConfigError

FOLDER = "client-state"
"""Where it lies in the folder of a run, unless ``clients.state_folder`` says otherwise."""

_MARK = "fedmpi-run"


def folder_of(config: Config, output: Path, run_id: str) -> Path:
    """Where the state of the clients of a run lies."""
    given = config.clients.state_folder
    return Path(given) / f"fedmpi-{run_id}" if given else output / FOLDER


def make_folder(folder: Path, run_id: str) -> None:
    """Make the folder empty, with a mark by which ``check_folder`` knows it. ConfigError where that is impossible."""
    try:
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        (folder / _MARK).write_text(run_id, encoding="utf-8")
    except OSError as error:
        problem = f"{folder} cannot be made: {error.strerror or error}"
        raise ConfigError(
            "clients.state_folder", problem, "a folder with write permission and space"
        ) from None


def check_folder(folder: Path, run_id: str, node: str) -> None:
    """ConfigError unless this rank, on ``node``, sees the folder that ``make_folder`` made."""
    try:
        found = (folder / _MARK).read_text(encoding="utf-8")
    except OSError:
        found = ""
    if found != run_id:
        problem = f"{folder} of the first rank is not there on {node}"
        raise ConfigError("clients.state_folder", problem, "a folder that all nodes see")


def stored(arrays: Mapping[str, np.ndarray], name: str, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and checksums of all clients among a checkpoint's arrays. ValueError where it has none of this length."""
    places, digests, found = (arrays[key] for key in _keys(name))
    if found.tolist() != [length]:
        raise ValueError(f"rows {name} of {found.tolist()} values, expected are {length}")
    return places, digests


def verify_stored(folder: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Check every row that a checkpoint with these ``arrays`` refers to. CheckpointError for a damaged one."""
    names = [key.split(".")[1] for key in arrays if key.startswith("rows.") and key.endswith(".places")]
    for name in names:
        places, digests, length = (arrays[key] for key in _keys(name))
        if not (places > NOWHERE).any():
            continue
        with errors_of(folder):
            if not folder.is_dir():
                raise CheckpointError(f"{folder}: is not there; the state of clients lies in it")
        verify_rows(folder, name, int(length[0]), places, digests)


def _keys(name: str) -> tuple[str, str, str]:
    return f"rows.{name}.places", f"rows.{name}.digests", f"rows.{name}.length"


def as_arrays(name: str, length: int, places: np.ndarray, digests: np.ndarray) -> dict[str, np.ndarray]:
    """Places and checksums of all clients as a checkpoint keeps them; ``stored`` takes them back."""
    return dict(zip(_keys(name), (places, digests, np.array([length])), strict=True))
