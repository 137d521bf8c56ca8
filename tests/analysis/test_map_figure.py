"""The picture of a map: what is in its cells, and what it says of itself."""

from __future__ import annotations

from math import inf

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis.drawing import SIZES, typeset, write
from fedmpi.analysis.looks import COLOURS
from fedmpi.analysis.map_cells import STRONG_FACTOR, Cell, factor_text, ink, shade
from fedmpi.analysis.map_figure import draw, explanation
from fedmpi.analysis.winners import APPROXIMATE, EXACT, FIRST, MISSING, TIMES, UNDECIDED, winners

NAN = float("nan")


def table(uplinks: int, speeds: int, seeds: int = 2, how: str = EXACT) -> pd.DataFrame:
    """``a`` is first on slow links, ``b`` on fast ones; at the slowest devices nobody gets there."""
    rows = []
    for uplink in range(uplinks):
        for speed in range(speeds):
            for seed in range(seeds):
                dead = speed == 0 and speeds > 1 and uplink == 0
                times = {
                    "a": NAN if dead else 10.0,
                    "b": NAN if dead else 10.0 * 2.0 ** (uplinks / 2 - uplink),
                }
                for method, seconds in times.items():
                    kind = how if method == "a" else EXACT
                    rows.append((2.0**uplink, 2.0**uplink, 2.0**speed, method, seed, seconds, kind))
    return pd.DataFrame(rows, columns=list(TIMES))


def words(figure: object) -> list[str]:
    return [text.get_text() for panel in figure.axes for text in panel.texts]  # type: ignore[attr-defined]


def legend(figure: object) -> tuple[list[str], str]:
    (found,) = figure.legends  # type: ignore[attr-defined]
    return [text.get_text() for text in found.get_texts()], found.get_title().get_text().replace("\n", " ")


@pytest.mark.parametrize("size", SIZES)
def test_a_heat_map_has_a_number_in_each_decided_cell(size: str) -> None:
    times = table(4, 3)
    decided = winners(times)
    with typeset(SIZES[size]):
        figure = draw(times, decided, 0.8, size=SIZES[size])
    # 2 ** |2 - uplink| at 3 speeds: 4, 2, undecided (equal), 2; the first cell of the lowest speed is dead.
    assert sorted(words(figure)) == sorted(["2.0"] * 6 + ["4.0"] * 2)
    labels, title = legend(figure)
    assert labels == ["a", "b", "undecided", "no method gets there"]
    assert "accuracy 0.8" in title
    assert "over 2 seeds includes 1" in title
    panel = figure.axes[0]
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("uplink (Mbit/s)", "relative speed of devices")
    assert panel.get_xlim() == (-0.5, 3.5)


@pytest.mark.parametrize(("uplinks", "speeds", "name"), [(5, 1, "uplink"), (1, 5, "speed")])
def test_one_grid_alone_becomes_lines(uplinks: int, speeds: int, name: str) -> None:
    times = table(uplinks, speeds)
    figure = draw(times, winners(times), 0.8)
    panel, strip = figure.axes
    assert panel.get_yscale() == panel.get_xscale() == "log"
    assert name in strip.get_xlabel()
    line = panel.lines[0]
    assert list(line.get_ydata()) == pytest.approx([10.0] * (5 if uplinks > 1 else 4))
    assert legend(figure)[1].startswith("Lines: geometric means over seeds")


def test_one_point_can_be_drawn(tmp_path) -> None:
    times = table(1, 1, seeds=1)
    figure = draw(times, winners(times), 0.8, title="One point")
    write(figure, tmp_path / "map.svg")
    assert "One seed: no intervals." in legend(figure)[1]
    assert "One point" in (tmp_path / "map.svg").read_text() or figure.get_suptitle() == "One point"


def test_approximate_times_and_missing_runs_are_marked() -> None:
    times = table(3, 2, how=APPROXIMATE)
    times.loc[(times.method == "b") & (times.uplink_mbit_per_s == 4.0), "how"] = MISSING
    labels, _ = legend(draw(times, winners(times), 0.8))
    assert labels[0] == "a (times approximate)"
    assert labels[1] == "b"
    assert "not run yet" in labels


def test_a_grid_of_many_cells_has_markers_only() -> None:
    times = table(60, 2, seeds=1)
    figure = draw(times, winners(times), 0.8, size=SIZES["column"])
    assert words(figure) == []
    assert {line.get_marker() for line in figure.axes[0].lines} >= {"o", "s"}


def test_the_explanation_says_what_only_means() -> None:
    times = table(1, 1)
    times.loc[times.method == "b", "seconds"] = NAN
    assert '"only": no other one gets there' in explanation(winners(times), 0.5)
    assert words(draw(times, winners(times), 0.5)) == ["only"]


@pytest.mark.parametrize(
    ("factor", "text"),
    [
        (1.004, "1.00"),
        (1.08, "1.08"),
        (1.12, "1.1"),
        (9.94, "9.9"),
        (9.96, "10"),
        (123.4, "123"),
        (inf, "only"),
    ],
)
def test_factors_have_the_digits_that_count(factor: float, text: str) -> None:
    assert factor_text(factor) == text


@given(st.sampled_from(COLOURS), st.floats(1.0, 1e6), st.floats(1.0, 1e6))
def test_colours_grow_stronger_with_the_factor_and_numbers_can_be_read(
    colour: str, factor: float, other: float
) -> None:
    weaker, stronger = sorted((factor, other))
    assert sum(shade(colour, weaker)) >= sum(shade(colour, stronger)) - 1e-12
    assert shade(colour, max(factor, STRONG_FACTOR)) == shade(colour, inf)

    def luminance(rgb: tuple[float, float, float]) -> float:
        linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in rgb]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    ground = luminance(shade(colour, factor))
    text = 1.0 if ink(shade(colour, factor)) == "white" else luminance((26 / 255,) * 3)
    contrast = (max(ground, text) + 0.05) / (min(ground, text) + 0.05)
    assert contrast > 3.9  # WCAG asks for 3 (large text) or 4.5


def test_a_cell_belongs_to_the_method_that_leads() -> None:
    edges = (0.0, 1.0, 0.0, 1.0)
    undecided = Cell.of(edges, {"verdict": UNDECIDED, "first": "a", "factor": 1.3})
    first = Cell.of(edges, {"verdict": FIRST, "first": "a", "factor": 1.3})
    nobody = Cell.of(edges, {"verdict": "none", "first": NAN, "factor": NAN})
    assert (undecided.owner, first.owner, nobody.owner) == ("a", "a", "none")
    assert (undecided.decided, first.decided, nobody.decided) == (False, True, False)
    assert (undecided.factor, first.factor, nobody.factor) == (1.0, 1.3, inf)
