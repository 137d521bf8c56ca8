"""Write traces as CSV or Parquet tables, or for TensorBoard.

Of several runs each gets a folder of its own in the output folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.cli.analysed import add_paths, remark, require
from fedmpi.config import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    from fedmpi.analysis.convert import FORMS

    add_paths(parser)
    parser.add_argument("--to", choices=FORMS, required=True, help="the form")
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="a new or empty folder (default: PATH/FORM, of one PATH)"
    )
    parser.add_argument("--overwrite", action="store_true", help="write into a folder that is not empty")


def execute(arguments: argparse.Namespace) -> int:
    """Write the files, and print the folder of each run."""
    from fedmpi.analysis.convert import FORMS, NEEDS, check_folder
    from fedmpi.analysis.runs import load

    if arguments.to in NEEDS:
        require(NEEDS[arguments.to], "convert", "convert")
    first = Path(arguments.paths[0])
    if arguments.output is None and len(arguments.paths) > 1:
        raise ConfigError("--output", "missing, for several paths", "a folder")
    output = arguments.output or (first if first.is_dir() else first.parent) / arguments.to
    loaded = load(arguments.paths)
    remark(loaded.remarks)
    check_folder(output, arguments.overwrite)
    names = [
        Path(run.name).name if run.trace.path.name == "trace.h5" else run.trace.path.stem
        for run in loaded.runs
    ]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"fedmpi convert {twice}", "several runs have this name", "one of them at a time")
    for name, run in zip(names, loaded.runs, strict=True):
        folder = output if len(loaded.runs) == 1 else output / name
        files = FORMS[arguments.to](run.trace, folder)
        print(f"{folder}: {', '.join(path.name for path in files)}")
    return 0
