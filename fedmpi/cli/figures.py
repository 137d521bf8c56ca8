"""Draw the figures of a published study, of FAB-top-k or of PruneFL, from its runs.

Figures that the runs do not allow are named with what they need.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.cli.analysed import add_paths, remark, remarked_warnings, require
from fedmpi.cli.number_arguments import number
from fedmpi.config.ranges import Range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    require("matplotlib", "figures")
    from fedmpi.analysis.studies import FIGURES

    parser.add_argument("study", choices=FIGURES, help="fab: FAB-top-k, prunefl: PruneFL")
    add_paths(parser)
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: the first PATH/figures")
    parser.add_argument(
        "--time",
        type=number(Range(0, 1e15)),
        metavar="S",
        help="emulated seconds for the comparison of k (fab), at which time axes end (prunefl)",
    )
    parser.add_argument("--format", choices=["png", "pdf", "svg"], default="png")


def execute(arguments: argparse.Namespace) -> int:
    """Write the figures, and print a line for each."""
    from fedmpi.analysis.drawing import STUDY, typeset
    from fedmpi.analysis.runs import load_study
    from fedmpi.analysis.studies import draw

    study = load_study(arguments.paths)
    remark(study.remarks)
    first = Path(arguments.paths[0])
    folder = arguments.output or (first if first.is_dir() else first.parent) / "figures"
    with typeset(STUDY), remarked_warnings():
        for line in draw(arguments.study, study.runs, folder, arguments.format, arguments.time):
            print(line)
    return 0
