"""What the commands over runs have in common: which runs, remarks about them, and errors of one line."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from fedmpi.config import ConfigError
from fedmpi.config.errors import one_line

if TYPE_CHECKING:
    from fedmpi.analysis.groups import Configuration


def add_paths(parser: argparse.ArgumentParser) -> None:
    """``PATH ...``: run folders, sweep folders, traces."""
    parser.add_argument(
        "paths", nargs="+", metavar="PATH", help="a run folder, a folder of run folders (a sweep), or a trace"
    )


def configurations(paths: Iterable[str], separate: bool = False) -> list[Configuration]:
    """The runs at ``paths`` by configuration, or each by itself; remarks about them go to stderr."""
    from fedmpi.analysis.groups import pooled, single
    from fedmpi.analysis.runs import load

    loaded = load(paths)
    remark(loaded.remarks)
    return single(loaded.runs) if separate else pooled(loaded.runs)


def remark(lines: Iterable[str]) -> None:
    """A line on stderr for each."""
    for line in lines:
        print(f"fedmpi: {one_line(line)}", file=sys.stderr)


@contextmanager
def remarked_warnings() -> Iterator[None]:
    """What Python's libraries warn of, such as a character that a font does not have, as a line on stderr for each."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        yield
    remark(dict.fromkeys(str(warning.message) for warning in caught))


def require(module: str, command: str, extra: str = "analysis") -> None:
    """ConfigError where a package is missing that only some commands need."""
    if find_spec(module) is None:
        allowed = f"an environment with it: pip install 'fedmpi[{extra}]'"
        raise ConfigError(f"fedmpi {command}", f"{module} is not installed", allowed)
