"""Configurations of runs: which differ in what, and what they are called."""

from __future__ import annotations

from math import isnan, nan

from fedmpi.analysis.groups import Configuration, alike, betas, labels, same
from fedmpi.analysis.runs import Run, load

FAB = '[sparsification]\nmethod = "fab"\nk = 100\n'
SLOW = "[emulation.compute]\nspeed = 0.5\n"


def group_of(*runs: Run, name: str = "", extra: str = "") -> Configuration:
    return Configuration(name, extra, runs)


def run_of(folder) -> Run:
    return load([folder]).runs[0]


def test_configurations_are_alike_that_differ_in_what_is_named_alone(made_up) -> None:
    """And in their seeds, which are of no configuration."""
    dense, fab = run_of(made_up("a", 0.01, seed=1)), run_of(made_up("b", 0.01, seed=2, config=FAB))
    slow = run_of(made_up("c", 0.01, seed=3, config=FAB + SLOW))
    again = run_of(made_up("d", 0.01, seed=4))
    sparse, speed = ("sparsification.", "k_control."), ("emulation.compute.",)
    assert alike(group_of(dense), group_of(again), ())
    assert alike(group_of(dense), group_of(fab), sparse)
    assert not alike(group_of(dense), group_of(fab), ())
    assert not alike(group_of(dense), group_of(fab), speed)
    assert not alike(group_of(dense), group_of(slow), sparse)
    assert not alike(group_of(fab), group_of(slow), sparse)
    assert alike(group_of(fab), group_of(slow), speed)
    assert alike(group_of(slow), group_of(dense), (*sparse, *speed))


def test_labels_say_how_many_seeds_where_that_differs(made_up) -> None:
    runs = [run_of(made_up(f"r{seed}", 0.01, seed=seed)) for seed in range(3)]
    stopped = run_of(made_up("s", 0.01, seed=3, status="preempted"))
    two = [group_of(*runs[:2], name="fab", extra="k = 5"), group_of(runs[2], stopped, name="dense")]
    assert labels(two) == ["fab, k = 5", "dense"]
    assert labels([*two, group_of(stopped, name="dense")]) == [
        "fab, k = 5 (2 seeds)",
        "dense (2 seeds)",
        "dense [preempted] (1 seed)",
    ]
    assert labels([group_of(stopped, extra="k = 5")]) == ["k = 5 [preempted]"]
    assert labels([]) == []


def test_betas_rise_and_that_of_no_normalized_time_is_last(made_up) -> None:
    normalized = '[emulation.compute]\nmodel = "normalized"\nbeta = {}\n'
    runs = [
        run_of(made_up(f"r{place}", 0.01, config=config))
        for place, config in enumerate(("", normalized.format(10.0), normalized.format(0.5), ""))
    ]
    found = betas([*runs, runs[1]])
    assert found[:2] == [0.5, 10.0]
    assert len(found) == 3
    assert isnan(found[2])
    assert betas(runs[1:2]) == [10.0]


def test_an_unknown_beta_is_the_same_as_another_unknown_one() -> None:
    assert same(nan, nan)
    assert same(1.0, 1.0)
    assert not same(1.0, nan)
    assert not same(nan, 1.0)
    assert not same(1.0, 2.0)
