"""What keys can be, as the fields of the schema say it, and refusal of anything else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass
from typing import Any

from fedmpi.config.errors import ConfigError, refusal, shown_value
from fedmpi.config.ranges import CHOICES as _CHOICES
from fedmpi.config.ranges import RANGE, Range
from fedmpi.config.schema import Config, value_of
from fedmpi.config.spelling import did_you_mean


def _keys(table: Any, prefix: str = "") -> Iterator[tuple[str, Field[Any]]]:
    """The keys of a table and of those in it, such as ``experiment.rounds``, with their fields."""
    for each in fields(table):
        value = getattr(table, each.name)
        if is_dataclass(value):
            yield from _keys(value, f"{prefix}{each.name}.")
        else:
            yield prefix + each.name, each


_FIELDS = dict(_keys(Config()))

RANGES: Mapping[str, Range] = {
    key: field.metadata[RANGE] for key, field in _FIELDS.items() if RANGE in field.metadata
}
"""The range of every key that is one number; those of lists and tables are checked where their form is."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    key: field.metadata[_CHOICES] for key, field in _FIELDS.items() if _CHOICES in field.metadata
}
"""The names of every key that takes one of a few, and is no part."""


def check_limits(config: Config) -> None:
    """Raise ConfigError for a name that is none of a key's, or a number outside of its range; None is not set."""
    for key, names in CHOICES.items():
        found = str(value_of(config, key))
        if found not in names:
            raise ConfigError(
                key, f"found {shown_value(found)}{did_you_mean(found, names)}", ", ".join(names)
            )
    for key, allowed in RANGES.items():
        value = value_of(config, key)
        if value is not None and not allowed.holds(value):
            raise refusal(key, value, allowed.allowed)
