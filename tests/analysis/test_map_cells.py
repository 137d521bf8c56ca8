"""Cells of a map: where numbers, markers and borders stand in the room that there is."""

from __future__ import annotations

import pytest
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure

from fedmpi.analysis.looks import COLOURS
from fedmpi.analysis.map_cells import MARKERS, OTHER_LOOKS, Cell, draw_borders, draw_cells, ink, shade
from fedmpi.analysis.winners import ALONE, FIRST, NONE, UNDECIDED, UNKNOWN

LOOKS = {"a": 0, "b": 1}
TEXT = 10.0
TIGHT, LOW, WIDE, LARGE = (10.0, 10.0), (20.0, 12.0), (40.0, 12.0), (20.0, 20.0)
"""Room in points: for a marker, for a number, for a marker and a number beside it, and for one above the other."""


def row_of(*verdicts: tuple[str, str, float]) -> list[Cell]:
    """Cells of width 2 and height 1 beside each other."""
    return [Cell(2.0 * x, 2.0 * x + 2, 0.0, 1.0, *verdict) for x, verdict in enumerate(verdicts)]


def drawn(cells: list[Cell], room: tuple[float, float], log_x: bool = False) -> Axes:
    panel = Figure().add_subplot()
    draw_cells(panel, cells, LOOKS, room, TEXT, log_x)
    return panel


def numbers(panel: Axes) -> dict[float, tuple[str, float]]:
    """Where they stand -> what they say, and how high."""
    return {text.get_position()[0]: (text.get_text(), text.get_position()[1]) for text in panel.texts}


def markers(panel: Axes) -> dict[float, tuple[str, float]]:
    return {line.get_xdata()[0]: (line.get_marker(), line.get_ydata()[0]) for line in panel.lines}


THREE = row_of((FIRST, "a", 2.0), (FIRST, "a", 3.0), (FIRST, "a", 4.0))


def test_with_room_a_marker_stands_above_the_number() -> None:
    panel = drawn(THREE, LARGE)
    assert {x: text for x, (text, _) in numbers(panel).items()} == {1.0: "2.0", 3.0: "3.0", 5.0: "4.0"}
    assert set(markers(panel)) == {1.0, 3.0, 5.0}
    for x, (marker, high) in markers(panel).items():
        assert marker == MARKERS[0]
        assert 0.0 < numbers(panel)[x][1] < 0.5 < high < 1.0


def test_in_low_cells_it_stands_to_the_left_of_the_number() -> None:
    panel = drawn(THREE, WIDE)
    assert sorted(text for text, _ in numbers(panel).values()) == ["2.0", "3.0", "4.0"]
    for number, (left, x) in enumerate(zip(sorted(markers(panel)), sorted(numbers(panel)), strict=True)):
        assert 2 * number < left < 2 * number + 1 < x < 2 * number + 2
        assert markers(panel)[left][1] == numbers(panel)[x][1] == 0.5


def test_where_numbers_alone_have_room_one_cell_of_each_method_has_a_marker_instead() -> None:
    cells = [*THREE, *row_of(*[(UNDECIDED, "b", 1.0)] * 3, (ALONE, "b", float("inf")))[3:]]
    panel = drawn(cells, LOW)
    assert numbers(panel) == {1.0: ("2.0", 0.5), 5.0: ("4.0", 0.5)}
    assert markers(panel) == {3.0: (MARKERS[0], 0.5), 7.0: (MARKERS[1], 0.5)}


@pytest.mark.parametrize("room", [TIGHT, (100.0, 5.0), (15.0, 100.0)])
def test_where_numbers_have_no_room_there_is_a_marker_amid_each_method(room: tuple[float, float]) -> None:
    panel = drawn(THREE, room)
    assert numbers(panel) == {}
    assert markers(panel) == {3.0: (MARKERS[0], 0.5)}
    assert panel.lines[0].get_markersize() <= min(room)


def test_in_several_rows_the_marker_is_amid_all_cells_of_the_method() -> None:
    cells = [Cell(x, x + 1.0, y, y + 1.0, FIRST, "b", 2.0) for x, y in [(0, 0), (2, 0), (1, 1), (1, 0)]]
    assert markers(drawn(cells, TIGHT)) == {1.5: (MARKERS[1], 0.5)}


