"""Write a page on a run or a sweep: one HTML file with charts and tables that any browser shows without a network.

Runs that differ in their seeds alone make one line, with a bootstrap band. What long runs and large fleets have too
much of for a page is left out, and the page says so.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fedmpi.cli.analysed import add_paths, remark, require
from fedmpi.cli.number_arguments import number
from fedmpi.config import ConfigError
from fedmpi.config.ranges import Range


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_paths(parser)
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="FILE",
        help="the page (default: PATH/report.html, of one folder)",
    )
    parser.add_argument(
        "--target",
        type=number(Range(0, 1)),
        metavar="ACCURACY",
        help="test accuracy whose costs are compared (default: the lowest of the runs' best ones)",
    )
    parser.add_argument("--title", default="", help="default: the experiment's name")


def execute(arguments: argparse.Namespace) -> int:
    """Write the page, and print where it is and how large."""
    require("plotly", "report")
    from fedmpi.analysis.report import collect, html
    from fedmpi.analysis.report.page import MOST_BYTES
    from fedmpi.analysis.runs import AnalysisError, load
    from fedmpi.numerics.quantities import bytes_text

    output = arguments.output or _default(arguments.paths)
    loaded = load(arguments.paths, whole=False)
    remark(loaded.remarks)
    page = html(collect(loaded, arguments.target, arguments.title)).encode()
    try:
        output.write_bytes(page)
    except OSError as error:
        raise AnalysisError(f"--output: {output} cannot be written: {error.strerror or error}") from error
    if len(page) > MOST_BYTES:
        remark(
            [
                f"{output}: the page is larger than {bytes_text(MOST_BYTES)}: it has very many long names or runs"
            ]
        )
    print(f"{output}: {bytes_text(len(page))}")
    return 0


def _default(paths: list[str]) -> Path:
    if len(paths) > 1 or not Path(paths[0]).is_dir():
        raise ConfigError("--output", "missing, for what is not one folder", "a file")
    return Path(paths[0]) / "report.html"
