"""The arguments that name a configuration, shared by ``run`` and ``check``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from fedmpi.cli.number_arguments import integer
from fedmpi.config import Config, ConfigError, load, validate, validate_ranks
from fedmpi.config.errors import shown_value
from fedmpi.emulation.devices import assign
from fedmpi.experiment.parts import resolve


def add_configuration(parser: argparse.ArgumentParser) -> None:
    """``CONFIG|PRESET [section.key=value ...] [--ranks P]``."""
    parser.add_argument("config", metavar="CONFIG", help="a TOML file, or the name of a preset")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="replaces one key of the configuration",
    )
    parser.add_argument(
        "--ranks", type=integer(1), metavar="P", help="number of MPI ranks, the server included"
    )


def configured(arguments: argparse.Namespace, ranks: int) -> Config:
    """The configuration, found fit to run on ``ranks`` ranks as far as can be known without its data.

    Raises ConfigError and EmulationError.
    """
    return checked(load(arguments.config, arguments.overrides), ranks)


def checked(config: Config, ranks: int) -> Config:
    """``config``, found fit to run on ``ranks`` ranks as ``configured`` does."""
    validate(config)
    resolve(config)
    validate_ranks(config, ranks)
    _exists("pruning.ticket", config.pruning.ticket)  # it may come to be while a sweep is running
    path = config.data.path
    if path and not _exists("data.path", path):
        problem = f"found {shown_value(path)}, which does not exist"
        raise ConfigError("data.path", problem, "an existing file or folder")
    folder = config.clients.state_folder
    if folder and not _exists("clients.state_folder", folder):
        problem = f"found {shown_value(folder)}, which does not exist"
        raise ConfigError("clients.state_folder", problem, "an existing folder that all nodes see")
    assign(config, config.experiment.seed)
    return config


def find_modules_of_working_directory() -> None:
    """Let ``module:attribute`` name a file here, as under ``python -m``; last, so that it hides nothing.

    ConfigError where the folder is gone: no relative path would mean anything.
    """
    try:
        folder = os.getcwd()
    except OSError as error:
        problem = f"cannot be found: {error.strerror}"
        raise ConfigError("the working directory", problem, "a folder that is still there") from error
    if "" not in sys.path and folder not in sys.path:
        sys.path.append(folder)


def _exists(key: str, path: str) -> bool:
    """Whether there is a file or folder; ConfigError for a path of which that cannot be said."""
    try:
        return Path(path).exists()
    except OSError as error:  # such as a name that is too long
        problem = f"found {shown_value(path)}, which cannot be read: {error.strerror}"
        raise ConfigError(key, problem, "an existing file or folder") from None
