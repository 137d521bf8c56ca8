"""How evenly clients contribute.

A client's contribution is the number of its uploaded entries that the server used, as the mean over the rounds it
took part in. A row of the table is one run, with the distribution over clients (least, quartiles, greatest), the Gini
coefficient (0: all the same, towards 1: one alone), Jain's index (1: all the same, 1/N: one alone) and the share of
clients' rounds in which nothing was used.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from fedmpi.analysis.client_sums import sums_of
from fedmpi.analysis.measures import client_means
from fedmpi.analysis.settings import run_labels
from fedmpi.trace import Trace

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


def of_client_tests(trace: Trace) -> tuple[float, float] | None:
    """Of the last test of the global model at the clients: accuracy of the worst tenth, and Gini's coefficient.

    The worst tenth are the clients of the lowest accuracies, at least one; the mean of theirs counts. Clients without
    test samples are left out. None where nothing was tested at clients.
    """
    tests = trace.client_tests
    tests = tests[tests["samples"] > 0]
    if tests.empty:
        return None
    accuracy = np.sort(tests[tests["round"] == tests["round"].max()]["accuracy"].to_numpy(np.float64))
    return float(accuracy[: max(1, len(accuracy) // 10)].mean()), gini(accuracy)


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
    means, sums = client_means(trace), sums_of(trace)
    counted = int(sums.counted.sum())
    quartiles = np.quantile(means, [0.0, 0.25, 0.5, 0.75, 1.0]) if means.size else np.full(5, np.nan)
    names = ("least", "q25", "median", "q75", "greatest")
    return {
        "clients": means.size,
        **dict(zip(names, map(float, quartiles), strict=True)),
        "gini": gini(means),
        "jain": jain(means),
        "zero_share": sums.none_used / counted if counted else float("nan"),
    }


def table(traces: Sequence[Trace]) -> pd.DataFrame:
    """The runs' figures, one row each, indexed by name."""
    return pd.DataFrame([fairness(trace) for trace in traces], index=pd.Index(run_labels(traces), name="run"))


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
