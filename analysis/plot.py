"""Draw runs: ``python analysis/plot.py RUN... --x time|round|bytes --y accuracy --output FILE.png``.

Several ``--y`` make panels above each other, over one ``--x`` or each over its own. Every run is a line of its own,
labelled with its experiment's name, with what differs between runs of the same name, and with its status unless it is
complete; ``--label`` once for each run replaces that.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
from arguments import OneLineParser
from configurations import run_labels
from drawing import Styles, common_legend
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from fedmpi.trace import Trace, TraceError, read


def _bytes(rounds: pd.DataFrame) -> pd.Series:
    return (rounds.bytes_up + rounds.bytes_down).cumsum()


AXES: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "time": ("emulated time (s)", lambda rounds: rounds.end_s),
    "round": ("round", lambda rounds: rounds["round"]),
    "bytes": ("bytes sent and received", _bytes),
}
PANELS: dict[str, tuple[str, Callable[[pd.DataFrame], pd.Series]]] = {
    "accuracy": ("test accuracy", lambda rounds: rounds.test_accuracy),
    "loss": ("test loss", lambda rounds: rounds.test_loss),
    "train_loss": ("training loss", lambda rounds: rounds.train_loss),
    "k": ("k (entries sent)", lambda rounds: rounds.k[rounds.phase == "federated"]),
    "density": ("density", lambda rounds: rounds.density),
    "bytes": ("bytes sent and received", _bytes),
}


def draw(
    traces: Sequence[Trace], labels: Sequence[str], xs: Sequence[str], ys: Sequence[str], title: str = ""
) -> Figure:
    """A figure with one panel for each of ``ys`` (names of PANELS).

    ``xs`` (names of AXES) is what they share as their horizontal axis, or one for each.

    ValueError: a run in which a quantity was never measured.
    """
    figure = Figure(figsize=(7.0, 1.0 + 2.6 * len(ys)), layout="constrained")
    panels = figure.subplots(len(ys), 1, sharex=len(xs) == 1, squeeze=False)[:, 0]
    style = Styles()
    for panel, x, y in zip(panels, xs if len(xs) > 1 else [xs[0]] * len(ys), ys, strict=True):
        x_name, x_values = AXES[x]
        y_name, y_values = PANELS[y]
        for trace, label in zip(traces, labels, strict=True):
            colour, line = style(label)
            measured = y_values(trace.rounds).dropna()
            if measured.empty:
                raise ValueError(f"{trace.path}: {y_name} was never measured")
            panel.plot(
                x_values(trace.rounds)[measured.index],
                measured,
                label=label,
                color=colour,
                linestyle=line,
                linewidth=1.5,
                marker="." if len(measured) == 1 else None,
                drawstyle="steps-post" if y in ("k", "density") else "default",
            )
        panel.set_ylabel(y_name)
        panel.grid(alpha=0.3)
        if y == "bytes":
            panel.yaxis.set_major_formatter(EngFormatter("B"))
        if x == "bytes":
            panel.xaxis.set_major_formatter(EngFormatter("B"))
        if len(xs) > 1 or panel is panels[-1]:
            panel.set_xlabel(x_name)
    common_legend(figure, panels[:1], columns=3)
    if title:
        figure.suptitle(title)
    return figure


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments, unreadable runs and a figure that cannot be written."""
    parser = OneLineParser(prog="plot.py", description="Draw runs of fedmpi.")
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder or trace.h5")
    parser.add_argument("--x", choices=AXES, action="append", help="once, or once for each --y; default time")
    parser.add_argument(
        "--y", choices=PANELS, action="append", help="may be given several times; default accuracy"
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help=".png, .pdf or .svg")
    parser.add_argument("--title", default="")
    parser.add_argument("--label", action="append", help="once for each RUN, in their order")
    options = parser.parse_args(arguments)
    if options.label and len(options.label) != len(options.runs):
        parser.error(f"{len(options.label)} --label for {len(options.runs)} runs; give one for each, or none")
    if options.label and len(set(options.label)) < len(options.label):
        twice = next(label for label in options.label if options.label.count(label) > 1)
        parser.error(f"--label {twice!r} is given to several runs; give each its own")
    xs, ys = options.x or ["time"], options.y or ["accuracy"]
    if len(xs) not in (1, len(ys)):
        parser.error(f"{len(xs)} --x for {len(ys)} --y; give one, or one for each")
    try:
        traces = [read(run) for run in options.runs]
        draw(traces, options.label or run_labels(traces), xs, ys, options.title).savefig(
            options.output, dpi=150
        )
    except (TraceError, ValueError, OSError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
