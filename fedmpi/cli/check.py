"""Validate a configuration; print it resolved, with placement, memory, and the cost of a round.

What is printed is a configuration itself: all but the TOML tables stands in comments. With ``--brief`` it is what
differs from the defaults, and an estimate of the whole run. How long the run takes is estimated from a few of its
rounds that are run now, on one rank.
"""

from __future__ import annotations

import argparse
from time import process_time

from fedmpi.cli.configured import add_configuration, configured
from fedmpi.cli.number_arguments import integer
from fedmpi.config import dumps


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_configuration(parser)
    parser.add_argument(
        "--nodes",
        type=integer(1),
        default=1,
        metavar="N",
        help="the ranks are on so many machines like this one, for the estimate of host time",
    )
    parser.add_argument(
        "--brief",
        action="store_true",
        help="print what differs from the defaults, and what the whole run takes",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the report; 0 when the configuration can be run."""
    ranks = arguments.ranks or 1
    config = configured(arguments, ranks)
    from fedmpi.cli.check_report import report
    from fedmpi.cli.host_time import (  # torch comes with them
        brief_host_time,
        check_host_time,
        host_lines,
        usable_cores,
    )

    import_s = process_time()
    checked = report(config, ranks)
    cores = arguments.nodes * usable_cores()
    time = check_host_time(config, checked, import_s, ranks, cores)
    if arguments.brief:
        from fedmpi.cli.brief import brief

        print("\n".join(brief(config, checked, ranks, brief_host_time(config, time))))
        return 0
    print(dumps(config))
    for line in (*checked.lines, "", *host_lines(config, time, ranks, cores)):
        print(f"# {line}".rstrip())
    return 0
