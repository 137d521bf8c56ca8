"""The run folder: where it is by default, and whether a run may be written there."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from fedmpi.checkpoint.state_folder import FOLDER, folder_of
from fedmpi.cli.rank_logs import holds_logs_alone
from fedmpi.config import Config, ConfigError, load, validate_resume
from fedmpi.experiment.folder_lock import LOCK_NAME, FolderInUse, FolderLock, in_use, owner_of
from fedmpi.experiment.resuming import Identity
from fedmpi.trace import TraceError
from fedmpi.trace.open_file import open_trace, read_attributes

_CONTENT = ("trace.h5", "config.toml", "checkpoint", FOLDER)
"""What fedmpi writes into a run folder; nothing else is ever removed by ``--overwrite``."""


def default_output(config: Config) -> Path:
    """``runs/NAME-SEED`` in the working directory."""
    return Path("runs") / f"{config.experiment.name}-{config.experiment.seed}"


def check_output(path: Path, config: Config, resume: bool, overwrite: bool) -> None:
    """Refuse a run folder that must not be written; changes nothing.

    A folder that does not exist or is empty (logs of ranks aside) is fine, also with ``resume``, so that a job
    script can always say ``--resume``. To resume, the stored configuration must be that of the same experiment. A run
    that is going on is not overwritten; its resume waits for the folder's lock, as it may just be ending.
    """
    _check_content(path, config, resume, overwrite)
    owner = owner_of(path) if overwrite else None
    if owner is not None:
        raise ConfigError("--output", str(in_use(path, owner)))


def _check_content(path: Path, config: Config, resume: bool, overwrite: bool) -> None:
    try:
        existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    except OSError as error:  # such as a name that is too long
        raise ConfigError("--output", f"{path} cannot be used: {error.strerror}", "a folder") from None
    if not existing.is_dir():
        raise ConfigError("--output", f"{existing} is a file", "a folder")
    if not os.access(existing, os.W_OK | os.X_OK):
        raise ConfigError("--output", f"{existing} cannot be written", "a folder with write permission")
    if not path.exists() or all(
        place.name == LOCK_NAME or holds_logs_alone(place) for place in path.iterdir()
    ):
        return
    if not any((path / name).exists() for name in _CONTENT):
        raise ConfigError("--output", f"{path} holds other files and no run", "a new or empty folder")
    if not (resume or overwrite):
        allowed = "--resume to go on with it, --overwrite to discard it, or another --output"
        raise ConfigError("--output", f"{path} holds a run already", allowed)
    if resume and (path / "config.toml").exists():
        validate_resume(config, load(path / "config.toml"))


def prepare_output(path: Path, config: Config, resume: bool, overwrite: bool) -> FolderLock:
    """Make the run folder and lock it, check it, and with ``overwrite`` remove the run in it.

    Rank 0 alone calls it, and keeps the lock for as long as the run goes on.
    """
    check_output(path, config, resume, overwrite)
    lock = lock_folder(path)
    try:
        _check_content(path, config, resume, overwrite)  # another run may have been there until now
        if overwrite:
            _remove_run(path)
    except OSError as error:
        lock.release()
        raise _cannot_be_written(path, error) from None
    except ConfigError:
        lock.release()
        raise
    return lock


def lock_folder(path: Path) -> FolderLock:
    """Make a folder and lock it. ConfigError where it cannot be written, or another process has it.

    Folders that are made and stay empty go with the lock: a run that is refused leaves nothing.
    """
    made = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path):
            pass
        lock = FolderLock.acquire(path)
        lock.made = made
        return lock
    except FolderInUse as error:
        raise ConfigError("--output", str(error)) from None
    except OSError as error:
        raise _cannot_be_written(path, error) from None


def _remove_run(path: Path) -> None:
    _remove_state_elsewhere(path)
    for name in _CONTENT:
        content = path / name
        if content.is_dir() and not content.is_symlink():
            shutil.rmtree(content)
        else:
            content.unlink(missing_ok=True)


def _remove_state_elsewhere(path: Path) -> None:
    """Remove what the clients of a run carry where that lies in ``clients.state_folder``."""
    try:
        config = load(path / "config.toml")
        with open_trace(path / "trace.h5") as file:
            run_id = Identity.stored_in(read_attributes(file)).run_id
    except (ConfigError, TraceError, OSError):
        return
    if config.clients.state_folder and run_id:
        shutil.rmtree(folder_of(config, path, run_id), ignore_errors=True)


def _cannot_be_written(path: Path, error: OSError) -> ConfigError:
    problem = f"{path} cannot be written: {error.strerror}"
    return ConfigError("--output", problem, "a folder with write permission and space")
