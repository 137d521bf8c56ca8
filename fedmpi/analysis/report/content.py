"""What a page consists of, before it is HTML: plain data that tests can look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import isfinite
from typing import Any, Literal

from numpy.typing import ArrayLike

from fedmpi.analysis.report.thinning import MOST_TABLE_ROWS, joined, kept_of, numbers

UNKNOWN = "unknown"
"""What is written for NaN."""

Kind = Literal["lines", "bars", "gantt"]


PART_STYLES: tuple[int | str, ...] = (0, 1, 2, "wait")
"""Of the parts of a round (``looks.PARTS``)."""


@dataclass(frozen=True)
class Series:
    """Values ``y`` (n,) over ``x`` (n,; numbers, or names of bars), and where it has a band its bounds (n,).

    ``style`` is a place in the palette of ``looks.COLOURS``, or a name of the style sheet such as "wait". ``steps``:
    a value holds until the next one.
    """

    name: str
    style: int | str
    x: Sequence[Any]
    y: Sequence[float | None]
    low: Sequence[float | None] = ()
    high: Sequence[float | None] = ()
    steps: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart: lines, stacked bars (upright over numbers, lying over names), or the Gantt chart of a run's rounds.

    ``unit`` is written behind the numbers of the vertical axis, ``x_unit`` of the horizontal one (those of lying bars
    change places). ``rounds`` are those of a Gantt chart. ``run``: the place of the run that it is of, among those
    that the page lets one choose; None: of all runs.
    """

    title: str
    kind: Kind
    x_title: str
    y_title: str
    series: tuple[Series, ...] = ()
    x_unit: str = ""
    unit: str = ""
    lying: bool = False
    rounds: tuple[dict[str, Any], ...] = ()
    devices: tuple[str, ...] = ()
    run: int | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """A table of texts; numbers are to the right in the columns from ``numbers_from`` on."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""
    numbers_from: int = 1


@dataclass(frozen=True)
class Section:
    """A part of the page: paragraphs, charts, tables. ``name`` is its anchor."""

    name: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()


@dataclass(frozen=True)
class Headline:
    """A number at the top of the page, with what it is and a word on it."""

    label: str
    value: str
    remark: str = ""


@dataclass(frozen=True)
class Report:
    """A page. ``runs`` are the names of those of which one is chosen where charts are of one run."""

    title: str
    subtitle: str
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    runs: tuple[str, ...]
    remarks: tuple[str, ...] = field(default=())


def series(
    name: str,
    style: int | str,
    x: ArrayLike,
    y: ArrayLike,
    low: ArrayLike = (),
    high: ArrayLike = (),
    *,
    steps: bool = False,
) -> Series:
    """A series of numbers, rounded to what a screen can show; NaN becomes None, a gap."""
    return Series(name, style, numbers(x), numbers(y), numbers(low), numbers(high), steps)


def text(value: float, form: str = "{:,.4g}", unit: str = "") -> str:
    """A number in words: ``UNKNOWN`` for NaN, without a unit then."""
    if not isfinite(value):
        return UNKNOWN if value != value else ("no limit" if value > 0 else "-inf")
    return f"{form.format(value)}{f' {unit}' if unit else ''}"


def limited(
    header: Sequence[str],
    rows: Sequence[tuple[str, ...]],
    caption: str = "",
    numbers_from: int = 1,
    most: int = MOST_TABLE_ROWS,
) -> Table:
    """A table of the first rows, whose caption says if there are more."""
    left_out = kept_of(min(len(rows), most), len(rows), "rows", "the first ones")
    return Table(tuple(header), tuple(rows[:most]), joined([caption, left_out]), numbers_from)


def capital(words: str) -> str:
    """Words as the beginning of a sentence; a symbol such as k stays."""
    return words if words[1:2] in (" ", "") else words[:1].upper() + words[1:]
