"""Nothing in the results depends on placement: 1, 2, 3 and 9 ranks give the same trace bit by bit."""

from pathlib import Path

import pytest
from experiments import METHODS, assert_same_trace, write_config

from fedmpi import trace


@pytest.mark.parametrize("method", METHODS)
def test_trace_does_not_depend_on_placement(launch, tmp_path: Path, method: str) -> None:
    config = write_config(tmp_path, method)
    placements = {
        "1": (1, ""),
        "2": (2, ""),
        "3": (3, ""),
        "9": (9, ""),
        "3-server-trains": (3, "placement.server_trains=true"),
    }
    for name, (ranks, override) in placements.items():
        extra = [override] if override else []
        launch(ranks, "-m", "fedmpi", "run", config, *extra, "--output", tmp_path / name, "--quiet")
    one = trace.read(tmp_path / "1")
    assert len(one.rounds) == 6
    assert one.attributes["status"] == "completed"
    assert (one.rounds["participants"] == 5).all()
    assert one.rounds["test_accuracy"].notna().sum() == 3
    for name in placements:
        assert_same_trace(tmp_path / "1", tmp_path / name)
