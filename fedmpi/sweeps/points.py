"""The points of a map: link rates and device speeds, configurations there, and the sweep of runs that must be made.

A map's runs are a sweep like any other, written to a file that ``fedmpi sweep`` and job arrays take.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from math import inf, isfinite, log10
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from fedmpi.config import Config, ConfigError, tables
from fedmpi.config.errors import shown_value
from fedmpi.config.ranges import FACTOR, RATE_OR_INF, Range
from fedmpi.sweeps.run_states import ENDS

_DIGITS = 4
"""Significant digits of a grid's values, so that the names of points say what they are."""
_MOST_VALUES = 200
_MOST_CHARACTERS = 60
_FORM = "FROM:TO:COUNT such as 0.1:100:13, or numbers such as 1,10,100"

REPLACED = (
    *("emulation.network.uplink_mbit_per_s", "emulation.network.downlink_mbit_per_s"),
    *("emulation.network.uplink_trace", "emulation.network.downlink_trace"),
    *("emulation.network.trace_bin_s", "emulation.network.trace_start"),
    *("emulation.clock", "emulation.time_scale"),
)
"""Keys of a run that a point has values of its own for."""


@dataclass(frozen=True, order=True)
class Point:
    """The rate of all clients' uplinks and downlinks (Mbit/s), and how many times faster their devices train."""

    uplink: float
    downlink: float
    speed: float

    @property
    def name(self) -> str:
        """Part of the name of a run's folder."""
        return f"u{self.uplink:g}-d{self.downlink:g}-x{self.speed:g}"


def grid_values(text: str, key: str, allowed: Range = FACTOR) -> tuple[float, ...]:
    """``FROM:TO:COUNT``, evenly spaced by ratio and rounded to four digits, or ``A,B,...``; ascending.

    ConfigError that names ``key``.
    """
    try:
        if ":" in text:
            first, last, steps = text.split(":")
            low, high, number = float(first), float(last), int(steps)
            if not (
                allowed.holds(low) and allowed.holds(high) and low <= high and 1 <= number <= _MOST_VALUES
            ):
                raise ValueError
            if (number == 1) != (low == high):
                raise ValueError
            exponents = np.linspace(log10(low), log10(high), number)
            found = [low, *(10.0 ** exponents[1:-1]).tolist(), high][:number]
        else:
            found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    values = sorted({float(f"{value:.{_DIGITS}g}") for value in found})
    if not values or len(values) < len(found) or not all(map(allowed.holds, values)):
        problem = f"found {shown_value(text)}"
        raise ConfigError(
            key, problem, f"{_FORM}: at most {_MOST_VALUES} different ones, each {allowed.allowed}"
        )
    return tuple(values)


@dataclass(frozen=True)
class Downlink:
    """What the downlink of a point is: ``ratio`` times its uplink, or ``fixed`` Mbit/s."""

    ratio: float = 1.0
    fixed: float | None = None

    def of(self, uplink: float) -> float:
        """Mbit/s, at a point of this uplink."""
        return self.ratio * uplink if self.fixed is None else self.fixed

    @property
    def text(self) -> str:
        if self.fixed is None:
            return "as fast as the uplink" if self.ratio == 1 else f"{self.ratio:g} times the uplink"
        return f"{self.fixed:g} Mbit/s" if isfinite(self.fixed) else "unlimited"


def downlink(text: str | None, configs: Sequence[Config]) -> Downlink:
    """From ``--downlink``: Mbit/s, or times the uplink (``4x``).

    Without it (None) downlinks keep what the runs' own have, which must be alike: the ratio to the uplink where both
    are numbers, no limit where only the uplink has one; where neither is a number for all, they are as fast as uplinks.
    """
    if text is not None:
        return _given(text)
    kept = {_kept(config) for config in configs}
    if len(kept) > 1:
        found = " and ".join(sorted(each.text for each in kept))
        raise ConfigError(
            "--downlink", f"not given, and downlinks of the runs are {found}", "Mbit/s, or such as 4x"
        )
    return kept.pop()


