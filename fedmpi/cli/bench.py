"""List the benchmarks, or run one: of the collectives on your ranks, or one of the source tree.

Arguments after the name go to the benchmark.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
from pathlib import Path

import fedmpi
from fedmpi.cli import bench_collectives
from fedmpi.config import ConfigError
from fedmpi.config.spelling import did_you_mean


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", metavar="NAME", help="the benchmark to run")
    parser.add_argument("rest", nargs=argparse.REMAINDER, metavar="...", help="arguments of the benchmark")


def execute(arguments: argparse.Namespace) -> int:
    """Print the benchmarks with the first line of each, or run one and return its exit code."""
    if arguments.name == bench_collectives.NAME:
        return bench_collectives.run(arguments.rest)
    folder = Path(fedmpi.__file__).parent.parent / "benchmarks"
    scripts = {path.stem: path for path in sorted(folder.glob("[!_]*.py"))}
    if arguments.name is None:
        summaries = {bench_collectives.NAME: bench_collectives.SUMMARY}
        summaries |= {name: _summary(path) for name, path in scripts.items()}
        width = max(map(len, summaries))
        for name, summary in summaries.items():
            print(f"{name:{width}}  {summary}")
        return 0
    if arguments.name not in scripts:
        known = [bench_collectives.NAME, *scripts]
        problem = f"unknown{did_you_mean(arguments.name, known)}"
        allowed = ", ".join(known) if scripts else f"{known[0]}, or in a source tree of fedmpi its benchmarks"
        raise ConfigError(f"benchmark {arguments.name}", problem, allowed)
    command = [sys.executable, str(scripts[arguments.name]), *arguments.rest]
    return subprocess.run(command, check=False).returncode


def _summary(script: Path) -> str:
    documentation = ast.get_docstring(ast.parse(script.read_text(encoding="utf-8")))
    return (documentation or "").partition("\n")[0]
