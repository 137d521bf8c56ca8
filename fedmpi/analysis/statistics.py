"""How sure a mean over seeds is, and whether methods that were run with the same seeds differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import nan

import numpy as np
from numpy.typing import ArrayLike, NDArray

RESAMPLES = 10_000
CONFIDENCE = 0.95

FEWEST_PAIRS = 6
"""Below, Wilcoxon's signed-rank test cannot have a two-sided p-value under 0.05: of five pairs the least is 1/16."""


@dataclass(frozen=True)
class Paired:
    """A method against another, over the seeds that both were run with.

    ``difference`` is the mean over pairs of the one less the other, ``low`` and ``high`` its bootstrap interval (NaN
    with fewer than two pairs), ``p_value`` that of Wilcoxon's two-sided signed-rank test; None with fewer than
    ``FEWEST_PAIRS`` pairs.
    """

    pairs: int
    difference: float
    low: float
    high: float
    p_value: float | None


def bootstrap_interval(
    values: ArrayLike, confidence: float = CONFIDENCE
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The percentile bootstrap interval of the mean over the first axis (Efron and Tibshirani 1993, chapter 13).

    ``values`` is float64 (seeds, ...); both bounds have the shape (...). The same draws of seeds are taken at every
    place and in every call. One seed says nothing of the spread: NaN.
    """
    seeds = np.asarray(values, dtype=np.float64)
    count = len(seeds)
    if count < 2:
        unknown = np.full(seeds.shape[1:], nan)
        return unknown, unknown
    weights = resampling(count)
    tail = (1 - confidence) / 2
    flat = seeds.reshape(count, -1)
    bounds = np.array([np.quantile(weights @ column, [tail, 1 - tail]) for column in flat.T])
    # A mean lies among its values, which rounding does not know: seeds that are all equal have no spread.
    bounds = np.clip(bounds, flat.min(axis=0)[:, None], flat.max(axis=0)[:, None])
    low, high = np.moveaxis(bounds.reshape(*seeds.shape[1:], 2), -1, 0)
    return low, high


@cache
def resampling(count: int) -> NDArray[np.float64]:
    """The weight of each of ``count`` seeds in every resample, (RESAMPLES, count); a row's sum is 1."""
    generator = np.random.default_rng(0)
    weights = generator.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    weights.setflags(write=False)
    return weights


def paired(values: Sequence[float], others: Sequence[float]) -> Paired:
    """Compare ``values`` with ``others``, which were measured with the same seeds in the same order.

    Pairs of which one is NaN do not count. The test is exact where differences are neither 0 nor tied in size, else
    that of scipy's choice; equal pairs are left out of it (Wilcoxon 1945). All equal: a p-value of 1.
    """
    differences = np.asarray(values, dtype=np.float64) - np.asarray(others, dtype=np.float64)
    differences = differences[~np.isnan(differences)]
    if not differences.size:
        return Paired(0, nan, nan, nan, None)
    low, high = bootstrap_interval(differences)
    p_value = None
    if differences.size >= FEWEST_PAIRS:
        from scipy.stats import wilcoxon  # takes a second to import, and few comparisons have so many seeds

        p_value = float(wilcoxon(differences).pvalue) if differences.any() else 1.0
    return Paired(differences.size, float(differences.mean()), float(low), float(high), p_value)
