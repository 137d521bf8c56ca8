"""Which method is first to reach a target at each point of a grid of links and devices, and by what factor.

From a table of times alone; ``fedmpi map`` makes it, and ``map_figure`` draws what is decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, inf, nan

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fedmpi.analysis.runs import AnalysisError
from fedmpi.analysis.statistics import CONFIDENCE, resampling

POINT = ("uplink_mbit_per_s", "downlink_mbit_per_s", "speed")
"""The columns that name a point: rates of clients' links (Mbit/s), and how fast devices are (as in the sweep: 1)."""

TIMES = (*POINT, "method", "seed", "seconds", "how")
"""Columns of a table of times: emulated ``seconds`` to the target (NaN: not reached), and ``how`` they are known."""

EXACT, RUN, APPROXIMATE, MISSING = "exact", "run", "approximate", "missing"
"""Values of ``how``: retimed to the last bit; run there; retimed with decisions as recorded; not known yet."""

EQUAL = 1.0001
"""Times whose factor is no more than this are equal: nobody chooses a method by a ten-thousandth."""

FIRST, UNDECIDED, ALONE, NONE, UNKNOWN = "first", "undecided", "alone", "none", "unknown"
"""Verdicts: one is first; the interval of its factor reaches down to EQUAL; no other one reaches the target with all
seeds; none does; runs are missing."""


def common_seeds(times: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """The rows of seeds that all methods were run with, and a line for each method that had others too.

    AnalysisError where methods have no seed in common.
    """
    seeds = {method: set(rows.seed) for method, rows in times.groupby("method", sort=False)}
    common = set.intersection(*seeds.values())
    if not common:
        raise AnalysisError(
            f"{', '.join(map(str, seeds))}: no seed in common; allowed: methods run with the same seeds"
        )
    lines = [
        f"{method}: seed{'s' if len(own - common) > 1 else ''} {', '.join(map(str, sorted(own - common)))} left out, "
        "which others were not run with"
        for method, own in seeds.items()
        if own - common
    ]
    return times[times.seed.isin(common)], lines


def winners(times: pd.DataFrame, confidence: float = CONFIDENCE) -> pd.DataFrame:
    """A row for each point of ``times`` (columns TIMES): POINT, ``verdict``, ``first``, ``second``, ``factor``, its
    interval ``low`` and ``high``, and ``seeds``.

    A method's time is the geometric mean over seeds, and it counts where all of its seeds reached the target; of
    equal ones the method that ``times`` has first is the first. The factor is the least time of another method over
    that of the first. Its interval is the percentile bootstrap over seeds (Efron and Tibshirani 1993, chapter 13),
    the same seeds being drawn for all methods: in each resample the best of the others, whichever that is, against the
    one that is first in all. One seed: NaN, no interval, and only equal times (EQUAL) are undecided. AnalysisError for
    methods without a common seed, and for times that are not above 0.
    """
    times, _ = common_seeds(times)
    methods = list(dict.fromkeys(times.method))
    rows = []
    for point, here in times.groupby(list(POINT), sort=True):
        seconds = here.pivot(index="seed", columns="method", values="seconds").reindex(columns=methods)
        if (seconds <= 0).any(axis=None):
            raise AnalysisError(f"{dict(zip(POINT, point, strict=True))}: found a time that is not above 0 s")
        known = len(here) == seconds.size and not (here.how == MISSING).any()
        decided = _decided(seconds.to_numpy(), methods, confidence) if known else {"verdict": UNKNOWN}
        rows.append({**dict(zip(POINT, point, strict=True)), **decided, "seeds": len(seconds)})
    columns = [*POINT, "verdict", "first", "second", "factor", "low", "high", "seeds"]
    return pd.DataFrame(rows, columns=columns)


def _decided(seconds: NDArray[np.float64], methods: Sequence[str], confidence: float) -> dict[str, object]:
    """The verdict on one point, of ``seconds`` (seeds, methods)."""
    logs = np.log(seconds)
    means = np.where(np.isnan(logs).any(axis=0), inf, logs.mean(axis=0))
    order = np.argsort(means, kind="stable")
    first, reaching = int(order[0]), int(np.isfinite(means).sum())
    if not reaching:
        return {"verdict": NONE}
    if reaching == 1:
        return {"verdict": ALONE, "first": methods[first]}
    others = order[1:reaching]
    factor, low, high = exp(means[others[0]] - means[first]), nan, nan
    if len(seconds) > 1:
        drawn = resampling(len(seconds)) @ logs[:, order[:reaching]]
        tail = (1 - confidence) / 2
        low, high = np.exp(np.quantile(drawn[:, 1:].min(axis=1) - drawn[:, 0], [tail, 1 - tail])).tolist()
    open_ = (low if len(seconds) > 1 else factor) <= EQUAL
    return {
        "verdict": UNDECIDED if open_ else FIRST,
        "first": methods[first],
        "second": methods[int(others[0])],
        "factor": factor,
        "low": low,
        "high": high,
    }


def summary(times: pd.DataFrame, decided: pd.DataFrame) -> list[str]:
    """A line for each method that is first somewhere, and for what is not decided."""
    lines = []
    for method in dict.fromkeys(times.method):
        own = decided[(decided["first"] == method) & decided.verdict.isin([FIRST, ALONE])]
        if len(own):
            factors = own.factor.dropna()
            by = f", by {factors.min():.3g} to {factors.max():.3g}" if len(factors) else ""
            lines.append(f"{method}: first at {len(own)} of {len(decided)} points{by}")
    for verdict, what in _OTHERS.items():
        if count := int((decided.verdict == verdict).sum()):
            lines.append(f"{what} at {count} of {len(decided)} points")
    if (decided.seeds == 1).any():
        lines.append("one seed: no intervals")
    return lines


_OTHERS = {
    UNDECIDED: "undecided",
    NONE: "no method reaches the target with all seeds",
    UNKNOWN: "runs are missing",
}
