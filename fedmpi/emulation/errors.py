"""The error of this part: an emulation that cannot be built from what was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from fedmpi.config.errors import shortened
from fedmpi.config.spelling import did_you_mean


class EmulationError(ValueError):
    """A device, link, trace or unit is missing or impossible. The message names the key or the file."""


def unknown_name(key: str, name: str, allowed: Sequence[str]) -> EmulationError:
    """The error of a name at ``key`` that is none of ``allowed``, with the nearest spelling."""
    hint = did_you_mean(name, allowed) or ";"
    return EmulationError(f"{key}: found {shortened(repr(name))}{hint} allowed: {', '.join(allowed)}")