def test_on_a_logarithmic_axis_the_middle_is_that_of_logarithms() -> None:
    cell = Cell(1.0, 100.0, 0.0, 1.0, FIRST, "a", 2.0)
    assert list(markers(drawn([cell], TIGHT, log_x=True))) == pytest.approx([10.0])
    assert list(markers(drawn([cell], TIGHT))) == pytest.approx([50.5])


def test_what_is_not_decided_has_neither_number_nor_marker() -> None:
    panel = drawn(row_of((UNDECIDED, "a", 1.0), (NONE, "", 1.0), (UNKNOWN, "", 1.0)), LARGE)
    assert numbers(panel) == markers(panel) == {}


def test_cells_are_filled_with_the_look_of_their_verdict() -> None:
    cells = row_of((FIRST, "b", 3.0), (UNDECIDED, "b", 1.0), (NONE, "", 1.0), (UNKNOWN, "", 1.0))
    patches = drawn(cells, (5.0, 20.0)).patches
    assert [patch.get_bbox().bounds for patch in patches] == [(2.0 * x, 0.0, 2.0, 1.0) for x in range(4)]
    colours = [patch.get_facecolor()[:3] for patch in patches]
    assert colours[0] == pytest.approx(shade(COLOURS[1], 3.0))
    assert colours[1] == pytest.approx(shade(COLOURS[1], 1.0))
    assert colours[2:] == [to_rgb(OTHER_LOOKS[NONE][1]), to_rgb(OTHER_LOOKS[UNKNOWN][1])]
    hatches = [patch.get_hatch() or "" for patch in patches]
    assert hatches == ["", *(OTHER_LOOKS[verdict][2] for verdict in (UNDECIDED, NONE, UNKNOWN))]


@pytest.mark.parametrize(("room", "edges"), [((8.0, 8.0), 3), ((7.9, 20.0), 0), ((20.0, 7.9), 0)])
def test_cells_have_white_edges_where_they_are_large(room: tuple[float, float], edges: int) -> None:
    patches = drawn(THREE, room).patches
    outlines = [patch for patch in patches if not patch.get_fill()]
    assert (len(patches), len(outlines)) == (3 + edges, edges)
    assert all(patch.get_edgecolor()[:3] == (1.0, 1.0, 1.0) for patch in outlines)


def test_borders_are_between_cells_of_different_methods() -> None:
    """That of an undecided cell is the method that leads; the upper row has b alone."""
    lower = row_of((FIRST, "a", 2.0), (UNDECIDED, "a", 1.0), (FIRST, "b", 2.0), (NONE, "", 1.0))
    upper = [
        Cell(cell.left, cell.right, 1.0, 2.0, *verdict)
        for cell, verdict in zip(lower, [(FIRST, "b", 2.0)] * 3 + [(NONE, "", 1.0)], strict=True)
    ]
    panel = Figure().add_subplot()
    draw_borders(panel, [*lower, *upper])
    found = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in panel.lines}
    assert found == {
        ((4.0, 4.0), (0.0, 1.0)),
        ((6.0, 6.0), (0.0, 1.0)),
        ((6.0, 6.0), (1.0, 2.0)),
        ((0.0, 2.0), (1.0, 1.0)),
        ((2.0, 4.0), (1.0, 1.0)),
    }
    assert len(panel.lines) == 5


def test_numbers_are_dark_on_light_colours_and_white_on_dark_ones() -> None:
    assert ink((1.0, 1.0, 1.0)) == ink((1.0, 1.0, 0.0)) == ink((0.0, 0.9, 0.0)) != "white"
    assert ink((0.0, 0.0, 0.0)) == ink((0.0, 0.0, 1.0)) == ink((0.5, 0.0, 0.0)) == "white"


def test_a_colour_is_palest_at_one_and_strongest_from_ten_on() -> None:
    """Half way between at the square root of ten."""
    for weight, factor in ((0.28, 1.0), (0.615, 10**0.5), (0.95, 10.0), (0.95, 50.0), (0.95, float("inf"))):
        assert shade("#000000", factor) == pytest.approx((1 - weight,) * 3)
        assert shade("#ff0000", factor) == pytest.approx((1.0, 1 - weight, 1 - weight))
