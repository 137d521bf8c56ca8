"""Who is first at the points of a map, from tables of times whose answer is known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedmpi.analysis.runs import AnalysisError
from fedmpi.analysis.statistics import RESAMPLES, resampling
from fedmpi.analysis.winners import (
    ALONE,
    EQUAL,
    EXACT,
    FIRST,
    MISSING,
    NONE,
    TIMES,
    UNDECIDED,
    UNKNOWN,
    common_seeds,
    summary,
    winners,
)

NAN = float("nan")


def table(methods: dict[str, list[float]], uplink: float = 1.0, seeds: tuple[int, ...] = ()) -> pd.DataFrame:
    """One point: seconds of each seed by method."""
    rows = [
        (uplink, uplink, 1.0, method, (seeds or tuple(range(len(seconds))))[place], value, EXACT)
        for method, seconds in methods.items()
        for place, value in enumerate(seconds)
    ]
    return pd.DataFrame(rows, columns=list(TIMES))


def only(times: pd.DataFrame) -> dict[str, object]:
    (row,) = winners(times).to_dict("records")
    return row


def test_the_factor_is_the_ratio_of_geometric_means() -> None:
    row = only(table({"slow": [40.0, 90.0], "fast": [10.0, 10.0], "slower": [600.0, 600.0]}))
    assert (row["verdict"], row["first"], row["second"], row["seeds"]) == (FIRST, "fast", "slow", 2)
    assert row["factor"] == pytest.approx(6.0)
    assert (row["low"], row["high"]) == pytest.approx((4.0, 9.0))


def test_intervals_are_over_pairs_of_the_same_seed() -> None:
    """Seeds differ by a factor of 100, methods on each by 1.5: only pairs show it."""
    row = only(table({"a": [1.0, 10.0, 100.0], "b": [1.5, 15.0, 150.0]}))
    assert row["verdict"] == FIRST
    assert (row["low"], row["high"]) == pytest.approx((1.5, 1.5))


def test_an_interval_with_1_in_it_is_undecided() -> None:
    row = only(table({"a": [1.0, 1.0, 1.0], "b": [2.0, 2.0, 0.9]}))
    assert (row["verdict"], row["first"]) == (UNDECIDED, "a")
    assert row["low"] == pytest.approx(0.9)
    assert row["high"] == pytest.approx(2.0)


def test_a_third_method_that_may_be_better_counts() -> None:
    """The second takes 1.2 times as long on all seeds; the third is sometimes faster, if slower on the whole."""
    row = only(table({"a": [1.0, 1.0, 1.0], "b": [1.2, 1.2, 1.2], "c": [0.7, 4.0, 4.0]}))
    assert (row["verdict"], row["second"]) == (UNDECIDED, "b")
    assert row["low"] == pytest.approx(0.7)


def test_one_seed_has_no_interval() -> None:
    row = only(table({"a": [1.0], "b": [1.001]}))
    assert (row["verdict"], row["first"]) == (FIRST, "a")
    assert np.isnan([row["low"], row["high"]]).all()
    assert only(table({"a": [2.0], "b": [2.0]}))["verdict"] == UNDECIDED
    assert summary(table({"a": [1.0], "b": [2.0]}), winners(table({"a": [1.0], "b": [2.0]}))) == [
        "a: first at 1 of 1 points, by 2 to 2",
        "one seed: no intervals",
    ]


def test_a_method_counts_where_all_its_seeds_reach_the_target() -> None:
    row = only(table({"a": [1.0, NAN], "b": [5.0, 5.0], "c": [7.0, 7.0]}))
    assert (row["verdict"], row["first"], row["second"]) == (FIRST, "b", "c")
    row = only(table({"a": [1.0, NAN], "b": [5.0, 5.0]}))
    assert (row["verdict"], row["first"]) == (ALONE, "b")
    assert np.isnan(row["factor"])
    assert only(table({"a": [1.0, NAN], "b": [NAN, NAN]}))["verdict"] == NONE


def test_nothing_is_said_where_a_run_is_missing() -> None:
    times = pd.concat([table({"a": [1.0], "b": [2.0]}), table({"a": [1.0], "b": [2.0]}, uplink=2.0)])
    times.iloc[3, times.columns.get_loc("how")] = MISSING
    times.iloc[3, times.columns.get_loc("seconds")] = NAN
    assert list(winners(times).verdict) == [FIRST, UNKNOWN]
    assert "runs are missing at 1 of 2 points" in summary(times, winners(times))


def test_seeds_of_all_methods_are_compared_and_others_named() -> None:
    times = pd.concat(
        [table({"a": [1.0, 1.0, 50.0]}, seeds=(1, 2, 3)), table({"b": [2.0, 2.0]}, seeds=(2, 1))]
    )
    kept, remarks = common_seeds(times)
    assert sorted(kept.seed.unique()) == [1, 2]
    assert remarks == ["a: seed 3 left out, which others were not run with"]
    assert only(times)["factor"] == pytest.approx(2.0)
    with pytest.raises(AnalysisError, match="no seed in common"):
        winners(pd.concat([table({"a": [1.0]}, seeds=(1,)), table({"b": [1.0]}, seeds=(2,))]))


def test_times_must_be_above_0() -> None:
    with pytest.raises(AnalysisError, match="not above 0"):
        winners(table({"a": [0.0], "b": [1.0]}))


def test_resamples_weigh_whole_seeds() -> None:
    weights = resampling(4)
    assert weights.shape == (RESAMPLES, 4)
    np.testing.assert_allclose(weights.sum(axis=1), 1.0)
    np.testing.assert_allclose(weights.mean(axis=0), 0.25, atol=0.01)


seconds = st.floats(0.01, 1e6)


@given(
    st.lists(st.lists(seconds, min_size=3, max_size=3), min_size=2, max_size=4),
    st.floats(1e-3, 1e3),
    st.permutations(range(3)),
)
def test_units_and_the_order_of_seeds_and_methods_do_not_matter(
    rows: list[list[float]], unit: float, order: list[int]
) -> None:
    means = sorted(np.log(rows).mean(axis=1))
    assume(min(np.diff(means)) > 1e-6)  # of equal ones the table's first is first
    named = {f"m{place}": values for place, values in enumerate(rows)}
    row = only(table(named))
    scaled = {name: [value * unit for value in values] for name, values in reversed(list(named.items()))}
    other = only(table(scaled))
    for column in ("factor", "low", "high"):
        assert other[column] == pytest.approx(row[column], rel=1e-9)
    assert row["factor"] >= 1.0
    assert row["low"] <= row["high"]
    assert row["low"] <= row["factor"] * (1 + 1e-9)
    shuffled = table({name: [values[place] for place in order] for name, values in named.items()})
    assert only(shuffled)["factor"] == pytest.approx(row["factor"], rel=1e-9)
    assert row["verdict"] in (FIRST, UNDECIDED)
    assert (row["verdict"] == UNDECIDED) == (row["low"] <= EQUAL)


def test_methods_that_are_alike_on_all_seeds_are_undecided() -> None:
    row = only(table({"a": [1.0, 1.0], "b": [1.0, 1.0]}))
    assert (row["verdict"], row["factor"], row["low"], row["high"]) == (UNDECIDED, 1.0, 1.0, 1.0)


@pytest.mark.parametrize("seeds", [1, 3])
def test_methods_that_differ_by_less_than_a_ten_thousandth_are_undecided(seeds: int) -> None:
    for factor, verdict in ((1.000001, UNDECIDED), (1.00009, UNDECIDED), (1.00011, FIRST)):
        row = only(table({"a": [1.0] * seeds, "b": [factor] * seeds}))
        assert (row["verdict"], row["first"]) == (verdict, "a")
        assert row["factor"] == pytest.approx(factor)


def test_all_verdicts_are_counted() -> None:
    """Two points at which a is first, by 2 and by 3; one undecided, one where nobody gets there."""
    points = [
        {"a": [1.0, 1.0], "b": [2.0, 2.0]},
        {"a": [1.0, 1.0], "b": [3.0, 3.0]},
        {"a": [1.0, 1.0], "b": [2.0, 0.5]},
        {"a": [NAN, 1.0], "b": [NAN, NAN]},
        {"a": [1.0, NAN], "b": [4.0, 4.0]},
    ]
    times = pd.concat([table(each, uplink=float(number)) for number, each in enumerate(points)])
    assert summary(times, winners(times)) == [
        "a: first at 2 of 5 points, by 2 to 3",
        "b: first at 1 of 5 points",
        "undecided at 1 of 5 points",
        "no method reaches the target with all seeds at 1 of 5 points",
    ]


def test_several_seeds_that_are_left_out_are_named() -> None:
    times = pd.concat([table({"a": [1.0] * 4}, seeds=(1, 2, 3, 4)), table({"b": [2.0, 2.0]}, seeds=(2, 4))])
    assert common_seeds(times)[1] == ["a: seeds 1, 3 left out, which others were not run with"]
