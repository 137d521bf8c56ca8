"""A configuration from TOML: strict types, no unknown keys, overrides of single keys.

TOML has no null: the string ``"none"`` unsets a key that may be absent, such as
``experiment.stop_at_accuracy``.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass
from functools import cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from fedmpi.config.errors import ConfigError, shortened, shown_key, shown_value
from fedmpi.config.frozen import FrozenTable
from fedmpi.config.schema import Config
from fedmpi.config.spelling import did_you_mean, nearest
from fedmpi.config.toml import TomlError, parse, read_text

_MOST_PARTS = 16
"""Parts of a dotted key, more than any key has."""


_FORMER: Mapping[str, Any] = {"emulation.network.trace": ""}
"""Keys that are no more, with the one value that they had: it stands in the files of earlier runs."""


class _MismatchError(Exception):
    """A value that does not fit a type; the caller knows the key."""


def load(source: str | Path, overrides: Iterable[str] = ()) -> Config:
    """The configuration of a TOML file, of a preset, or of TOML text (a string with a line break).

    ``overrides`` are ``section.key=value`` strings, applied in order. Values are checked for their types
    only; see ``fedmpi.config.validate``. Raises ConfigError.
    """
    if isinstance(source, str) and "\n" in source:
        return loads(source, overrides)
    text, origin = _read(source)
    return loads(text, overrides, origin=origin)


def loads(text: str, overrides: Iterable[str] = (), origin: str = "configuration") -> Config:
    """The configuration in TOML text. ``origin`` names it in messages about its syntax."""
    try:
        content = parse(text)
    except TomlError as error:
        raise ConfigError("", str(error), within=origin) from None
    for override in overrides:
        _apply(content, override)
    config: Config = _table(content, Config, "")
    return config


@dataclass(frozen=True)
class PackagedTexts:
    """The TOML files in a ``folder`` of fedmpi's own, each called a ``kind``."""

    kind: str
    folder: Traversable

    def names(self) -> list[str]:
        """The names of all, in alphabetical order."""
        files = (item.name for item in self.folder.iterdir())
        return sorted(name.removesuffix(".toml") for name in files if name.endswith(".toml"))

    def text(self, name: str) -> str:
        """The text of one, comments included. Raises ConfigError with the nearest name."""
        names = self.names()
        if name not in names:
            problem = f"unknown{did_you_mean(name, names)}"
            raise ConfigError(f"{self.kind} {name}", problem, ", ".join(names))
        return (self.folder / f"{name}.toml").read_text(encoding="utf-8")

    def listing(self) -> str:
        """A line for each: its name, and its first line without the comment's mark."""
        names = self.names()
        width = max(map(len, names))
        return "\n".join(
            f"{name:{width}}  {self.text(name).partition(chr(10))[0].lstrip('# ')}" for name in names
        )


PRESETS = PackagedTexts("preset", resources.files("fedmpi") / "presets")


def preset_names() -> list[str]:
    """The presets that come with fedmpi, in alphabetical order."""
    return PRESETS.names()


def preset_text(name: str) -> str:
    """The TOML text of a preset, comments included. Raises ConfigError with the nearest name."""
    return PRESETS.text(name)


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    names = preset_names()
    if isinstance(source, str) and source in names and not path.is_file():
        return preset_text(source), f"preset {source}"
    origin = f"configuration {source}"
    try:
        return read_text(path), origin
    except FileNotFoundError:
        problem = f"no such file, and no preset of that name{did_you_mean(path.stem, names)}"
        allowed = f"a TOML file, or a preset: {', '.join(names)}"
        raise ConfigError("", problem, allowed, within=origin) from None
    except TomlError as error:
        raise ConfigError("", str(error), "a TOML file in UTF-8", within=origin) from None


