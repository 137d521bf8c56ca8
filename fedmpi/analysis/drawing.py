"""What all figures have in common: sizes and fonts, lines, bands over seeds, legends."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.legend import Legend
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text
from numpy.typing import NDArray

from fedmpi.analysis.curves import Curve, together
from fedmpi.analysis.groups import Configuration
from fedmpi.analysis.measures import evaluations
from fedmpi.analysis.runs import AnalysisError, Run
from fedmpi.analysis.statistics import bootstrap_interval

_POINTS_PER_CHARACTER = 0.64
"""Of a line of text with some room, for each point of the font's size."""
_HANDLE_CHARACTERS = 8
_ROW_POINTS = 1.6
_ROWS_WITH_ROOM = 3
_DOTS_PER_INCH = 200

Draw = Callable[[Sequence[Run], float | None], Figure | None]
"""From runs, and the moment in emulated seconds to compare them at (None: the latest), to a figure if they allow it."""


@dataclass(frozen=True)
class Size:
    """Of a figure in a journal: its width in inches, and the size of its text in points."""

    width: float
    text: float


SIZES = {"column": Size(3.5, 7.5), "page": Size(7.16, 9.0)}
"""The widths of a column and of a page of two columns (IEEE: 3.5 and 7.16 inches)."""

STUDY = Size(9.0, 10.0)
"""Figures of studies have widths of their own, in which this text fits."""


@contextmanager
def typeset(size: Size) -> Iterator[None]:
    """Figures that are made and written within have this size of text, thin axes, and fonts that journals take."""
    small = round(0.85 * size.text, 1)
    context = matplotlib.rc_context(
        {
            "font.size": size.text,
            "axes.labelsize": size.text,
            "axes.titlesize": size.text,
            "figure.titlesize": size.text,
            "xtick.labelsize": small,
            "ytick.labelsize": small,
            "legend.fontsize": small,
            "legend.title_fontsize": small,
            "axes.linewidth": 0.7,
            "grid.linewidth": 0.5,
            "grid.alpha": 0.3,
            "hatch.linewidth": 0.5,
            "pdf.fonttype": 42,
            "svg.hashsalt": "fedmpi",
        }
    )
    with context:
        yield


def write(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, PDF or SVG, as the ending of ``path`` says.

    Files of the same figure are equal: they hold no date. AnalysisError for another ending, for a file that cannot be
    written, and for a text whose formula cannot be read.
    """
    dated = {".pdf": {"CreationDate": None}, ".svg": {"Date": None}, ".png": {}}
    if path.suffix.lower() not in dated:
        raise AnalysisError(f"{path}: the ending is {path.suffix or 'missing'}; allowed: {', '.join(dated)}")
    try:
        figure.savefig(path, dpi=_DOTS_PER_INCH, metadata=dated[path.suffix.lower()])
    except OSError as error:
        raise AnalysisError(f"{path}: cannot be written: {error.strerror or error}") from error
    except ValueError as error:
        text = next((text for text in figure.findobj(Text) if not _readable(text)), None)
        if text is None:
            raise
        problem = f"{text.get_text()!r} has a formula between dollar signs that cannot be read"
        raise AnalysisError(
            f"{path}: {problem}; allowed: one of matplotlib's, or \\$ for the sign"
        ) from error


def _readable(text: Text) -> bool:
    """Whether what stands between dollar signs in a text, if that is a formula, is one."""
    if not text.get_parse_math():
        return True
    try:
        MathTextParser("path").parse(text.get_text())
    except ValueError:
        return False
    return True


def common_legend(
    figure: Figure, panels: Iterable[Axes], columns: int, title: str = "", formulas: bool = False
) -> Legend:
    """Below all panels, every label once, in at most ``columns`` as far as the figure is wide enough.

    The figure grows by the height of a long legend, so that panels keep theirs. ``title`` says what lines and bands
    are. ``formulas``: what stands between dollar signs in a label is one, not the name of a run as it is.
    """
    handles: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    text = FontProperties(size=matplotlib.rcParams["legend.fontsize"]).get_size_in_points()
    width = int(figure.get_figwidth() * 72 / (_POINTS_PER_CHARACTER * text))
    longest = max(map(len, handles), default=0) + _HANDLE_CHARACTERS
    columns = max(1, min(columns, len(handles), width // longest))
    title = textwrap.fill(title, width)
    rows = -(-len(handles) // columns) * -(-longest // width) + len(title.splitlines())
    extra = _ROW_POINTS * text / 72 * max(0, rows - _ROWS_WITH_ROOM)
    figure.set_figheight(figure.get_figheight() + extra)
    legend = figure.legend(
        list(handles.values()),
        [textwrap.fill(label, width - _HANDLE_CHARACTERS) for label in handles],
        loc="outside lower center",
        ncols=columns,
        title=title or None,
        fontsize=text,
        title_fontsize=text,
        frameon=False,
        handlelength=2.6,
    )
    legend.get_title().set_multialignment("center")
    for label in legend.get_texts():
        label.set_parse_math(formulas)
    return legend


def over(seeds: Sequence[Run], x: str, column: str) -> Curve:
    """What evaluations of all seeds measured, over ``x`` (``end_s`` or ``round``), as ``together`` gives it."""
    measured = [evaluations(run) for run in seeds]
    return together([(rounds[x].to_numpy(np.float64), rounds[column].to_numpy()) for rounds in measured])


def band(
    panel: Axes,
    x: NDArray[np.float64],
    values: NDArray[np.float64],
    label: str,
    colour: str,
    line: object,
    kind: str = "range",
    steps: bool = False,
) -> None:
    """The mean of ``values`` (seeds, places) over ``x``, and a shade of the ``kind`` that BANDS explains."""
    mean = values.mean(axis=0)
    panel.plot(
        x,
        mean,
        color=colour,
        linestyle=line,
        linewidth=1.5,
        marker="o" if x[0] == x[-1] else None,  # a single evaluation makes no line
        markersize=4,
        label=label,
        drawstyle="steps-post" if steps else "default",
    )
    if len(values) < 2 or kind == "none":
        return
    if kind == "ci":
        low, high = bootstrap_interval(values)
    elif kind == "std":
        deviation = values.std(axis=0, ddof=1)
        low, high = mean - deviation, mean + deviation
    else:
        low, high = values.min(axis=0), values.max(axis=0)
    panel.fill_between(x, low, high, color=colour, alpha=0.18, linewidth=0.0, step="post" if steps else None)


def seeds_text(groups: Sequence[Configuration], kind: str = "range") -> str:
    """What lines and shades are, where there are several seeds: " (mean and range of 3 seeds)"."""
    seeds = {len(group.runs) for group in groups}
    if seeds == {1}:
        return ""
    return f" (mean and {kind} of {f'{seeds.pop()} ' if len(seeds) == 1 else ''}seeds)"
