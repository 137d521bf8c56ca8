"""How evenly clients contribute: ``python analysis/fairness.py RUN... [--output FILE.png] [--csv]``.

A client's contribution is the number of its uploaded entries that the server used, as the mean over the rounds it
took part in. The table has, for each run, the distribution over clients (least, quartiles, greatest), the Gini
coefficient (0: all the same, towards 1: one alone), Jain's index (1: all the same, 1/N: one alone) and the share of
clients' rounds in which nothing was used. The picture has the cumulative distribution over clients, relative to
their mean. Runs that share a name are told apart by what differs in their configurations; one that is not complete
has its status in brackets.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from arguments import OneLineParser
from configurations import run_labels
from drawing import Styles, common_legend
from matplotlib.figure import Figure
from study import client_means, contributions

from fedmpi.trace import Trace, TraceError, read

FORMATS = {
    "clients": "{:.0f}",
    "least": "{:,.1f}",
    "q25": "{:,.1f}",
    "median": "{:,.1f}",
    "q75": "{:,.1f}",
    "greatest": "{:,.1f}",
    "gini": "{:.4f}",
    "jain": "{:.4f}",
    "zero_share": "{:.4f}",
}


def gini(values: np.ndarray) -> float:
    """The Gini coefficient of amounts of at least 0 (n,): half the mean difference of two, over the mean.

    NaN without any amount, 0 where all are 0.
    """
    if not values.size:
        return float("nan")
    ordered = np.sort(np.asarray(values, dtype=np.float64))
    total = ordered.sum()
    ranks = np.arange(1, ordered.size + 1)
    return float(((2 * ranks - ordered.size - 1) * ordered).sum() / (ordered.size * total)) if total else 0.0


def jain(values: np.ndarray) -> float:
    """Jain's fairness index of amounts of at least 0 (n,): (sum x)**2 / (n sum x**2) (Jain, Chiu and Hawe 1984).

    NaN without any amount, 1 where all are 0.
    """
    if not values.size:
        return float("nan")
    amounts = np.asarray(values, dtype=np.float64)
    squares = (amounts**2).sum()
    return float(amounts.sum() ** 2 / (amounts.size * squares)) if squares else 1.0


def fairness(trace: Trace) -> dict[str, float]:
    """One run in figures; all NaN but the number of clients where nobody's update counted."""
    means = client_means(trace)
    used = contributions(trace).entries_used
    quartiles = np.quantile(means, [0.0, 0.25, 0.5, 0.75, 1.0]) if means.size else np.full(5, np.nan)
    names = ("least", "q25", "median", "q75", "greatest")
    return {
        "clients": means.size,
        **dict(zip(names, map(float, quartiles), strict=True)),
        "gini": gini(means),
        "jain": jain(means),
        "zero_share": float((used == 0).mean()) if len(used) else float("nan"),
    }


def table(traces: Sequence[Trace]) -> pd.DataFrame:
    """The runs' figures, one row each, indexed by name."""
    return pd.DataFrame([fairness(trace) for trace in traces], index=pd.Index(run_labels(traces), name="run"))


def draw(traces: Sequence[Trace]) -> Figure:
    """The cumulative distribution over clients of what each contributes, relative to the run's mean client.

    ValueError: a run in which nothing of anybody was used.
    """
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    panel = figure.subplots()
    style = Styles()
    for trace, label in zip(traces, run_labels(traces), strict=True):
        means = client_means(trace)
        if not means.any():
            raise ValueError(f"{trace.path}: nothing of any client was used, there is nothing to draw")
        colour, line = style(label)
        panel.ecdf(means / means.mean(), label=label, color=colour, linestyle=line, linewidth=1.8)
    panel.axvline(1.0, color="#777777", linewidth=1.0, linestyle=":", label="all the same")
    panel.set(
        xlabel="entries used of a client / mean over clients", ylabel="share of clients", ylim=(0.0, 1.02)
    )
    panel.set_xlim(left=0.0)
    panel.grid(alpha=0.3)
    common_legend(figure, [panel], columns=4)
    return figure


def markdown(frame: pd.DataFrame) -> str:
    """The table for a text: names to the left, numbers to the right."""
    header = [str(frame.index.name), *map(str, frame.columns)]
    rows = [
        [str(name), *(FORMATS[str(column)].format(row[column]) for column in frame.columns)]
        for name, row in frame.iterrows()
    ]
    return "\n".join(
        f"| {' | '.join(cells)} |" for cells in (header, [":--", *["--:"] * (len(header) - 1)], *rows)
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; exit code 2 for bad arguments, unreadable runs and a picture that cannot be written."""
    parser = OneLineParser(
        prog="fairness.py", description="How evenly the clients of runs of fedmpi contribute."
    )
    parser.add_argument("runs", metavar="RUN", nargs="+", type=Path, help="run folder or trace.h5")
    parser.add_argument("--output", type=Path, metavar="FILE", help="picture: .png, .pdf or .svg")
    parser.add_argument("--csv", action="store_true", help="comma-separated values with every digit")
    options = parser.parse_args(arguments)
    try:
        traces = [read(run) for run in options.runs]
        if options.output is not None:
            draw(traces).savefig(options.output, dpi=150)
    except (TraceError, ValueError, OSError) as error:
        parser.error(str(error))
    frame = table(traces)
    print(frame.to_csv() if options.csv else markdown(frame), end="" if options.csv else "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