def _apply(content: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    path = _key_path(key)
    place = f"override {shortened(override)}"
    if not equals or not 2 <= len(path) <= _MOST_PARTS:
        raise ConfigError("", "not of the form", "section.key=value", within=place)
    if _is_table(path):
        name = ".".join(path)
        raise ConfigError("", f"[{name}] is a table", f"its keys, such as {name}.KEY=value", within=place)
    for depth, part in enumerate(path[:-1]):
        inner = content.setdefault(part, {})
        if not isinstance(inner, dict) and _is_table(path[: depth + 1]):
            raise _not_a_table(".".join(path[: depth + 1]), inner)
        if not isinstance(inner, dict):  # one entry replaces a plain value by a table: rate.median=8
            inner = content[part] = {}
        content = inner
    content[path[-1]] = _override_value(place, value.strip())


def _key_path(key: str) -> list[str]:
    """The parts of a dotted key, quoted parts as in TOML; none where it is no key."""
    if "\n" in key:
        return []
    try:
        inner: Any = parse(f"{key} = 0")
    except TomlError:
        return []
    path: list[str] = []
    while isinstance(inner, dict):
        if len(inner) != 1:  # as of "[table]#", after which the rest is a comment
            return []
        ((part, inner),) = inner.items()
        path.append(part)
    return path


def _override_value(place: str, text: str) -> Any:
    """A TOML value; what is no TOML value is taken as a string without its quotes."""
    try:
        parsed = parse(f"value = {text}")
        if list(parsed) == ["value"]:
            return parsed["value"]
    except TomlError as error:
        if not error.is_syntax or text[:1] in ("[", "{", '"', "'"):
            problem = str(error).removeprefix("not TOML: ")
            raise ConfigError("", f"not a TOML value: {problem}", within=place) from None
    return text


def _is_table(path: list[str]) -> bool:
    kind: Any = Config
    for part in path:
        kind = _types(kind).get(part) if _is_schema(kind) else None
    return _is_schema(kind)


def _is_schema(kind: Any) -> bool:
    return isinstance(kind, type) and is_dataclass(kind)


@cache
def _types(table: type) -> dict[str, Any]:
    """The type of each key of one table."""
    return get_type_hints(table)


def _table(content: Any, table: type, path: str) -> Any:
    if not isinstance(content, dict):
        raise _not_a_table(path, content)
    types = _types(table)
    values = {}
    for key, value in content.items():
        inner = f"{path}.{key}" if path else key
        if key not in types and inner in _FORMER and value == _FORMER[inner]:
            continue
        if key not in types:
            raise _unknown(key, value, path, types)
        if _is_schema(types[key]):
            values[key] = _table(value, types[key], inner)
            continue
        try:
            values[key] = _converted(value, types[key])
        except _MismatchError:
            problem = f"found {shown_value(value)} ({_kind(value)})"
            raise ConfigError(inner, problem, _described(types[key])) from None
    return table(**values)


def _converted(value: Any, kind: Any) -> Any:
    """``value`` as ``kind``: an int where a float is wanted, tuples for lists, frozen tables for tables."""
    if get_origin(kind) in (Union, UnionType):
        members = get_args(kind)
        if value == "none" and NoneType in members:
            return None
        for member in members:
            try:
                return _converted(value, member)
            except _MismatchError:
                continue
        raise _MismatchError
    if get_origin(kind) is tuple and isinstance(value, list):
        return tuple(_converted(item, get_args(kind)[0]) for item in value)
    if get_origin(kind) is Mapping and isinstance(value, dict):
        return FrozenTable({name: _converted(item, get_args(kind)[1]) for name, item in value.items()})
    if kind is float and type(value) in (int, float):
        try:
            return float(value)
        except OverflowError:
            raise _MismatchError from None
    if kind in (bool, int, str) and type(value) is kind:
        return value
    raise _MismatchError


def _unknown(key: str, value: Any, path: str, types: Mapping[str, Any]) -> ConfigError:
    """The error of a key or table that does not exist, with the nearest one that does."""
    is_table = isinstance(value, dict)
    prefix = f"{path}." if path else ""
    here = {name: _path_shown(prefix + name) for name, kind in types.items() if _is_schema(kind) == is_table}
    elsewhere = {place.rpartition(".")[2]: place for place in reversed(_all_paths())}
    suggestion = ""
    if name := nearest(key, here):
        suggestion = f"; did you mean {here[name] if is_table else name}?"
    elif key in elsewhere:
        suggestion = f"; did you mean {_path_shown(elsewhere[key])}?"
    if is_table and here:
        return ConfigError(f"[{prefix}{key}]", f"unknown table{suggestion}", ", ".join(here.values()))
    if not path:
        return ConfigError(key, f"a key outside of any table{suggestion}", "keys inside of [tables]")
    return ConfigError(f"{path}.{key}", f"unknown key{suggestion}", ", ".join(types))


def _all_paths(table: Any = Config, prefix: str = "") -> list[str]:
    """The dotted paths of all tables and keys, in the order of the schema."""
    paths = []
    for name, kind in _types(table).items():
        paths.append(prefix + name)
        if _is_schema(kind):
            paths += _all_paths(kind, f"{prefix}{name}.")
    return paths


def _path_shown(path: str) -> str:
    """``[emulation.network]`` for a table, ``[emulation.network] latency_s`` for a key."""
    return f"[{path}]" if _is_table(path.split(".")) else shown_key(path)


def _not_a_table(path: str, value: Any) -> ConfigError:
    return ConfigError(f"[{path}]", f"found {shown_value(value)} ({_kind(value)})", "a table of keys")


def _kind(value: Any) -> str:
    names: dict[type, str] = {
        bool: "a boolean",
        int: "an integer",
        float: "a number",
        str: "a string",
        list: "a list",
        dict: "a table",
        datetime.datetime: "a date and time",
        datetime.date: "a date",
        datetime.time: "a time",
    }
    return names[type(value)]


def _described(kind: Any) -> str:
    """A type in words."""
    if get_origin(kind) in (Union, UnionType):
        described = (_described(member) for member in get_args(kind))
        return " or ".join(dict.fromkeys(described))
    if get_origin(kind) is tuple:
        return f"a list, each item {_described(get_args(kind)[0])}"
    if get_origin(kind) is Mapping:
        return f"a table, each value {_described(get_args(kind)[1])}"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "a string", NoneType: '"none"'}
    return names[kind]
