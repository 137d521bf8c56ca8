"""Times to an accuracy on other links, from traces alone: those of traces that were retimed and of real reruns."""

from __future__ import annotations

from dataclasses import replace
from math import isnan
from pathlib import Path

import pytest

import fedmpi
from fedmpi.config import ConfigError, loads
from fedmpi.experiment.retiming import opened, prepare, retimings_of, write
from fedmpi.experiment.time_to_target import rounds_to, seconds_to
from fedmpi.sweeps.points import Point, at
from fedmpi.trace import read

POINTS = [Point(0.03, 0.3, 1.0), Point(0.03, 0.3, 5.0), Point(2.0, 20.0, 1.0)]


def recorded_time(folder: Path, target: float) -> float:
    rounds = read(folder).rounds
    return float(rounds.end_s[rounds.test_accuracy >= target].iloc[0])


def overrides(point: Point) -> list[str]:
    return [
        f"emulation.network.uplink_mbit_per_s={point.uplink}",
        f"emulation.network.downlink_mbit_per_s={point.downlink}",
        f"emulation.compute.speed={point.speed}",
    ]


@pytest.mark.parametrize("name", ["dense-s1", "fab-s2"])
def test_they_are_those_of_retimed_traces(small_sweep: Path, tmp_path: Path, name: str) -> None:
    source = opened(small_sweep / name)
    accuracies = read(small_sweep / name).rounds.test_accuracy.dropna()
    target = float(accuracies.iloc[1])
    found = seconds_to(source, target, [at(source.before, point) for point in POINTS])
    for point, seconds in zip(POINTS, found, strict=True):
        folder = tmp_path / point.name
        folder.mkdir()
        write(prepare(small_sweep / name, overrides(point)), folder)
        assert seconds == recorded_time(folder, target)
    assert len(set(found)) == len(POINTS)


def test_they_are_those_of_a_real_rerun(small_sweep: Path, tmp_path: Path) -> None:
    source = opened(small_sweep / "fab-s1")
    target = float(read(small_sweep / "fab-s1").rounds.test_accuracy.max())
    config = at(source.before, POINTS[1])
    fedmpi.run(config, output=tmp_path / "again", quiet=True)
    assert seconds_to(source, target, [config]) == [recorded_time(tmp_path / "again", target)]


def test_all_that_is_checked_of_the_first_holds_for_others(small_sweep: Path) -> None:
    """Configurations that differ in links alone are not checked anew, all others are."""
    source = opened(small_sweep / "dense-s1")
    first, second = (at(source.before, point) for point in POINTS[:2])
    once = [each.config for each in retimings_of(source, [first, second])]
    assert once == [first, second]
    wrong = replace(second, training=replace(second.training, batch_size=3))
    with pytest.raises(ConfigError, match="retiming keeps what was learned"):
        seconds_to(source, 0.01, [first, wrong])
    network = replace(second.emulation.network, latency_s=-1.0)
    wrong = replace(second, emulation=replace(second.emulation, network=network))
    with pytest.raises(ConfigError, match="latency_s"):
        seconds_to(source, 0.01, [first, wrong])


def test_only_rounds_up_to_the_target_are_charged(small_sweep: Path) -> None:
    recorded = opened(small_sweep / "dense-s1").recorded
    evaluated = read(small_sweep / "dense-s1").rounds.test_accuracy
    first = evaluated.dropna().index[0]
    assert rounds_to(recorded, float(evaluated[first])) == first + 1
    part = recorded.first(int(first) + 1)
    assert len(part.rounds) == len(part.mask_of) == first + 1
    assert part.bounds.tolist() == recorded.bounds[: first + 2].tolist()
    assert len(part.clients) == part.bounds[-1]
    assert rounds_to(recorded, 1.0) is None


def test_what_is_not_reached_is_nan_and_what_ended_early_is_refused(
    small_sweep: Path, tmp_path: Path
) -> None:
    source = opened(small_sweep / "dense-s1")
    assert isnan(seconds_to(source, 1.0, [source.before])[0])
    early = tmp_path / "early"
    text = (small_sweep / "dense-s1" / "config.toml").read_text()
    fedmpi.run(loads(text, ["experiment.stop_at_accuracy=0.05"]), output=early, quiet=True)
    with pytest.raises(ConfigError, match=r"was to stop at the accuracy 0\.05, before 1"):
        seconds_to(opened(early), 1.0, [source.before])
