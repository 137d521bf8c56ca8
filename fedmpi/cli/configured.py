"""The arguments that name a configuration, shared by ``run`` and ``check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.cli.number_arguments import integer
from fedmpi.config import Config, ConfigError, load, validate, validate_ranks
from fedmpi.config.errors import shown_value
from fedmpi.emulation.devices import assign


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
    config = load(arguments.config, arguments.overrides)
    validate(config)
    validate_ranks(config, ranks)
    _exists("pruning.ticket", config.pruning.ticket)  # it may come to be while a sweep is running
    path = config.data.path
    if path and not _exists("data.path", path):
        problem = f"found {shown_value(path)}, which does not exist"
        raise ConfigError("data.path", problem, "an existing file or folder")
    assign(config, config.experiment.seed)
    return config


def _exists(key: str, path: str) -> bool:
    """Whether there is a file or folder; ConfigError for a path of which that cannot be said."""
    try:
        return Path(path).exists()
    except OSError as error:  # such as a name that is too long
        problem = f"found {shown_value(path)}, which cannot be read: {error.strerror}"
        raise ConfigError(key, problem, "an existing file or folder") from None
