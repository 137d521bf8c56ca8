"""Values of a parsed TOML file as text again, in the form of ``section.key=value`` overrides."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, get_type_hints

import tomli_w

from fedmpi.config import Config

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def override_strings(change: Mapping[str, Any]) -> tuple[str, ...]:
    """``{"training": {"batch_size": 8}}`` and ``{"training.batch_size": 8}`` as ``training.batch_size=8``.

    Tables of the configuration are opened; a table that is itself the value of a key stays one.
    """
    return tuple(f"{key}={value_text(value)}" for key, value in _flat(change, Config, ""))


def value_text(value: Any) -> str:
    """One TOML value on one line."""
    if isinstance(value, Mapping):
        items = ", ".join(f"{_key_text(key)} = {value_text(item)}" for key, item in value.items())
        return f"{{ {items} }}" if items else "{}"
    if isinstance(value, list):
        return f"[{', '.join(map(value_text, value))}]"
    return tomli_w.dumps({"value": value}).partition("=")[2].strip()


def _flat(change: Mapping[str, Any], table: Any, prefix: str) -> list[tuple[str, Any]]:
    flat = []
    types = get_type_hints(table)
    for key, value in change.items():
        kind = types.get(key)
        if isinstance(value, Mapping) and isinstance(kind, type) and is_dataclass(kind):
            flat += _flat(value, kind, f"{prefix}{key}.")
        else:
            flat.append((prefix + key, value))
    return flat


def _key_text(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else value_text(key)
