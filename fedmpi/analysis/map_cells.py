"""Cells of a map: the colour of the method that is first, as strong as its lead, with the factor and a marker in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite, log

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Rectangle

from fedmpi.analysis.drawing import COLOURS
from fedmpi.analysis.winners import ALONE, FIRST, NONE, UNDECIDED, UNKNOWN

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""Of methods, for readers without colours."""

OTHER_LOOKS = {
    UNDECIDED: ("undecided", "#EDEDED", "////"),
    NONE: ("no method gets there", "#BDBDBD", ""),
    UNKNOWN: ("not run yet", "#FFFFFF", "xx"),
}
"""Verdicts other than that one is first: what they are called, colour, hatch."""

HATCH_COLOUR = "#6E6E6E"
_BORDER_COLOUR, _DARK_INK = "#333333", "#1A1A1A"

STRONG_FACTOR = 10.0
"""The factor from which on a method's colour is as strong as it gets."""
_PALEST, _STRONGEST = 0.28, 0.95
"""Shares of the colour at a factor of 1, and from STRONG_FACTOR on."""

_TEXT = 0.82
"""Size of numbers in cells, of that of the figure's text."""
_NUMBER, _MARKER_BESIDE, _LINE = 2.0, 2.6, 1.15
"""Widths of a number, and of a marker and the space around it, and the height of a line, in sizes of the text."""
_EDGE_FROM_POINTS = 8.0


@dataclass(frozen=True)
class Cell:
    """One point of a map in a panel: its ``left``, ``right``, ``bottom`` and ``top``, and the verdict on it."""

    left: float
    right: float
    bottom: float
    top: float
    verdict: str
    first: str = ""
    factor: float = inf

    @classmethod
    def of(cls, edges: tuple[float, float, float, float], row: Mapping[str, object]) -> Cell:
        """From a row of ``winners.winners``."""
        verdict = str(row["verdict"])
        factor = float(str(row["factor"])) if verdict == FIRST else 1.0 if verdict == UNDECIDED else inf
        return cls(*edges, verdict, str(row["first"]), factor)

    @property
    def decided(self) -> bool:
        return self.verdict in (FIRST, ALONE)

    @property
    def owner(self) -> str:
        """What a region of the map is of: the method that leads, or else the verdict."""
        return self.first if self.verdict in (FIRST, ALONE, UNDECIDED) else self.verdict


def shade(colour: str, factor: float) -> tuple[float, float, float]:
    """A colour on white, the stronger the larger the factor (1 or more); RGB from 0 to 1."""
    share = min(log(factor) / log(STRONG_FACTOR), 1.0) if isfinite(factor) else 1.0
    weight = _PALEST + (_STRONGEST - _PALEST) * share
    red, green, blue = (1 - weight + weight * part for part in to_rgb(colour))
    return red, green, blue


def ink(colour: tuple[float, float, float]) -> str:
    """Black or white, whichever is easier to read on a colour (relative luminance, WCAG 2)."""
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in colour]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return _DARK_INK if (luminance + 0.05) / 0.06 > 1.05 / (luminance + 0.05) else "white"


def factor_text(factor: float) -> str:
    """A factor with the digits that count; "only" where there is no second."""
    if not isfinite(factor):
        return "only"
    if factor < 1.095:
        return f"{factor:.2f}"
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"


