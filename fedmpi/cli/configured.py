"""The arguments that name a configuration, shared by ``run`` and ``check``."""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.config import Config, ConfigError, load, validate, validate_ranks
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
    parser.add_argument("--ranks", type=_ranks, metavar="P", help="number of MPI ranks, the server included")


def configured(arguments: argparse.Namespace, ranks: int) -> Config:
    """The configuration, found fit to run on ``ranks`` ranks as far as can be told without its data.

    Raises ConfigError and EmulationError.
    """
    config = load(arguments.config, arguments.overrides)
    validate(config)
    resolve(config)
    validate_ranks(config, ranks)
    path = config.data.path
    if path and not Path(path).exists():
        raise ConfigError("data.path", f'found "{path}", which does not exist', "an existing file or folder")
    assign(config, config.experiment.seed)
    return config


def _ranks(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"found {text}; allowed: an integer of at least 1")
    return int(text)
