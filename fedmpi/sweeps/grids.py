"""The combinations of points that the grids of a sweep ask for; pure functions over the content of its file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any

from fedmpi.config import ConfigError
from fedmpi.config.errors import shown_value
from fedmpi.config.ranges import SEED
from fedmpi.config.spelling import did_you_mean
from fedmpi.sweeps.toml_text import override_strings

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}")
_MOST_RUNS = 10_000
"""More than anybody's machine has run in a study; beyond, what was meant is another grid."""

_GRID_KEYS = ("axes", "points", "exclude", "seeds")


@dataclass(frozen=True)
class Combination:
    """One point of each axis of a grid, and a seed (None: the base's own).

    ``points`` maps axis to point, ``overrides`` are the ``section.key=value`` of all of them.
    """

    points: Mapping[str, str]
    overrides: tuple[str, ...]
    seed: int | None

    @property
    def label(self) -> str:
        """The names of the points, joined; what runs of several seeds have in common."""
        return "-".join(self.points.values())

    @property
    def name(self) -> str:
        return self.label if self.seed is None else f"{self.label}-s{self.seed}"


Axes = Mapping[str, Mapping[str, tuple[str, ...]]]
"""Axis -> point -> overrides."""


def read_axes(content: Any) -> Axes:
    """The table ``axes`` of a sweep. Raises ConfigError for what is no axis, no point or no override."""
    axes: dict[str, dict[str, tuple[str, ...]]] = {}
    if not content:
        raise ConfigError("axes", "found none", "at least one table [axes.NAME] of points")
    for axis, points in _table("axes", content).items():
        key = f"axes.{axis}"
        if not _table(key, points):
            raise ConfigError(key, "found no points", "points such as fab = { sparsification.method = ... }")
        for point in points:
            if not _NAME.fullmatch(point):
                raise ConfigError(
                    key,
                    f"found a point named {shown_value(point)}",
                    "letters, digits and . _ + -, at most 100 of them, as it becomes part of the name of a folder",
                )
        axes[axis] = {
            point: override_strings(_table(f"{key}.{point}", change)) for point, change in points.items()
        }
    return axes


def combinations(content: Mapping[str, Any], axes: Axes) -> list[Combination]:
    """All combinations of all grids of a sweep's file, none of them twice. Raises ConfigError.

    The first seeds of all grids come first, so that an unfinished sweep has few seeds of everything.
    """
    seeds = _seeds("seeds", content.get("seeds"))
    grids = content.get("grids", [{"axes": list(axes)}])
    if not isinstance(grids, list) or not grids:
        raise ConfigError("grids", f"found {shown_value(grids)}", "tables [[grids]], or none at all")
    found: dict[str, tuple[int, Combination]] = {}
    for number, grid in enumerate(grids, 1):
        for place, combination in _of_grid(f"grids {number}", grid, axes, seeds):
            _, same = found.setdefault(combination.name, (place, combination))
            if same.overrides != combination.overrides:
                problem = f"two different runs are named {combination.name}"
                raise ConfigError(f"grids {number}", problem, "points of different names")
        if len(found) > _MOST_RUNS:
            raise ConfigError(
                f"grids {number}", f"found {len(found)} runs up to here", f"at most {_MOST_RUNS}"
            )
    return [combination for _, combination in sorted(found.values(), key=lambda item: item[0])]


def _of_grid(
    where: str, grid: Any, axes: Axes, seeds: Sequence[int | None]
) -> Iterable[tuple[int, Combination]]:
    """The combinations of one grid, each with the place of its seed."""
    for key in _table(where, grid):
        if key not in _GRID_KEYS:
            raise ConfigError(
                f"{where}: {key}", f"unknown key{did_you_mean(key, _GRID_KEYS)}", ", ".join(_GRID_KEYS)
            )
    names = grid.get("axes", list(axes))
    if not isinstance(names, list) or not names or len(set(map(str, names))) < len(names):
        raise ConfigError(f"{where}: axes", f"found {shown_value(names)}", "a list of different axes")
    for name in names:
        _known(f"{where}: axes", name, axes)
    chosen = {name: list(axes[name]) for name in names}
    for name, points in _table(f"{where}: points", grid.get("points", {})).items():
        _known(f"{where}: points", name, names)
        if not isinstance(points, list) or not points:
            raise ConfigError(f"{where}: points.{name}", f"found {shown_value(points)}", "a list of points")
        for point in points:
            _known(f"{where}: points.{name}", point, axes[name])
        chosen[name] = [point for point in chosen[name] if point in points]
    excluded = _excluded(where, grid.get("exclude", []), names, axes)
    if "seeds" in grid:
        seeds = _seeds(f"{where}: seeds", grid["seeds"])
    count = prod(len(points) for points in chosen.values()) * len(seeds)
    if count > _MOST_RUNS:
        raise ConfigError(where, f"found {count} combinations of points and seeds", f"at most {_MOST_RUNS}")
    for combination in product(*chosen.values()):
        points = dict(zip(names, combination, strict=True))
        if any(rule.items() <= points.items() for rule in excluded):
            continue
        overrides = _merged(where, points, axes)
        for place, seed in enumerate(seeds):
            yield place, Combination(points, overrides, seed)


def _merged(where: str, points: Mapping[str, str], axes: Axes) -> tuple[str, ...]:
    """The overrides of several points; ConfigError where two of them change the same key."""
    axis_of: dict[str, str] = {}
    merged = []
    for axis, point in points.items():
        for override in axes[axis][point]:
            key = override.partition("=")[0]
            if key in axis_of:
                problem = f"the axes {axis_of[key]} and {axis} both change {key}"
                raise ConfigError(where, problem, "axes that change different keys")
            axis_of[key] = axis
            merged.append(override)
    return tuple(merged)


def _excluded(where: str, rules: Any, names: Sequence[str], axes: Axes) -> list[dict[str, str]]:
    if not isinstance(rules, list):
        raise ConfigError(
            f"{where}: exclude", f"found {shown_value(rules)}", "a list of tables of axis = point"
        )
    for rule in rules:
        if not _table(f"{where}: exclude", rule):
            raise ConfigError(f"{where}: exclude", "found {}, which is everything", "tables of axis = point")
        for axis, point in rule.items():
            _known(f"{where}: exclude", axis, names)
            _known(f"{where}: exclude.{axis}", point, axes[axis])
    return rules


def _seeds(where: str, seeds: Any) -> list[int | None]:
    if seeds is None:
        return [None]
    fine = isinstance(seeds, list) and all(type(seed) is int and SEED.holds(seed) for seed in seeds)
    if not fine or not seeds or len(set(seeds)) < len(seeds):
        allowed = f"a list of different integers, each {SEED.allowed}"
        raise ConfigError(where, f"found {shown_value(seeds)}", allowed)
    return list(seeds)


def _known(where: str, name: Any, names: Iterable[str]) -> None:
    if not isinstance(name, str) or name not in names:
        raise ConfigError(
            where, f"found {shown_value(name)}{did_you_mean(str(name), names)}", ", ".join(names)
        )


def _table(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ConfigError(where, f"found {shown_value(value)}", "a table")
    return value
