"""Say which method is first to reach a target accuracy at each point of a grid of link rates and device speeds.

Runs are timed again from their traces where that is exact; where a decision saw the time they are made, at each point,
several at a time. Runs that differ in their seeds alone are one method. A picture, and the tables behind it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import nan
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedmpi.cli.analysed import add_paths, remark, remarked_warnings, require
from fedmpi.cli.number_arguments import integer, number
from fedmpi.cli.sweep_report import list_lines
from fedmpi.cli.sweep_runs import Ended, Say, refuse_launcher, run_side_by_side, say, say_failures, silent
from fedmpi.config import ConfigError
from fedmpi.config.errors import DONE
from fedmpi.config.ranges import FRACTION, RATE
from fedmpi.sweeps import Sweep, plan
from fedmpi.sweeps.map_plan import (
    Member,
    PointRun,
    by_label,
    members_of,
    point_runs,
    recorded_seconds,
)
from fedmpi.sweeps.points import Downlink, Point, at, downlink, grid_values, write_sweep

if TYPE_CHECKING:
    import pandas as pd

_PICTURES = (".pdf", ".png", ".svg")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    require("matplotlib", "map")
    from fedmpi.analysis.drawing import SIZES

    add_paths(parser)
    grid = "FROM:TO:COUNT, evenly spaced by ratio, or A,B,..."
    parser.add_argument(
        "--uplink", required=True, metavar="GRID", help=f"rate of all clients' uplinks in Mbit/s: {grid}"
    )
    parser.add_argument(
        "--downlink",
        metavar="RATE",
        help="of all clients' downlinks, in Mbit/s, or times the uplink (4x); default: the runs' own ratio",
    )
    parser.add_argument(
        "--speed", default="1", metavar="GRID", help="how many times faster devices train; default: 1"
    )
    parser.add_argument(
        "--target", type=number(FRACTION), required=True, metavar="A", help="the test accuracy to reach"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR|FILE",
        help="a folder, or a picture (.pdf, .png, .svg) that tables and runs are put beside; "
        "default: the first PATH/map",
    )
    parser.add_argument("--list", action="store_true", help="print the runs that must be made, and make none")
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--only-exact", action="store_true", help="leave out methods whose runs would have to be made"
    )
    how.add_argument(
        "--approximate", action="store_true", help="keep recorded decisions that had seen the time, marked so"
    )
    parser.add_argument("--ranks", type=integer(1), default=1, metavar="P", help="MPI ranks of a run")
    parser.add_argument(
        "--jobs", type=integer(1), metavar="N", help="runs at the same time (default: cores / ranks)"
    )
    parser.add_argument(
        "--trust",
        action="append",
        default=[],
        metavar="section.key",
        help="import the code that traces name there, as sparsification.method",
    )
    parser.add_argument("--label", action="append", help="once for each method, in their order")
    widths = ", ".join(f"{name}: {size.width} inches" for name, size in SIZES.items())
    parser.add_argument("--size", choices=SIZES, default="page", help=f"width in a journal; {widths}")
    parser.add_argument("--title", default="", help="default: none")
    parser.add_argument("--quiet", action="store_true", help="print nothing but warnings and errors")


@dataclass(frozen=True)
class _Places:
    """Where a map is written."""

    picture: Path
    winners: Path
    times: Path
    sweep: Path
    runs: Path

    @classmethod
    def of(cls, output: Path) -> _Places:
        if output.suffix.lower() in _PICTURES and not output.is_dir():
            return cls.named(output, output.parent, f"{output.stem}-")
        return cls.named(output / "map.pdf", output, "")

    @classmethod
    def named(cls, picture: Path, folder: Path, start: str) -> _Places:
        runs = folder / f"{start}runs"
        return cls(
            picture, picture.with_suffix(".csv"), folder / f"{start}times.csv", Path(f"{runs}.toml"), runs
        )


def execute(arguments: argparse.Namespace) -> int:
    """Draw the map; 1 where runs that it needs failed, 75 where they were interrupted."""
    from fedmpi.analysis.winners import MISSING, common_seeds, summary, winners

    tell = silent if arguments.quiet else say
    places = _Places.of(arguments.output or _default_output(Path(arguments.paths[0])))
    members = _members(arguments)
    points, link = _points(arguments, members)
    retimed = [member for member in members if arguments.approximate or not member.decisions]
    wanted = point_runs([member for member in members if member not in retimed], points, arguments.trust)
    if arguments.list:
        return _list(wanted, places, arguments.target)
    tell(f"{len(points)} points; downlinks {link.text}")
    rows = _retimed(arguments, retimed, points)
    tell(f"{len(rows)} times of {_names(retimed)} from traces")
    made, ended = _made(arguments, wanted, places, tell)
    times = _table([*rows, *made], [member.method for member in members])
    remark(common_seeds(times)[1])
    decided = winners(times)
    _write(arguments, times, decided, places)
    for line in summary(times, decided):
        tell(line)
    tell(f"{places.picture}, and {places.winners.name} and {places.times.name} beside it")
    say_failures(places.runs, ended)
    if missing := int((times.how == MISSING).sum()):
        print(f"fedmpi: {missing} of {len(times)} runs are missing", file=sys.stderr)
        return ended.exit_code
    return DONE


def _default_output(first: Path) -> Path:
    return (first if first.is_dir() else first.parent) / "map"


def _names(members: Sequence[Member]) -> str:
    return ", ".join(dict.fromkeys(member.method for member in members)) or "no method"


def _members(arguments: argparse.Namespace) -> list[Member]:
    """The runs to compare, with remarks on those left out."""
    from fedmpi.analysis.runs import load

    for path in map(Path, arguments.paths):
        if path.suffix == ".toml":
            problem = f"found {path}, the file of a sweep"
            raise ConfigError("PATH", problem, f"the folder of its runs, such as runs/{path.stem}")
    loaded = load(arguments.paths)
    members, remarks = members_of(loaded.runs, arguments.target)
    remark([*loaded.remarks, *remarks])
    if arguments.only_exact:
        left_out = {member.method: member.decisions[0] for member in members if member.decisions}
        remark(f"{method}: left out, {found.key} {found.what}" for method, found in left_out.items())
        members = [member for member in members if member.method not in left_out]
    methods = list(dict.fromkeys(member.method for member in members))
    labels = arguments.label or methods
    if len(labels) != len(methods) or len(set(labels)) < len(labels):
        allowed = f"a different one for each of {', '.join(methods)}"
        raise ConfigError("--label", f"found {len(labels)} for {len(methods)} methods", allowed)
    if len(methods) < 2:
        problem = f"found {_names(members)}, and a map compares methods"
        raise ConfigError("PATH", problem, "runs of at least two")
    named = dict(zip(methods, labels, strict=True))
    return [replace(member, method=named[member.method]) for member in members]


def _points(arguments: argparse.Namespace, members: Sequence[Member]) -> tuple[list[Point], Downlink]:
    rates = grid_values(arguments.uplink, "--uplink", RATE)
    speeds = grid_values(arguments.speed, "--speed")
    link = downlink(arguments.downlink, [member.config for member in members])
    return [Point(rate, link.of(rate), speed) for speed in speeds for rate in rates], link


def _retimed(
    arguments: argparse.Namespace, members: Sequence[Member], points: Sequence[Point]
) -> list[tuple[Any, ...]]:
    """Rows of times from traces alone."""
    from fedmpi.analysis.winners import APPROXIMATE, EXACT
    from fedmpi.experiment.retiming import opened
    from fedmpi.experiment.time_to_target import seconds_to

    rows: list[tuple[Any, ...]] = []
    for member in members:
        configs = [at(member.config, point) for point in points]
        source = opened(member.path)
        seconds = seconds_to(source, arguments.target, configs, arguments.approximate, arguments.trust)
        how = APPROXIMATE if source.decisions else EXACT
        rows += [_row(point, member, took_s, how) for point, took_s in zip(points, seconds, strict=True)]
    return rows


def _row(point: Point, member: Member, seconds: float, how: str) -> tuple[Any, ...]:
    return (point.uplink, point.downlink, point.speed, member.method, member.seed, seconds, how)


def _made(
    arguments: argparse.Namespace, wanted: Sequence[PointRun], places: _Places, tell: Say
) -> tuple[list[tuple[Any, ...]], Ended]:
    """Rows of times of real runs, made where they have not been, and how those ended."""
    from fedmpi.analysis.winners import MISSING, RUN

    def known(run: PointRun) -> float | None:
        return recorded_seconds(run, places.runs / run.name, arguments.target)

    seconds = {run.name: known(run) for run in wanted}
    pending = [run for run in wanted if seconds[run.name] is None]
    ended = Ended({}, interrupted=False)
    if wanted:
        why = {run.member.method: run.member.decisions[0].key for run in wanted}
        methods = ", ".join(f"{method} ({key})" for method, key in why.items())
        hours = sum(run.member.host_s for run in pending) / 3600
        tell(
            f"{len(wanted)} runs of {methods}, where decisions saw the time: {len(wanted) - len(pending)} are there, "
            f"{len(pending)} must be made, at most {hours:.2g} h one after the other if they take what those of "
            f"{arguments.paths[0]} took"
        )
    if pending:
        refuse_launcher("fedmpi map", "--ranks P without a launcher, or --list and fedmpi sweep --index I")
        sweep = _sweep(wanted, places, arguments.target)
        names = {run.name for run in pending}
        planned = [run for run in sweep.runs if run.name in names]
        ended = run_side_by_side(sweep, places.runs, planned, arguments.ranks, arguments.jobs, tell)
        seconds |= {run.name: known(run) for run in pending}
    rows = []
    for run in wanted:
        took_s = seconds[run.name]
        rows.append(
            _row(run.point, run.member, nan, MISSING)
            if took_s is None
            else _row(run.point, run.member, took_s, RUN)
        )
    return rows, ended


def _sweep(wanted: Sequence[PointRun], places: _Places, target: float) -> Sweep:
    """The runs of a map as a sweep, in a file."""
    write_sweep(places.sweep, by_label(wanted), target)
    return plan(str(places.sweep))


def _list(wanted: Sequence[PointRun], places: _Places, target: float) -> int:
    if not wanted:
        print("no runs must be made: every time is known from traces")
        return DONE
    for line in list_lines(_sweep(wanted, places, target), places.runs):
        print(line)
    print(f"# one of them: fedmpi sweep {places.sweep} --output {places.runs} --index I")
    script = f"sbatch --array=0-{len(wanted) - 1} jobs/sweep.sbatch {places.sweep}"
    print(f"# a job array: FEDMPI_OUTPUT={places.runs} {script}")
    return DONE


def _table(rows: Sequence[tuple[Any, ...]], methods: Sequence[str]) -> pd.DataFrame:
    """The table of times by point, methods in their order, then seeds."""
    import pandas as pd

    from fedmpi.analysis.winners import POINT, TIMES

    table = pd.DataFrame(rows, columns=list(TIMES))
    order = {method: place for place, method in enumerate(dict.fromkeys(methods))}
    table["place"] = table.method.map(order)
    table = table.sort_values([*POINT, "place", "seed"], kind="stable").drop(columns="place")
    return table.reset_index(drop=True)


def _write(
    arguments: argparse.Namespace, times: pd.DataFrame, decided: pd.DataFrame, places: _Places
) -> None:
    from fedmpi.analysis.drawing import SIZES, typeset, write
    from fedmpi.analysis.map_figure import draw

    try:
        places.picture.parent.mkdir(parents=True, exist_ok=True)
        times.to_csv(places.times, index=False)
        decided.to_csv(places.winners, index=False)
    except OSError as error:
        problem = f"{places.picture.parent} cannot be written: {error.strerror}"
        raise ConfigError("--output", problem, "a folder with write permission and space") from None
    with typeset(SIZES[arguments.size]), remarked_warnings():
        figure = draw(times, decided, arguments.target, size=SIZES[arguments.size], title=arguments.title)
        write(figure, places.picture)
