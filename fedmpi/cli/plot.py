"""Draw runs: lines over time, where time goes, one round as a Gantt chart, distributions over clients.

Runs that differ in their seeds alone make one line, with a band; labels are made of the keys that differ.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from fedmpi.cli.analysed import add_paths, configurations, remarked_warnings, require
from fedmpi.config import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from fedmpi.analysis.groups import Configuration

_LINES = "lines"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    require("matplotlib", "plot")
    from fedmpi.analysis.curves import AXES, QUANTITIES
    from fedmpi.analysis.drawing import SIZES
    from fedmpi.analysis.kinds import KINDS, OF_A_ROUND
    from fedmpi.analysis.looks import BANDS

    add_paths(parser)
    parser.add_argument(
        "--output", type=Path, required=True, metavar="FILE", help="the figure: .png, .pdf or .svg"
    )
    parser.add_argument("--kind", choices=[_LINES, *KINDS], default=_LINES, help="default: lines")
    parser.add_argument(
        "--y", choices=QUANTITIES, action="append", help="lines: one panel for each --y; default accuracy"
    )
    parser.add_argument(
        "--x", choices=AXES, action="append", help="lines: once, or once for each --y; default time"
    )
    bands = "; ".join(f"{name}: {meaning or 'no band'}" for name, meaning in BANDS.items())
    parser.add_argument(
        "--band",
        choices=BANDS,
        help=f"lines: around the mean over seeds, default ci. {bands}".replace("%", "%%"),
    )
    parser.add_argument("--each", action="store_true", help="a line for each run, seeds apart")
    parser.add_argument("--round", type=int, metavar="R", help=f"{', '.join(OF_A_ROUND)}: default the last")
    parser.add_argument("--label", action="append", help="lines: once for each line, in their order")
    widths = ", ".join(f"{name}: {size.width} inches" for name, size in SIZES.items())
    parser.add_argument("--size", choices=SIZES, default="page", help=f"width in a journal; {widths}")
    parser.add_argument("--title", default="", help="default: none")


def execute(arguments: argparse.Namespace) -> int:
    """Write the figure."""
    from fedmpi.analysis.drawing import SIZES, typeset, write

    _check(arguments)
    groups = configurations(arguments.paths, arguments.each)
    with typeset(SIZES[arguments.size]), remarked_warnings():
        write(_draw(arguments, groups), arguments.output)
    return 0


def _draw(arguments: argparse.Namespace, groups: list[Configuration]) -> Figure:
    from fedmpi.analysis.drawing import SIZES
    from fedmpi.analysis.kinds import KINDS
    from fedmpi.analysis.lines import draw

    size = SIZES[arguments.size]
    if arguments.kind != _LINES:
        more = {} if arguments.round is None else {"round_index": arguments.round}
        figure = KINDS[arguments.kind](groups, size, **more)
        if arguments.title:
            figure.suptitle(arguments.title)
        return figure
    names = arguments.label
    if names and len(names) != len(groups):
        found = f"found {len(names)} for {len(groups)} lines"
        raise ConfigError("--label", found, "one for each line, or none")
    return draw(
        groups,
        arguments.x or ["time"],
        arguments.y or ["accuracy"],
        size=size,
        interval=arguments.band or "ci",
        title=arguments.title,
        names=names,
    )


def _check(arguments: argparse.Namespace) -> None:
    """ConfigError for arguments that do not go together."""
    from fedmpi.analysis.kinds import OF_A_ROUND

    given = {f"--{name}": getattr(arguments, name) for name in ("x", "y", "band", "label")}
    wrong = [name for name, value in given.items() if value is not None and arguments.kind != _LINES]
    if wrong:
        raise ConfigError(wrong[0], f"is of no use with --kind {arguments.kind}", "--kind lines")
    if arguments.round is not None and arguments.kind not in OF_A_ROUND:
        raise ConfigError("--round", f"is of no use with --kind {arguments.kind}", ", ".join(OF_A_ROUND))
    xs, ys, names = arguments.x or [""], arguments.y or [""], arguments.label or []
    if len(xs) not in (1, len(ys)):
        raise ConfigError("--x", f"found {len(xs)} for {len(ys)} --y", "one, or one for each --y")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError("--label", f"{twice!r} is given to several lines", "a label of its own for each")
