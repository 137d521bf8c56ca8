"""The tree: packages import in one direction, as CONTRIBUTING.md draws it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import fedmpi

PACKAGE = Path(fedmpi.__file__).parent

LEVELS = (
    ("config",),
    ("numerics",),
    ("sparsification", "k_control", "pruning", "aggregation", "emulation", "learning"),
    ("trace", "checkpoint", "mpi"),
    ("federation",),
    ("analysis",),
    ("experiment",),
    ("sweeps", "export"),
    ("calibration",),
    ("presets", "cli", "testing"),
    ("__main__", "api"),
    ("__init__",),
)
"""From below; within a level a package imports only those to its left."""

PLACE = {name: place for place, name in enumerate(name for level in LEVELS for name in level)}
ANYWHERE = {"__version__"}
"""What ``fedmpi/__init__.py`` has before anything is imported there."""


def imports(file: Path) -> Iterator[tuple[str, int]]:
    """The parts of fedmpi that a module imports, anywhere in it, with their lines."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}:{node.lineno} imports relatively"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            root, _, rest = name.partition(".")
            if root == "fedmpi" and rest:
                yield rest.partition(".")[0], node.lineno


def test_imports_go_one_way() -> None:
    wrong = []
    for file in sorted(PACKAGE.rglob("*.py")):
        inside = file.relative_to(PACKAGE)
        mine = inside.parts[0].removesuffix(".py")
        wrong += [
            f"{inside}:{line} imports fedmpi.{other}"
            for other, line in imports(file)
            if other not in ANYWHERE and other != mine and PLACE[other] >= PLACE[mine]
        ]
    assert not wrong


def test_every_package_has_a_level() -> None:
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} - PLACE.keys() == set()
