"""Nothing in the results depends on placement: 1, 2, 3 and 9 ranks give the same trace bit by bit."""

from pathlib import Path

import pytest
from experiments import METHODS, assert_same_trace, write_config

from fedmpi import trace

PLACEMENTS = {
    "1": (1, []),
    "2": (2, []),
    "3": (3, []),
    "9": (9, []),
    "3-server-trains": (3, ["placement.server_trains=true"]),
}
"""Ranks and overrides."""


@pytest.fixture(scope="module")
def runs(launch_all, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each of METHODS, with a run of each of PLACEMENTS."""
    folder = tmp_path_factory.mktemp("placements")
    configs = {method: write_config(folder, method) for method in METHODS}
    for name, (ranks, more) in PLACEMENTS.items():
        into = ["--quiet", "--output"]
        launch_all(ranks, (["run", configs[m], *more, *into, folder / m / name] for m in METHODS))
    return folder


@pytest.mark.parametrize("method", METHODS)
def test_trace_does_not_depend_on_placement(runs: Path, method: str) -> None:
    one = trace.read(runs / method / "1")
    assert len(one.rounds) == 6
    assert one.attributes["status"] == "completed"
    assert (one.rounds["participants"] == 5).all()
    assert one.rounds["test_accuracy"].notna().sum() == 3
    for name in PLACEMENTS:
        assert_same_trace(runs / method / "1", runs / method / name)
