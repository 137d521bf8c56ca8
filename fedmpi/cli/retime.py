"""Time a run again on other devices and links, without training.

Exact, to the last bit of a rerun, where no decision in the run had seen the time; refused otherwise.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from fedmpi.cli.output import prepare_output
from fedmpi.config import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="the folder of a run, or its trace")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],
        metavar="section.key=value",
        help="another value of a key of emulation.compute, emulation.network or emulation.energy",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder of the new run")
    parser.add_argument("--overwrite", action="store_true", help="discard the run in DIR")
    parser.add_argument(
        "--approximate",
        action="store_true",
        help="keep recorded decisions that had seen the time, and mark the trace as approximate",
    )


def execute(arguments: argparse.Namespace) -> int:
    """Write the run folder, and print what became of the run's time."""
    from fedmpi.experiment.retiming import prepare, write

    retiming = prepare(arguments.run, arguments.overrides, arguments.approximate)
    source = retiming.recorded.path
    if arguments.output.resolve() == (source if source.is_dir() else source.parent).resolve():
        raise ConfigError("--output", f"{arguments.output} is the run itself", "another folder")
    lock = prepare_output(arguments.output, retiming.config, resume=False, overwrite=arguments.overwrite)
    try:
        path, end_s = write(retiming, arguments.output)
    finally:
        lock.release()
    for decision in retiming.decisions:
        print(f"fedmpi: approximate: {decision.key} {decision.what}", file=sys.stderr)
    rounds = retiming.recorded.rounds
    before_s = float(rounds["end_s"][-1]) if len(rounds) else 0.0
    print(f"{path}: {len(rounds):,} rounds in {end_s:,.6g} emulated s ({before_s:,.6g} s before)")
    return 0
