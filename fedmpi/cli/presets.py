"""List the presets, or print one.

``fedmpi presets NAME > my.toml`` is the way to start a configuration of one's own.
"""

from __future__ import annotations

import argparse

from fedmpi.config.load import PRESETS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the preset to print")


def execute(arguments: argparse.Namespace) -> int:
    """Print the TOML text of one preset, or the names of all with the first line of each."""
    if arguments.name is not None:
        print(PRESETS.text(arguments.name), end="")
        return 0
    print(PRESETS.listing())
    return 0