def _given(text: str) -> Downlink:
    times = text.endswith("x")
    try:
        value = float(text.removesuffix("x"))
    except ValueError:
        value = -1.0
    if not (FACTOR if times else RATE_OR_INF).holds(value):
        problem = f"found {shown_value(text)}"
        raise ConfigError("--downlink", problem, "Mbit/s such as 20 or inf, or such as 4x: times the uplink")
    return Downlink(ratio=value) if times else Downlink(fixed=value)


def _kept(config: Config) -> Downlink:
    network = config.emulation.network
    up, down = network.uplink_mbit_per_s, network.downlink_mbit_per_s
    traced = network.uplink_trace or network.downlink_trace
    if traced or not (isinstance(up, float) and isinstance(down, float)) or up == inf:
        return Downlink()
    return Downlink(fixed=inf) if down == inf else Downlink(ratio=float(f"{down / up:.{_DIGITS}g}"))


def at(config: Config, point: Point) -> Config:
    """The run of ``config`` on the links and devices of a point; everything else is its own.

    Traces of links give way to rates, the real-time clock to the virtual one. ConfigError for a run without links.
    """
    compute, network = config.emulation.compute, config.emulation.network
    if compute.model == "normalized":
        problem = 'found "normalized", which knows no links'
        raise ConfigError("emulation.compute.model", problem, "another one, for a map of links and devices")
    network = replace(
        network,
        uplink_mbit_per_s=point.uplink,
        downlink_mbit_per_s=point.downlink,
        uplink_trace="",
        downlink_trace="",
        trace_bin_s=0.5,
        trace_start="zero",
    )
    compute = replace(compute, speed=compute.speed * point.speed)
    emulation = replace(config.emulation, clock="virtual", time_scale=1.0, compute=compute, network=network)
    return replace(config, emulation=emulation)


def same_but_ends(config: Config, other: Config) -> bool:
    """Whether two runs do the same in every round that both have, names aside."""

    def rest(found: Config) -> Config:
        experiment = replace(
            found.experiment, name="-", **{name: getattr(Config().experiment, name) for name in ENDS}
        )
        return replace(found, experiment=experiment)

    return tables(rest(config)) == tables(rest(other))


def folder_names(labels: Sequence[str]) -> list[str]:
    """A short name fit for folders for each label, all different."""
    names: list[str] = []
    for label in labels:
        plain = re.sub(r"[^A-Za-z0-9.+_]+", "-", label)[:_MOST_CHARACTERS].strip("-._+") or "method"
        free = (plain if number == 1 else f"{plain}-no{number}" for number in count(1))
        names.append(next(name for name in free if name not in names))
    return names


def write_sweep(path: Path, runs: Mapping[str, Iterable[Config]], target: float) -> None:
    """Write the file of a sweep of ``runs``: name without the seed -> the configurations of its seeds.

    Each ends where it reaches ``target``. What a configuration does not say has its default.
    """
    points: dict[str, Any] = {}
    grids: dict[tuple[int, ...], list[str]] = {}
    for name, configs in runs.items():
        seeds = tuple(config.experiment.seed for config in configs)
        points[name] = _change(next(iter(configs)), target)
        grids.setdefault(seeds, []).append(name)
    content = {
        "base": {"experiment": {}},
        "grids": [
            {"axes": ["run"], "points": {"run": names}, "seeds": list(seeds)}
            for seeds, names in grids.items()
        ],
        "axes": {"run": points},
    }
    text = "# Runs of a map of links and devices, written by fedmpi map.\n" + tomli_w.dumps(content)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def _change(config: Config, target: float) -> dict[str, Any]:
    """What a configuration changes in the defaults, but for its name and seed."""
    experiment = replace(config.experiment, name=Config().experiment.name, seed=Config().experiment.seed)
    found = replace(config, experiment=replace(experiment, stop_at_accuracy=target))
    return _differing(tables(found), tables(Config()))


def _differing(content: Mapping[str, Any], default: Mapping[str, Any]) -> dict[str, Any]:
    """The entries that differ; tables that are there on both sides are compared entry by entry."""
    found: dict[str, Any] = {}
    for key, value in content.items():
        known = default.get(key)
        if isinstance(value, Mapping) and isinstance(known, Mapping):
            if inner := _differing(value, known):
                found[key] = inner
        elif value != known:
            found[key] = value
    return found
