"""List the benchmarks of the source tree, or run one.

Arguments after the name go to the benchmark.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

import fedmpi
from fedmpi.config import ConfigError
from fedmpi.config.spelling import did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the benchmark to run")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the benchmark")


def execute(arguments: argparse.Namespace) -> int:
    """Print the benchmarks with the first line of each, or run one and return its exit code."""
    folder = Path(fedmpi.__file__).parent.parent / "benchmarks"
    scripts = {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}
    if not scripts:
        raise ConfigError("fedmpi bench", f"no benchmarks in {folder}", "a source tree of fedmpi")
    if arguments.name is None:
        width = max(map(len, scripts))
        for name, path in scripts.items():
            print(f"{name:{width}}  {_summary(path)}")
        return 0
    if arguments.name not in scripts:
        problem = f"unknown{did_you_mean(arguments.name, scripts)}"
        raise ConfigError(f"benchmark {arguments.name}", problem, ", ".join(scripts))
    command = [sys.executable, str(scripts[arguments.name]), *arguments.rest]
    return subprocess.run(command, check=False).returncode


def _summary(script: Path) -> str:
    documentation = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    return (documentation or "").partition("\n")[0]