def draw_cells(
    panel: Axes,
    cells: Sequence[Cell],
    looks: Mapping[str, int],
    room: tuple[float, float],
    text: float,
    log_x: bool = False,
) -> None:
    """Cells with numbers and markers as far as there is ``room`` in each, width and height in points.

    ``looks``: the place of each method among colours and markers. ``text``: the figure's size of text. ``log_x``: the
    middle between left and right is that of their logarithms.
    """
    for cell in cells:
        _fill(panel, cell, looks, edged=min(room) >= _EDGE_FROM_POINTS)
    text *= _TEXT
    above = room[0] > _NUMBER * text and room[1] > 2 * _LINE * text
    beside = not above and room[0] > (_NUMBER + _MARKER_BESIDE) * text and room[1] > _LINE * text
    numbered = room[0] > _NUMBER * text and room[1] > _LINE * text
    marked_only = set() if above or beside else _middles(cells)
    for place, cell in enumerate(cells):
        if not cell.decided:
            continue
        look = looks[cell.first]
        colour = ink(shade(COLOURS[look % len(COLOURS)], cell.factor))
        x, y = 0.5, 0.5
        if (numbered or above or beside) and place not in marked_only:
            shift = (0.16 if beside else 0.0, -0.17 if above else 0.0)
            _text(panel, cell, (x + shift[0], y + shift[1]), factor_text(cell.factor), text, colour, log_x)
        if above or beside or place in marked_only:
            at = (x, y + 0.25) if above else (x - 0.3, y) if beside else (x, y)
            across, along = _inside(cell, at, log_x)
            size = min(0.5 * text, 0.7 * min(room))
            panel.plot(
                across, along, MARKERS[look % len(MARKERS)], markersize=size, color=colour, markeredgewidth=0
            )


def draw_borders(panel: Axes, cells: Sequence[Cell]) -> None:
    """Lines between neighbours that belong to different methods."""
    by_corner = {(cell.left, cell.bottom): cell for cell in cells}
    for cell in cells:
        right, above = by_corner.get((cell.right, cell.bottom)), by_corner.get((cell.left, cell.top))
        if right is not None and right.owner != cell.owner:
            panel.plot([cell.right] * 2, [cell.bottom, cell.top], color=_BORDER_COLOUR, linewidth=1.4)
        if above is not None and above.owner != cell.owner:
            panel.plot([cell.left, cell.right], [cell.top] * 2, color=_BORDER_COLOUR, linewidth=1.4)


def _fill(panel: Axes, cell: Cell, looks: Mapping[str, int], edged: bool) -> None:
    if cell.verdict in (FIRST, ALONE, UNDECIDED):
        colour: object = shade(COLOURS[looks[cell.first] % len(COLOURS)], cell.factor)
        hatch = OTHER_LOOKS[UNDECIDED][2] if cell.verdict == UNDECIDED else ""
    else:
        _, colour, hatch = OTHER_LOOKS[cell.verdict]
    corner, width, height = (cell.left, cell.bottom), cell.right - cell.left, cell.top - cell.bottom
    panel.add_patch(
        Rectangle(corner, width, height, facecolor=colour, hatch=hatch, edgecolor=HATCH_COLOUR, linewidth=0)
    )
    if edged:
        panel.add_patch(Rectangle(corner, width, height, fill=False, edgecolor="white", linewidth=0.5))


def _inside(cell: Cell, at: tuple[float, float], log_x: bool) -> tuple[float, float]:
    """A place in a cell, from (0, 0) in its lower left to (1, 1) in its upper right."""
    x = cell.left + at[0] * (cell.right - cell.left)
    if log_x:
        x = cell.left * (cell.right / cell.left) ** at[0]
    return x, cell.bottom + at[1] * (cell.top - cell.bottom)


def _text(
    panel: Axes, cell: Cell, at: tuple[float, float], words: str, size: float, colour: str, log_x: bool
) -> None:
    x, y = _inside(cell, at, log_x)
    panel.text(x, y, words, ha="center", va="center_baseline", fontsize=size, color=colour)


def _middles(cells: Sequence[Cell]) -> set[int]:
    """The place of one cell of each method, amid those where it is first."""
    found = set()
    for method in {cell.first for cell in cells if cell.decided}:
        own = [place for place, cell in enumerate(cells) if cell.decided and cell.first == method]
        corners = np.array([(cells[place].left, cells[place].bottom) for place in own])
        distance = ((corners - corners.mean(axis=0)) ** 2).sum(axis=1)
        found.add(own[int(distance.argmin())])
    return found
