"""Lines over time, rounds and bytes: what is drawn, on made-up and on real runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.analysis import groups
from fedmpi.analysis.curves import AXES, QUANTITIES, together
from fedmpi.analysis.drawing import SIZES, typeset, write
from fedmpi.analysis.lines import draw
from fedmpi.analysis.looks import BANDS
from fedmpi.analysis.runs import AnalysisError, load
from fedmpi.trace import read

MEASURED = [name for name in QUANTITIES if name != "energy"]


@pytest.fixture
def two(made_up):
    folders = [made_up("fast", 0.04), made_up("slow", 0.02, seconds=1.0, status="preempted")]
    return groups.pooled(load(folders).runs)


@pytest.fixture
def seeds(made_up):
    """One configuration with three seeds, of rounds of 2, 4 and 6 s."""
    return groups.pooled(load([made_up(f"s{s}", 0.01 * s, seconds=2.0 * s, seed=s) for s in (1, 2, 3)]).runs)


def shown(panel):
    return [line.get_label() for line in panel.lines]


def test_panels_hold_what_was_measured(two):
    accuracy, density = draw(two, ["bytes"], ["accuracy", "density"]).axes
    assert shown(accuracy) == ["example", "example [preempted]"]
    assert len(accuracy.lines[0].get_xdata()) == 20
    assert len(density.lines[0].get_xdata()) == 40
    assert accuracy.lines[0].get_xdata()[1] == 3 * 4e6
    assert accuracy.lines[0].get_ydata()[1] == pytest.approx(0.14)


def test_each_panel_over_its_own_axis(two):
    accuracy, k = draw(two, ["time", "round"], ["accuracy", "k"]).axes
    assert (accuracy.get_xlabel(), k.get_xlabel()) == ("emulated time (s)", "round")
    assert list(k.lines[0].get_xdata()) == list(range(40))


def test_lines_are_named_by_what_differs(made_up):
    fast = made_up("fast", 0.04, config="[training]\nlearning_rate = 0.4\n")
    slow = made_up("slow", 0.02, config="[training]\nlearning_rate = 0.2\n", status="failed")
    other = made_up("other", 0.02, name="other")
    figure = draw(groups.pooled(load([fast, slow, other]).runs))
    lines = figure.axes[0].lines
    labels = ["example, learning_rate = 0.4", "example, learning_rate = 0.2 [failed]", "other"]
    assert [line.get_label() for line in lines] == labels
    assert [text.get_text() for text in figure.legends[0].get_texts()] == labels
    assert len({(line.get_color(), str(line.get_linestyle())) for line in lines}) == 3
    assert [line.get_ydata()[-1] for line in lines] == pytest.approx([0.86, 0.48, 0.48])


def test_seeds_are_one_line_to_where_all_of_them_came(seeds):
    figure = draw(seeds, ["time"], ["accuracy"], interval="range")
    (line,) = figure.axes[0].lines
    assert (line.get_xdata()[0], line.get_xdata()[-1]) == (
        6.0,
        78.0,
    )  # first of the slowest, last of the fastest
    last = [0.1 + 0.01 * s * (78.0 / (2 * s) - 1) / 2 for s in (1, 2, 3)]
    assert line.get_ydata()[-1] == pytest.approx(np.mean(last))
    edges = figure.axes[0].collections[0].get_paths()[0].vertices
    at_end = edges[edges[:, 0] == 78.0][:, 1]
    assert (at_end.min(), at_end.max()) == (pytest.approx(min(last)), pytest.approx(max(last)))
    assert figure.legends[0].get_title().get_text() == "line: mean of 3 seeds; band: lowest to highest"


def test_seeds_over_rounds_stay_at_their_rounds(seeds):
    figure = draw(seeds, ["round"], ["accuracy"], interval="std")
    (line,) = figure.axes[0].lines
    assert line.get_xdata().tolist() == list(range(0, 40, 2))
    assert line.get_ydata()[-1] == pytest.approx(0.1 + 0.02 * 19)
    edges = figure.axes[0].collections[0].get_paths()[0].vertices
    at_end = edges[edges[:, 0] == 38.0][:, 1]
    assert (at_end.min(), at_end.max()) == (pytest.approx(0.48 - 0.19), pytest.approx(0.48 + 0.19))


def test_bands_can_be_left_out(seeds):
    figure = draw(seeds, interval="none")
    assert not figure.axes[0].collections
    assert figure.legends[0].get_title().get_text() == "line: mean of 3 seeds"
    assert set(BANDS) == {"ci", "range", "std", "none"}


def test_single_runs_have_no_band_and_say_nothing_of_seeds(two):
    figure = draw(two)
    assert not figure.axes[0].collections
    assert figure.legends[0].get_title().get_text() in ("", "None")


@given(st.lists(st.integers(1, 50), min_size=2, max_size=12, unique=True), st.floats(1.0, 3.0))
def test_steps_keep_their_last_value(places, factor):
    first = np.sort(np.array(places, dtype=np.float64))
    values = np.arange(len(first), dtype=np.float64)
    grid, both = together([(first, values), (first * factor, values)], steps=True)
    assert set(np.unique(both)) <= set(values)
    assert (np.diff(both, axis=1) >= 0).all()
    assert (grid[0], grid[-1]) == (first[0] * factor, max(first[-1], first[0] * factor))


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_figures_have_the_width_of_a_journal_and_are_written_alike(small_sweep, tmp_path, suffix):
    found = groups.pooled(load([small_sweep]).runs)
    for number in (1, 2):
        with typeset(SIZES["column"]):
            figure = draw(found, size=SIZES["column"])
            write(figure, tmp_path / f"{number}.{suffix}")
    assert figure.get_figwidth() == 3.5
    assert figure.axes[0].xaxis.label.get_size() == SIZES["column"].text
    assert (tmp_path / f"1.{suffix}").read_bytes() == (tmp_path / f"2.{suffix}").read_bytes()


def test_long_labels_stay_within_the_figure(made_up, tmp_path):
    rates = '[training]\nlearning_rate = {}\nmomentum = {}\nbatch_size = {}\n[experiment2]\nwords = "{}"\n'
    folders = [
        made_up(
            f"r{n}", 0.02, config=rates.format(0.1 + n, 0.1 * n, 10 + n, "quite a long value " * 3 + str(n))
        )
        for n in range(8)
    ]
    with typeset(SIZES["column"]):
        figure = draw(groups.pooled(load(folders).runs), size=SIZES["column"])
        write(figure, tmp_path / "x.png")
        box = figure.legends[0].get_window_extent()
    assert box.x0 >= 0
    assert box.x1 <= figure.bbox.width
    panel = figure.axes[0].get_window_extent()
    assert panel.height > 0.9 * figure.dpi
    assert box.y1 < panel.y0


def test_quantities_of_real_runs_are_those_of_the_trace(small_sweep):
    run = load([small_sweep / "fab-s1"]).runs[0]
    rounds = read(small_sweep / "fab-s1").rounds
    figure = draw(groups.pooled([run]), ["bytes"], MEASURED)
    for panel, y in zip(figure.axes, MEASURED, strict=True):
        values = QUANTITIES[y][1](run.trace).dropna()
        assert panel.lines[0].get_ydata().tolist() == values.tolist()
    assert figure.axes[-1].lines[0].get_xdata()[-1] == rounds.bytes_up.sum() + rounds.bytes_down.sum()
    assert set(AXES) == {"time", "round", "bytes", "energy"}


def test_quantity_that_was_never_measured(made_up):
    with pytest.raises(AnalysisError, match="test accuracy was never measured"):
        draw(groups.pooled(load([made_up("empty", 0.04, rounds=0)]).runs))


def test_a_loss_that_is_no_number_was_measured_all_the_same(made_up):
    run = load([made_up("diverged", 0.04)]).runs[0]
    run.trace.rounds["test_loss"] = np.nan
    with pytest.raises(AnalysisError, match="test loss is not a number in any round, the model diverged"):
        draw(groups.pooled([run]), ys=["loss"])


@pytest.mark.parametrize("name", ["$x^$", "$a$ and $b_$", "2 $", "100 % _ # \\"])
def test_names_of_runs_are_shown_as_they_are(made_up, tmp_path, name):
    escaped = name.replace("\\", "\\\\")
    figure = draw(groups.pooled(load([made_up("a", 0.04, name=escaped), made_up("b", 0.02, name="b")]).runs))
    write(figure, tmp_path / "x.svg")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [name, "b"]
    assert not any(text.get_parse_math() for text in figure.legends[0].get_texts())


def test_labels_and_titles_that_are_given_may_hold_formulas(two, tmp_path):
    figure = draw(two, names=["$k^2$", r"2 \$"], title="$x_1$")
    write(figure, tmp_path / "x.svg")
    assert all(text.get_parse_math() for text in figure.legends[0].get_texts())
    for wrong in (draw(two, names=["$k^$", "b"]), draw(two, title="$k^$")):
        with pytest.raises(
            AnalysisError, match=r"x.svg: '\$k\^\$' has a formula .* that cannot be read; allowed: "
        ):
            write(wrong, tmp_path / "x.svg")
