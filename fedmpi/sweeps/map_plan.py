"""What a map needs: the methods of a sweep, which of their runs can be retimed exactly, and which must be made.

Nothing is run here. ``fedmpi.cli.map`` is the command.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path

from fedmpi.analysis.runs import Run
from fedmpi.analysis.settings import SEED, identity, labels_of
from fedmpi.config import Config, ConfigError, loads, parts
from fedmpi.config.parts import is_reference
from fedmpi.config.schema import value_of
from fedmpi.experiment.time_decisions import Decision, decisions_by_time
from fedmpi.sweeps.points import REPLACED, Point, at, folder_names, same_but_ends
from fedmpi.trace import FILE_NAME, Trace, TraceError, read


@dataclass(frozen=True)
class Member:
    """One run of a method: its trace, and its configuration. ``decisions``: what in it depended on time.

    ``host_s``: host seconds of its rounds.
    """

    method: str
    path: Path
    config: Config
    decisions: tuple[Decision, ...]
    host_s: float

    @property
    def seed(self) -> int:
        return self.config.experiment.seed


def members_of(runs: Sequence[Run], target: float) -> tuple[list[Member], list[str]]:
    """The runs by method, and a line for each that is left out.

    Runs that differ in their seeds, and in what the points of a map replace, are of one method. A run that is not
    complete and had not reached ``target`` is of use only where it would be made anew anyway. ConfigError for runs
    whose devices have different speeds already: those of a map are relative to one.
    """
    groups: dict[Hashable, dict[int, Run]] = {}
    remarks = []
    for run in sorted(runs, key=lambda run: not run.complete):
        if run.trace.attributes.get("retiming"):
            remarks.append(f"{run.name}: left out, it was retimed from another run")
            continue
        of_method = groups.setdefault(identity(run.settings, {SEED, *REPLACED}), {})
        first = of_method.setdefault(run.seed, run)
        if first is not run:
            remarks.append(f"{run.name}: left out, it is {first.name} on other links")
    places = {id(run): place for place, run in enumerate(runs)}
    kept = [[run for run in runs if of_method.get(run.seed) is run] for of_method in groups.values()]
    kept.sort(key=lambda group: places[id(group[0])])
    labels = labels_of([[run.trace for run in group] for group in kept])
    members = []
    for label, group in zip(labels, kept, strict=True):
        for run in group:
            config = loads(
                str(run.trace.attributes["config_toml"]), origin=f"the configuration in {run.trace.path}"
            )
            decisions = tuple(decisions_by_time(config))
            reached = run.status != "running" and (run.trace.rounds.test_accuracy >= target).any()
            if not (decisions or run.complete or reached):
                why = "is still running, or was killed"
                if run.status != "running":
                    why = f"is {run.status} and had not reached {target:g}"
                remarks.append(f"{run.name}: left out, it {why}")
                continue
            host_s = float(run.trace.rounds.host_s.sum())
            members.append(Member(label, run.trace.path, config, decisions, host_s))
    speeds = {member.config.emulation.compute.speed for member in members}
    if len(speeds) > 1:
        problem = f"runs of the speeds {', '.join(f'{speed:g}' for speed in sorted(speeds))}"
        raise ConfigError(
            "emulation.compute.speed", f"found {problem}", "runs of one speed, that of 1 in a map"
        )
    return members, remarks


@dataclass(frozen=True)
class PointRun:
    """A run that has to be made for a point, or has been; ``label`` is its name without the seed."""

    member: Member
    point: Point
    label: str
    config: Config

    @property
    def name(self) -> str:
        return f"{self.label}-s{self.member.seed}"


def point_runs(
    members: Sequence[Member], points: Iterable[Point], trusted: Sequence[str] = ()
) -> list[PointRun]:
    """The runs of ``members`` at all points, in the order of points, then members.

    ConfigError for one that names code of the user's with a key that is not ``trusted``: a trace must not.
    """
    for member in members:
        for key in parts.FAMILIES:
            name = str(value_of(member.config, key))
            if is_reference(name) and key not in trusted:
                problem = f"{member.path} names {name}, code that a trace is not trusted to name"
                raise ConfigError(key, problem, f"--trust {key}, or --only-exact")
    methods = list(dict.fromkeys(member.method for member in members))
    names = dict(zip(methods, folder_names(methods), strict=True))
    return [
        PointRun(member, point, f"{names[member.method]}-{point.name}", at(member.config, point))
        for point in points
        for member in members
    ]


def by_label(runs: Iterable[PointRun]) -> Mapping[str, list[Config]]:
    """The configurations of all seeds of each label, for ``points.write_sweep``."""
    found: dict[str, list[Config]] = {}
    for run in runs:
        found.setdefault(run.label, []).append(run.config)
    return found


def recorded_seconds(run: PointRun, folder: Path, target: float) -> float | None:
    """Emulated seconds to ``target`` of the run in ``folder``; NaN: it ended without; None: it is not known yet.

    The run of the sweep itself counts where it is on the links and devices of the point.
    """
    for path in (folder, run.member.path):
        if (path / FILE_NAME).is_file() or path.is_file():
            try:
                seconds = _answer(read(path), run.config, target)
            except TraceError:
                seconds = None
            if seconds is not None:
                return seconds
    return None


def _answer(trace: Trace, config: Config, target: float) -> float | None:
    stored = loads(str(trace.attributes["config_toml"]), origin=f"the configuration in {trace.path}")
    if trace.attributes.get("retiming") or not same_but_ends(stored, config):
        return None
    reached = trace.rounds[trace.rounds.test_accuracy >= target]
    if len(reached):
        return float(reached.end_s.iloc[0])
    stop = stored.experiment.stop_at_accuracy
    ended_as_asked = (
        stored.experiment.rounds == config.experiment.rounds
        and stored.experiment.stop_at_emulated_s == config.experiment.stop_at_emulated_s
        and (stop is None or stop >= target)
    )
    return nan if trace.attributes["status"] == "completed" and ended_as_asked else None
