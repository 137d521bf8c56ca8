"""What lies in a folder of data: not what operating systems, editors and notebooks put beside it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

_SYSTEM_NAMES = frozenset(
    {
        "__macosx",
        "__pycache__",
        "@eadir",
        "$recycle.bin",
        "system volume information",
        "lost+found",
        "thumbs.db",
        "ehthumbs.db",
        "desktop.ini",
    }
)
"""In small letters; what begins with a dot (.DS_Store, ._a.png, .ipynb_checkpoints, .git) is hidden anyway."""


def visible(paths: Iterable[Path]) -> list[Path]:
    """The ``paths`` that are data, in the order of their names: no hidden ones, none of a system's own."""
    return sorted(path for path in paths if not _is_hidden(path.name))


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES
