"""Saving, finding and opening the checkpoints of a run folder."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fedmpi.checkpoint.files import (
    SERVER_FILE,
    CheckpointError,
    FileEntry,
    checksum_of,
    entry_of_manifest,
    errors_of,
    open_arrays,
    read_arrays,
    verify,
)

FORMAT_VERSION = 1
FOLDER = "checkpoint"
"""Where the checkpoints lie in the folder of a run."""

_MANIFEST = "manifest.json"
_PARTIAL = ".partial"
_FOLDER_NAME = re.compile(r"round-(-?\d+)(\.replaced)?")


def start(folder: Path, round_index: int) -> Path:
    """Make and return the folder in which the checkpoint of a round is written; remove unfinished ones."""
    partial = folder / f"{_folder_name(round_index)}{_PARTIAL}"
    with errors_of(partial):
        folder.mkdir(parents=True, exist_ok=True)
        for unfinished in folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(unfinished)
        partial.mkdir()
    return partial


def discard(partial: Path) -> None:
    """Remove what was written since ``start``."""
    shutil.rmtree(partial, ignore_errors=True)


def publish(partial: Path, entries: Iterable[FileEntry], values: Mapping[str, Any]) -> Path:
    """Complete the checkpoint in ``partial`` and give it its name; then remove all but it and the one before.

    ``values`` is the state that is not arrays, of what JSON knows (numbers keep every bit). CheckpointError
    when an entry reports a problem, a file is not there in full, or the disk is full; ``partial`` is then
    removed and the older checkpoints stay.
    """
    folder, name = partial.parent, partial.name.removesuffix(_PARTIAL)
    target, replaced = folder / name, folder / f"{name}.replaced"
    try:
        with errors_of(partial):
            files = [entry for entry in entries if entry.name or entry.problem]
            for entry in files:
                if entry.problem:
                    raise CheckpointError(entry.problem)
                if (partial / entry.name).stat().st_size != entry.size:
                    raise CheckpointError(f"{partial / entry.name}: is not {entry.size:,} bytes long")
            body = {
                "format_version": FORMAT_VERSION,
                "round": _round_of(target),
                "files": [{k: v for k, v in asdict(entry).items() if k != "problem"} for entry in files],
                "values": values,
            }
            with open(partial / _MANIFEST, "x", encoding="utf-8") as file:
                file.write(_manifest_text(body))
                file.flush()
                os.fsync(file.fileno())
            _sync_folder(partial)
            if target.exists():
                target.rename(replaced)
            partial.rename(target)
            _sync_folder(folder)
    except BaseException:
        discard(partial)
        raise
    with errors_of(folder):
        _remove_all_but_two(folder, target)
    return target


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose manifest and server file are intact (see ``open_checkpoint``)."""

    path: Path
    round_index: int
    values: dict[str, Any]
    files: tuple[FileEntry, ...]

    def server(self) -> dict[str, np.ndarray]:
        """The server's arrays. CheckpointError where the checkpoint has none, or they cannot be read."""
        if all(entry.name != SERVER_FILE for entry in self.files):
            raise CheckpointError(f"{self.path / _MANIFEST}: names no {SERVER_FILE}")
        return read_arrays(self.path / SERVER_FILE)

    def clients(self, ids: Iterable[int]) -> dict[int, dict[str, np.ndarray]]:
        """The arrays of those of ``ids`` that had any: client id -> name -> array.

        Each file that is read is checked first; CheckpointError when it is damaged.
        """
        wanted = set(ids)
        found: dict[int, dict[str, np.ndarray]] = {}
        for entry in self.files:
            if not any(entry.first_client <= client <= entry.last_client for client in wanted):
                continue
            verify(self.path / entry.name, entry)
            with open_arrays(self.path / entry.name) as archive:
                for key in archive.files:
                    client, _, name = key.partition("/")
                    if int(client) in wanted:
                        found.setdefault(int(client), {})[name] = archive[key]
        return found

    def verify(self) -> None:
        """Check every file; CheckpointError names the first that is damaged."""
        for entry in self.files:
            verify(self.path / entry.name, entry)


def open_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the sub-folder ``path``; CheckpointError when manifest or server file are damaged."""
    manifest = path / _MANIFEST
    with errors_of(manifest):
        text = manifest.read_text(encoding="utf-8", errors="replace")
    try:
        body = json.loads(text)
        checksum = body.pop("checksum")
        if checksum != _manifest_checksum(body):
            raise CheckpointError(f"{manifest}: the checksum is wrong")
        if body["format_version"] != FORMAT_VERSION:
            raise CheckpointError(f"{manifest}: format {body['format_version']}, expected {FORMAT_VERSION}")
        files = tuple(map(entry_of_manifest, body["files"]))
        if type(body["round"]) is not int or body["round"] != _round_of(path):
            raise ValueError(f"round {body['round']!r} in the folder {path.name}")
        if not isinstance(body["values"], dict):
            raise ValueError("its values are no table")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{manifest}: is no manifest ({error})") from error
    for entry in files:
        if entry.name == SERVER_FILE:
            verify(path / SERVER_FILE, entry)
    return Checkpoint(path, body["round"], body["values"], files)


def candidates(folder: Path) -> list[Path]:
    """The sub-folders of complete checkpoints, newest first, unchecked."""
    paths = [path for path in folder.glob("round-*") if _FOLDER_NAME.fullmatch(path.name)]
    return sorted(paths, key=lambda path: (_round_of(path), path.suffix == ""), reverse=True)


def latest_good(
    folder: Path, check: Callable[[Checkpoint], None] | None = None
) -> tuple[Checkpoint | None, list[str]]:
    """The newest checkpoint of which every file is intact, and what is wrong with each newer one.

    ``check`` raises CheckpointError where something else that it refers to is not intact.
    """
    problems: list[str] = []
    for path in candidates(folder):
        try:
            checkpoint = open_checkpoint(path)
            checkpoint.verify()
            if check is not None:
                check(checkpoint)
        except CheckpointError as error:
            problems.append(f"checkpoint {path.name} is passed over: {error}")
        else:
            return checkpoint, problems
    return None, problems


def _folder_name(round_index: int) -> str:
    return f"round-{round_index:08d}"


def _round_of(path: Path) -> int:
    match = _FOLDER_NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no name of a checkpoint")
    return int(match.group(1))


def _remove_all_but_two(folder: Path, newest: Path) -> None:
    """Later rounds go too: they were damaged, or the run would have gone on from there."""
    before = [path for path in candidates(folder) if _round_of(path) < _round_of(newest)]
    for path in candidates(folder):
        if path != newest and path not in before[:1]:
            doomed = path.with_name(path.name + _PARTIAL)
            path.rename(doomed)
            shutil.rmtree(doomed)


def _manifest_checksum(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return checksum_of(text)


def _manifest_text(body: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(body))  # what a reader will see: lists for tuples, text for keys
    return json.dumps({**plain, "checksum": _manifest_checksum(plain)}, indent=1)


def _sync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
