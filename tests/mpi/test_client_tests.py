"""What clients find on their own test samples does not depend on placement, nor on a resume."""

from pathlib import Path

import pytest
from experiments import assert_same_trace, write_config

from fedmpi import trace


@pytest.mark.parametrize("partition", ["dirichlet", "case3"])
def test_tests_at_clients_do_not_depend_on_placement(launch, tmp_path: Path, partition: str) -> None:
    given = [
        *(write_config(tmp_path, "fab_adaptive"), "experiment.evaluate_clients=true"),
        *("data.client_test_fraction=0.2", "training.evaluation_batch_size=7", f"data.partition={partition}"),
    ]
    for ranks in (1, 2, 3):
        launch(ranks, "-m", "fedmpi", "run", *given, "--output", tmp_path / str(ranks), "--quiet")
    one = trace.read(tmp_path / "1")
    assert one.client_tests["round"].tolist() == [1] * 8 + [3] * 8 + [5] * 8
    assert one.client_tests["accuracy"].notna().all()
    assert one.client_tests["accuracy"].nunique() > (1 if partition == "case3" else 8)
    for ranks in (2, 3):
        assert_same_trace(tmp_path / "1", tmp_path / str(ranks))
    short = ["experiment.rounds=4", "--output", tmp_path / "resumed", "--quiet"]
    launch(3, "-m", "fedmpi", "run", *given, *short)
    launch(2, "-m", "fedmpi", "run", *given, "--resume", *short[1:])
    tables = ("devices", "rounds", "clients", "client_tests", "layers")
    assert_same_trace(tmp_path / "1", tmp_path / "resumed", tables)
