"""Compare runs in a table: what they reached, in what time, with how many bytes and how much energy.

A row is one configuration: the mean over its seeds, and in brackets the bootstrap 95 % interval of that mean. Below,
configurations are compared with the first one on the seeds that both were run with (Wilcoxon's signed-rank test, from
six seeds on).
"""

from __future__ import annotations

import argparse
import shutil
from typing import TYPE_CHECKING

from fedmpi.cli.analysed import add_paths, configurations, remark
from fedmpi.cli.number_arguments import number
from fedmpi.config import ConfigError
from fedmpi.config.ranges import Range

if TYPE_CHECKING:
    import pandas as pd

    from fedmpi.analysis.groups import Configuration

_FORMS = ("text", "csv", "json", "latex")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument(
        "--target",
        type=number(Range(0, 1)),
        metavar="ACCURACY",
        help="test accuracy whose costs are compared (default: the lowest of the runs' best ones)",
    )
    parser.add_argument("--each", action="store_true", help="a row for each run, seeds apart")
    parser.add_argument("--columns", metavar="A,B,...", help="these columns alone, in this order")
    parser.add_argument(
        "--baseline", metavar="LABEL", help="what others are compared with (default: the first)"
    )
    parser.add_argument(
        "--wide", action="store_true", help="one line for each row, however long (default: fits the terminal)"
    )
    forms = parser.add_mutually_exclusive_group()
    for form in _FORMS[1:]:
        names = {
            "csv": "comma-separated values with every digit, without comparisons",
            "json": "everything, with each run's figures",
            "latex": "a tabular for the package booktabs, without comparisons",
        }
        forms.add_argument(f"--{form}", dest="form", action="store_const", const=form, help=names[form])
    parser.set_defaults(form="text")


def execute(arguments: argparse.Namespace) -> int:
    """Print the table."""
    from fedmpi.analysis.summary import aligned, comparisons, table
    from fedmpi.analysis.summary_forms import LATEX_COLUMNS, as_json, as_latex

    if arguments.baseline is not None and arguments.form in ("csv", "latex"):
        raise ConfigError("--baseline", f"is of no use with --{arguments.form}", "text, --json")
    groups = configurations(arguments.paths, arguments.each)
    frame = table(groups, arguments.target)
    _remark_energy(groups)
    chosen = arguments.columns.split(",") if arguments.columns is not None else None
    width = None if arguments.wide else shutil.get_terminal_size().columns
    if arguments.form == "json":
        if chosen is not None:
            raise ConfigError("--columns", "is of no use with --json", "text, --csv, --latex")
        print(as_json(groups, arguments.target, arguments.baseline))
    elif arguments.form == "csv":
        print(_columns(frame, chosen).to_csv(), end="")
    elif arguments.form == "latex":
        print(as_latex(_columns(frame, chosen or [name for name in LATEX_COLUMNS if name in frame])))
    else:
        pairs = comparisons(groups, arguments.target, arguments.baseline)
        print(aligned(_columns(frame, chosen), width))
        if any(len(group.runs) > 1 for group in groups):
            print("\nin brackets: bootstrap 95 % interval of the mean over seeds")
        if len(pairs):
            label = arguments.baseline or groups[0].label
            print(f"\nagainst {label}, on the same seeds (p-values are not corrected for their number)\n")
            print(aligned(pairs, width))
    return 0


def _columns(frame: pd.DataFrame, chosen: list[str] | None) -> pd.DataFrame:
    """The columns that were asked for, with the bounds of their intervals."""
    from fedmpi.analysis.summary import HIGH, LOW

    if chosen is None:
        return frame
    for name in chosen:
        if name not in frame:
            known = [str(column) for column in frame if not str(column).endswith((LOW, HIGH))]
            raise ConfigError(f"--columns {name}", "not in this table", ", ".join(known))
        if chosen.count(name) > 1:
            raise ConfigError(f"--columns {name}", f"named {chosen.count(name)} times", "each column once")
    return frame[[column for name in chosen for column in (name, name + LOW, name + HIGH) if column in frame]]


def _remark_energy(groups: list[Configuration]) -> None:
    """Where some traces have energy, a line on stderr for each that has none."""
    from fedmpi.analysis.runs import AnalysisError, column_of

    runs = [run for group in groups for run in group.runs]
    missing = []
    for run in runs:
        try:
            column_of(run.trace, "clients", "energy_j")
        except AnalysisError as error:
            missing.append(str(error))
    if len(missing) < len(runs):
        remark(missing)
