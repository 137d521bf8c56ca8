"""Validate a configuration; print it resolved, with placement, memory, and the cost of a round.

What is printed is a configuration itself: all but the TOML tables stands in comments. With ``--brief`` it is what
differs from the defaults, and an estimate of the whole run.
"""

from __future__ import annotations

import argparse

from fedmpi.cli.configured import add_configuration, configured
from fedmpi.config import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument(
        "--brief",
        action="store_true",
        help="print what differs from the defaults, and what the whole run takes",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the report; 0 when the configuration can be run."""
    ranks = arguments.ranks or 1
    config = configured(arguments, ranks)
    from fedmpi.cli.report import report  # torch comes with it, and takes seconds

    checked = report(config, ranks)
    if arguments.brief:
        from fedmpi.cli.brief import brief

        print("\n".join(brief(config, checked, ranks)))
        return 0
    print(dumps(config))
    for line in checked.lines:
        print(f"# {line}".rstrip())
    return 0
