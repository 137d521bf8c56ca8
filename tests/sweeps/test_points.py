"""Points of a map: grids, names, configurations there, and the sweep of the runs that must be made."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import ConfigError, loads, tables
from fedmpi.config.ranges import RATE
from fedmpi.config.write import flat
from fedmpi.sweeps import plan
from fedmpi.sweeps.points import (
    Downlink,
    Point,
    at,
    downlink,
    folder_names,
    grid_values,
    same_but_ends,
    write_sweep,
)

BASE = """
[experiment]
name = "mine"
rounds = 7
[data]
dataset = "digits"
[emulation.compute]
model = "linear"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
speed = 2.0
[emulation.network]
uplink_mbit_per_s = 2.0
downlink_mbit_per_s = 8.0
latency_s = 0.02
"""


def test_a_grid_is_evenly_spaced_by_ratio() -> None:
    assert grid_values("0.1:100:7", "--uplink") == (0.1, 0.3162, 1.0, 3.162, 10.0, 31.62, 100.0)
    assert grid_values("5:5:1", "--uplink") == (5.0,)
    assert grid_values("10,1,2.5", "--uplink") == (1.0, 2.5, 10.0)


@pytest.mark.parametrize(
    "text",
    [
        *("", "a", "1:2", "1:2:3:4", "2:1:3", "0:1:3", "-1,2", "1,1", "1:1.0001:9", "1:2:1", "1:1:2"),
        *("1:2:201", "nan", "inf", "1:2:2.5", "1e9"),
    ],
)
def test_what_is_no_grid_is_refused_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match=r"--uplink: found .*allowed: FROM:TO:COUNT"):
        grid_values(text, "--uplink", RATE)


@given(st.floats(0.01, 100), st.floats(1.5, 1000), st.integers(2, 30))
def test_grids_rise_from_end_to_end_and_name_their_points(low: float, ratio: float, count: int) -> None:
    low = float(f"{low:.4g}")
    high = float(f"{low * ratio:.4g}")
    values = grid_values(f"{low!r}:{high!r}:{count}", "--uplink")
    assert (values[0], values[-1], len(values)) == (low, high, count)
    assert all(first < second for first, second in pairwise(values))
    for value in values:
        assert Point(value, value, 1.0).name.split("-")[0] == f"u{value:g}"


@pytest.mark.parametrize(
    ("text", "links", "at_3"),
    [
        (None, [], 12.0),
        (None, ["emulation.network.downlink_mbit_per_s=inf"], inf),
        (None, ["emulation.network.uplink_mbit_per_s=inf", "emulation.network.downlink_mbit_per_s=inf"], 3.0),
        (None, ['emulation.network.uplink_mbit_per_s="device"'], 3.0),
        (
            None,
            ["emulation.network.downlink_mbit_per_s=inf", "emulation.network.downlink_trace=some.down"],
            3.0,
        ),
        (None, ["emulation.network.uplink_mbit_per_s=[1.0, 2.0]"], 3.0),
        ("20", [], 20.0),
        ("inf", [], inf),
        ("2.5x", [], 7.5),
    ],
)
def test_the_downlink_of_a_point(text: str | None, links: list[str], at_3: float) -> None:
    assert downlink(text, [loads(BASE, links)]).of(3.0) == at_3


@pytest.mark.parametrize("text", ["", "x", "0", "-1", "fast", "0x", "infx"])
def test_what_is_no_downlink_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--downlink: found"):
        downlink(text, [loads(BASE)])


def test_runs_of_different_ratios_need_a_downlink() -> None:
    runs = [loads(BASE), loads(BASE, ["emulation.network.downlink_mbit_per_s=2"])]
    with pytest.raises(ConfigError, match="4 times the uplink and as fast as the uplink"):
        downlink(None, runs)
    assert downlink("4x", runs) == Downlink(ratio=4.0)


def test_a_point_changes_links_and_speed_and_nothing_else() -> None:
    config = loads(BASE)
    there = at(config, Point(0.5, 3.0, 4.0))
    before, after = flat(tables(config)), flat(tables(there))
    changed = {key: after[key] for key in after if after[key] != before[key]}
    assert changed == {
        "emulation.compute.speed": 8.0,
        "emulation.network.uplink_mbit_per_s": 0.5,
        "emulation.network.downlink_mbit_per_s": 3.0,
    }


def test_traces_of_links_and_the_real_time_clock_give_way() -> None:
    config = loads(
        BASE,
        [
            *("emulation.network.uplink_mbit_per_s=inf", "emulation.network.uplink_trace=some.up"),
            *("emulation.network.trace_start=random", "emulation.clock=realtime", "emulation.time_scale=0.1"),
        ],
    )
    assert at(config, Point(0.5, 3.0, 1.0)) == at(loads(BASE), Point(0.5, 3.0, 1.0))


def test_a_model_without_links_has_no_map() -> None:
    with pytest.raises(ConfigError, match="which knows no links"):
        at(loads('[emulation.compute]\nmodel = "normalized"'), Point(1.0, 1.0, 1.0))


def test_runs_are_the_same_but_for_their_ends_and_names() -> None:
    config = loads(BASE)
    other = loads(BASE, ["experiment.name=other", "experiment.rounds=9", "experiment.stop_at_accuracy=0.5"])
    assert same_but_ends(config, other)
    for change in ("experiment.seed=2", "training.batch_size=3", "emulation.network.latency_s=0.03"):
        assert not same_but_ends(config, loads(BASE, [change]))


def test_labels_become_names_of_folders() -> None:
    assert folder_names(["fab", "fab, k = 10", "fab k=10", "???", "a" * 99]) == [
        "fab",
        "fab-k-10",
        "fab-k-10-no2",
        "method",
        "a" * 60,
    ]


def test_the_sweep_of_a_map_has_its_runs(tmp_path: Path) -> None:
    base = loads(BASE)
    configs = {
        f"m{number}-{point.name}": [
            at(replace(base, experiment=replace(base.experiment, seed=seed)), point) for seed in seeds
        ]
        for number, seeds in ((1, (1, 2)), (2, (5,)))
        for point in (Point(0.5, 3.0, 4.0), Point(1.0, 3.0, 4.0))
    }
    path = tmp_path / "sub" / "deeper" / "runs.toml"
    write_sweep(path, configs, 0.625)
    sweep = plan(str(path))
    expected = {
        f"{name}-s{config.experiment.seed}": config for name, several in configs.items() for config in several
    }
    assert {run.name for run in sweep.runs} == set(expected)
    for run in sweep.runs:
        assert run.config.experiment.stop_at_accuracy == 0.625
        assert run.config.experiment.name == run.name.rpartition("-s")[0]
        assert same_but_ends(run.config, expected[run.name])
        assert run.config.experiment.rounds == 7
        assert run.config.experiment.seed == expected[run.name].experiment.seed


def test_a_grid_has_up_to_200_values() -> None:
    assert len(grid_values("1:1000:200", "--uplink")) == 200
    with pytest.raises(ConfigError, match="at most 200 different ones"):
        grid_values("1:1:0", "--uplink")


@pytest.mark.parametrize(
    ("given_downlink", "text"),
    [
        (Downlink(), "as fast as the uplink"),
        (Downlink(ratio=2.5), "2.5 times the uplink"),
        (Downlink(fixed=20.0), "20 Mbit/s"),
        (Downlink(fixed=inf), "unlimited"),
    ],
)
def test_a_downlink_in_words(given_downlink: Downlink, text: str) -> None:
    assert given_downlink.text == text


def test_the_ratio_of_links_is_rounded_to_four_digits() -> None:
    links = ["emulation.network.uplink_mbit_per_s=3", "emulation.network.downlink_mbit_per_s=10"]
    assert downlink(None, [loads(BASE, links)]) == Downlink(ratio=3.333)


def test_bins_of_traces_are_those_of_a_run_without() -> None:
    traced = ["emulation.network.uplink_mbit_per_s=inf", "emulation.network.uplink_trace=some.up"]
    given_bins = loads(BASE, [*traced, "emulation.network.trace_bin_s=2.0"])
    assert at(given_bins, Point(0.5, 3.0, 1.0)) == at(loads(BASE), Point(0.5, 3.0, 1.0))
