"""From the TOML file of a sweep to its runs, each with its whole configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import tomli_w

from fedmpi.config import Config, ConfigError, loads, preset_names, preset_text
from fedmpi.config.errors import shortened, shown_value
from fedmpi.config.load import PackagedTexts
from fedmpi.config.spelling import did_you_mean
from fedmpi.config.toml import TomlError, parse, read_text
from fedmpi.sweeps.grids import Combination, combinations, read_axes
from fedmpi.sweeps.toml_text import value_text

STUDIES = PackagedTexts("sweep", resources.files("fedmpi") / "presets" / "studies")
"""The sweeps that come with fedmpi."""

_KEYS = ("base", "seeds", "axes", "grids")

_MOST_CHARACTERS_OF_NAME = 200
"""It becomes that of a folder, and of a file with some more letters; file systems hold 255."""

RESERVED = ("configs", "logs")
"""Folders of a study that are not runs."""


@dataclass(frozen=True)
class PlannedRun:
    """One run of a sweep. ``label`` is its name without the seed, ``overrides`` what it changes in the base."""

    index: int
    name: str
    label: str
    overrides: tuple[str, ...]
    config: Config


@dataclass(frozen=True)
class Sweep:
    """``name`` is that of the file, with that of another base; ``common`` are the overrides given for all runs."""

    name: str
    runs: tuple[PlannedRun, ...]
    common: tuple[str, ...]


def plan(source: str, overrides: Sequence[str] = (), base: str | None = None) -> Sweep:
    """The runs of a sweep: ``source`` is a TOML file, or the name of a sweep that comes with fedmpi.

    ``overrides`` (``section.key=value``) hold for all runs; they may not change what an axis changes. ``base``, a
    preset or a file (relative to the working directory), stands in for the sweep's own. Types and names of keys are
    checked here, values by ``fedmpi.config.validate``. Raises ConfigError.
    """
    place = f"sweep {source}"
    written, folder = _read(source, place)
    try:
        content = parse(written)
    except TomlError as error:
        raise ConfigError("", str(error), within=place) from None
    try:
        for key in content:
            if key not in _KEYS:
                raise ConfigError(key, f"unknown key{did_you_mean(key, _KEYS)}", ", ".join(_KEYS))
        found = combinations(content, read_axes(content.get("axes", {})))
        text = "" if base is not None else _own_base_text(content, folder)
    except ConfigError as error:
        raise error.inside(place) from None
    name = Path(source).stem
    if base is not None:
        name, text = f"{name}-{Path(base).stem}", _base_text("--base", base, Path())
    if not found:
        raise ConfigError("", "every run is excluded", "at least one run", within=place)
    runs = (_run(index, combination, text, overrides) for index, combination in enumerate(found))
    return Sweep(name, tuple(runs), tuple(overrides))


def _run(index: int, combination: Combination, base: str, common: Sequence[str]) -> PlannedRun:
    name = combination.name
    if name in RESERVED:
        raise ConfigError(f"run {name}", "a folder of the study has this name", "another name of a point")
    if len(name) > _MOST_CHARACTERS_OF_NAME:
        problem = f"found a name of {len(name)} characters"
        raise ConfigError(
            f"run {shortened(name)}", problem, f"at most {_MOST_CHARACTERS_OF_NAME}: shorter points"
        )
    own = list(combination.overrides)
    if combination.seed is not None:
        own.append(f"experiment.seed={combination.seed}")
    keys = {override.partition("=")[0].strip() for override in own}
    for override in common:
        if override.partition("=")[0].strip() in keys:
            raise ConfigError(f"override {override}", f"the run {name} changes this key itself", "other keys")
    try:
        config = loads(base, [f"experiment.name={value_text(combination.label)}", *own, *common])
    except ConfigError as error:
        raise error.inside(f"run {name}") from None
    return PlannedRun(index, name, combination.label, tuple(own), config)


def _read(source: str, place: str) -> tuple[str, Path]:
    """The text of a sweep, and the folder that its base is looked for in."""
    path = Path(source)
    names = STUDIES.names()
    if source in names and not path.is_file():
        return STUDIES.text(source), Path()
    try:
        return read_text(path), path.parent
    except FileNotFoundError:
        problem = f"no such file, and no sweep of that name{did_you_mean(path.stem, names)}"
        raise ConfigError("", problem, f"a TOML file, or {', '.join(names)}", within=place) from None
    except TomlError as error:
        raise ConfigError("", str(error), "a TOML file in UTF-8", within=place) from None


def _own_base_text(content: Mapping[str, Any], folder: Path) -> str:
    allowed = "a preset, a file, or [base.section] tables"
    if "base" not in content:
        raise ConfigError("base", "missing", allowed)
    base = content["base"]
    if isinstance(base, dict):
        return tomli_w.dumps(base)
    if not isinstance(base, str):
        raise ConfigError("base", f"found {shown_value(base)}", allowed)
    return _base_text("base", base, folder)


def _base_text(key: str, base: str, folder: Path) -> str:
    path = folder / base
    names = preset_names()
    if base in names and not path.is_file():
        return preset_text(base)
    try:
        return read_text(path)
    except (FileNotFoundError, TomlError):
        problem = f"found {shown_value(base)}, which is no preset and no text file {path}{did_you_mean(base, names)}"
        raise ConfigError(key, problem, f"a file, or a preset: {', '.join(names)}") from None
