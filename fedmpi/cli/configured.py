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
    """The configuration, found fit to run on ``ranks`` ranks as far as can be told without its data.

    Raises ConfigError and EmulationError.
    """
    return checked(load(arguments.config, arguments.overrides), ranks)


def checked(config: Config, ranks: int) -> Config:
    """``config``, found fit to run on ``ranks`` ranks as ``configured`` does."""
    validate(config)
    resolve(config)
    validate_ranks(config, ranks)
    path = config.data.path
    if path:
        _check_exists(path)
    assign(config, config.experiment.seed)
    return config


def find_modules_of_working_directory() -> None:
    """Let ``module:attribute`` name a file here, as under ``python -m``; last, so that it hides nothing."""
    if "" not in sys.path and os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())


def _check_exists(path: str) -> None:
    try:
        problem = "" if Path(path).exists() else "which does not exist"
    except OSError as error:  # such as a name that is too long
        problem = f"which cannot be read: {error.strerror}"
    if problem:
        raise ConfigError("data.path", f"found {shown_value(path)}, {problem}", "an existing file or folder")
