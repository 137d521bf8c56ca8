"""Print the tables of a published study, of FAB-top-k or of PruneFL, from its runs, or how evenly clients contribute.

Markdown. A row is one configuration (fairness: one run): the mean over its seeds, with the lowest and the highest where
they differ.
"""

from __future__ import annotations

import argparse

from fedmpi.cli.analysed import add_paths, remark
from fedmpi.cli.number_arguments import number
from fedmpi.config import ConfigError
from fedmpi.config.ranges import Range

_FAIRNESS = "fairness"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "study",
        choices=["fab", "prunefl", _FAIRNESS],
        help="fab: FAB-top-k, prunefl: PruneFL, fairness: entries used of each client",
    )
    add_paths(parser)
    parser.add_argument(
        "--target",
        type=number(Range(0, 1)),
        metavar="ACCURACY",
        help="fab, prunefl: test accuracy to compare at (default: 0.8 of the best fixed k's; what all seeds without "
        "pruning end at)",
    )
    parser.add_argument(
        "--time",
        type=number(Range(0, 1e15)),
        metavar="S",
        help="fab: emulated seconds to compare at (default: latest)",
    )
    parser.add_argument(
        "--csv", action="store_true", help="fairness: comma-separated values with every digit"
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print the tables that the runs allow."""
    from fedmpi.analysis import fab_tables, prunefl_tables
    from fedmpi.analysis.fairness import markdown, table
    from fedmpi.analysis.runs import load, load_study

    uses = {"--time": ("fab",), "--target": ("fab", "prunefl"), "--csv": (_FAIRNESS,)}
    for option, studies in uses.items():
        given = getattr(arguments, option[2:])
        if given is not None and given is not False and arguments.study not in studies:
            raise ConfigError(option, f"is of no use for {arguments.study}", ", ".join(studies))
    if arguments.study == _FAIRNESS:
        loaded = load(arguments.paths)
        remark(loaded.remarks)
        frame = table([run.trace for run in loaded.runs])
        print(frame.to_csv() if arguments.csv else markdown(frame), end="" if arguments.csv else "\n")
        return 0
    study = load_study(arguments.paths)
    remark(study.remarks)
    if arguments.study == "fab":
        print(fab_tables.report(study.runs, arguments.time, arguments.target), end="")
    else:
        print(prunefl_tables.report(study.runs, arguments.target), end="")
    return 0
