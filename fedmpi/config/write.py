"""A configuration written back to TOML; reading it again gives an equal configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import tomli_w

from fedmpi.config.emulation_schema import NO_OPTIONS
from fedmpi.config.schema import Config


def dumps(config: Config) -> str:
    """The whole configuration as TOML text, defaults included; None, and tables of no options, are left out."""
    return tomli_w.dumps(tables(config))


def tables(config: Config) -> dict[str, Any]:
    """The configuration as nested plain dicts and lists, as TOML would be read; None is left out."""
    plain: dict[str, Any] = _plain(config)
    return plain


_SIMPLE = (str, int, float, bool)
"""Types of most values, which TOML has as they are."""


@cache
def _names(kind: type) -> tuple[str, ...]:
    """The fields of a dataclass; of anything else, none."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else ()


def _plain(value: Any) -> Any:
    if names := _names(value.__class__):
        pairs = ((name, getattr(value, name)) for name in names)
        return {
            name: item if type(item) in _SIMPLE else _plain(item)
            for name, item in pairs
            if item is not None and not (name == "options" and item == NO_OPTIONS)
        }
    if isinstance(value, Mapping):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def flat(content: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one dict with dotted keys; values that are tables, such as a distribution, are flattened too."""
    keys: dict[str, Any] = {}
    for name, value in content.items():
        if isinstance(value, Mapping):
            keys |= flat(value, f"{prefix}{name}.")
        else:
            keys[f"{prefix}{name}"] = value
    return keys
