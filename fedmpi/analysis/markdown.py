"""What the tables of studies have in common: Markdown, and numbers over seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import isnan

import numpy as np


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table of ``rows``, numbers to the right."""
    rule = [":--", *["--:"] * (len(columns) - 1)]
    return [f"**{title}**", "", *(f"| {' | '.join(cells)} |" for cells in (columns, rule, *rows))]


def spread(values: Sequence[float], form: str) -> str:
    """The mean, and the extremes of several where they are written differently; "-" where one is missing."""
    if any(isnan(value) for value in values):
        return "-"
    mean, low, high = (form.format(value) for value in (np.mean(values), min(values), max(values)))
    return mean if low == high else f"{mean} ({low} to {high})"


def mean(values: Iterable[float], form: str) -> str:
    """The mean alone; "-" where one is missing."""
    found = float(np.mean(list(values)))
    return "-" if isnan(found) else form.format(found)


def reached(amounts: Sequence[float], form: str = "{:,.0f}") -> str:
    """What it took to reach something, NaN where it was not reached: then how many of several did."""
    known = [amount for amount in amounts if not isnan(amount)]
    if len(known) == len(amounts):
        return spread(known, form)
    return "not reached" if len(amounts) == 1 else f"reached by {len(known)} of {len(amounts)}"
