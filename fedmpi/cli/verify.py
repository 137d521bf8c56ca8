"""Compute the emulated columns of a run again from its bytes and devices, and say which values differ."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from fedmpi.cli.number_arguments import integer
from fedmpi.config.errors import DONE, FAILED, one_line

if TYPE_CHECKING:
    from fedmpi.experiment.differences import Difference
    from fedmpi.experiment.verifying import Verification

_COLUMNS = ("table", "row", "column", "recorded", "computed")
_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, or its trace")
    parser.add_argument(
        "--repeat",
        type=integer(1),
        metavar="ROUNDS",
        help="train again too: so many rounds from the start, and after the last checkpoint",
    )
    parser.add_argument("--all", action="store_true", help=f"show all differences, not {_SHOWN}")
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="section.key",
        help="import the code that the trace names there, as emulation.compute.model",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Print a table of differences; 1 where there are any or the file is damaged."""
    from fedmpi.experiment.verifying import verify

    found = verify(arguments.run, tuple(arguments.trust))
    if found.damage:
        print(f"fedmpi: {one_line(found.damage)}", file=sys.stderr)
    print(_text(found, arguments.all))
    if found.damage or found.differences:
        return FAILED
    return _repeat(arguments) if arguments.repeat else DONE


def _repeat(arguments: argparse.Namespace) -> int:
    from fedmpi.experiment.repeating import repeat

    found = repeat(arguments.run, arguments.repeat, tuple(arguments.trust))
    lines = _listed(found.differences, arguments.all)
    count = len(found.rounds)
    lines.append(f"{count:,} round{'' if count == 1 else 's'} trained again: {_ranges(found.rounds)}")
    if found.evaluated:
        lines.append("the model of the last checkpoint was evaluated again")
    lines += [f"not trained again: {note}" for note in found.notes]
    if not found.differences:
        lines.append("what was learned is what was recorded")
    print("\n".join(lines))
    return FAILED if found.differences else DONE


def _ranges(rounds: tuple[int, ...]) -> str:
    """Numbers, rising, with runs of them shortened: ``0 to 2, 9``."""
    groups: list[list[int]] = []
    for each in rounds:
        if groups and groups[-1][-1] == each - 1:
            groups[-1].append(each)
        else:
            groups.append([each])
    return ", ".join(f"{g[0]} to {g[-1]}" if len(g) > 1 else f"{g[0]}" for g in groups) or "none"


def _text(found: Verification, whole: bool) -> str:
    lines = _listed(found.differences, whole)
    if found.differences:
        counts = Counter(f"{one.table}.{one.column}" for one in found.differences)
        lines.append("differ: " + ", ".join(f"{count:,} of {name}" for name, count in counts.items()))
    lines.append(f"{found.rounds:,} of {found.all_rounds:,} rounds charged again")
    lines += [f"not charged again: {note}" for note in found.notes]
    if not (found.differences or found.damage):
        lines.append("every value follows from the others")
    return "\n".join(lines)


def _listed(differences: tuple[Difference, ...], whole: bool) -> list[str]:
    """A table of the first differences, or of the ``whole``, and an empty line; nothing where there are none."""
    if not differences:
        return []
    lines = _table(differences if whole else differences[:_SHOWN])
    if not whole and (more := len(differences) - _SHOWN) > 0:
        lines.append(f"and {more:,} more (--all)")
    return [*lines, ""]


def _table(differences: tuple[Difference, ...]) -> list[str]:
    rows = [
        _COLUMNS,
        *((one.table, one.row, one.column, f"{one.recorded}", f"{one.computed}") for one in differences),
    ]
    widths = [max(len(row[place]) for row in rows) for place in range(len(_COLUMNS))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]
