"""Rounds that are tried: of any method, with fewer participants where there is no time, and without traces left."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fedmpi.config import load
from fedmpi.experiment.main import EXPECTED
from fedmpi.experiment.trial_rounds import TrialRounds, try_rounds
from fedmpi.federation.distribution import read_data

SMALL = ("experiment.rounds=2", "clients.per_round=5", "experiment.stop_at_accuracy=0.01")


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("clients.state=disk",),
        ("sparsification.method=fedavg", "k_control.method=fixed", "sparsification.k_fraction=0.5"),
        ("sparsification.method=dense", "k_control.method=fixed", "pruning.method=prunefl"),
        ("federation.over_selection=0.5", "federation.min_updates=4", "emulation.clock=realtime"),
        ("experiment.evaluate_clients=true", "data.client_test_fraction=0.2"),
    ],
)
def test_rounds_of_any_experiment_are_tried(
    overrides: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    found = tried(overrides, budget_s=0.5)
    assert found.few.participants == 2
    assert found.many.participants == 5
    assert min(found.few.train_s, found.many.other_s, found.evaluate_s, found.checkpoint_s) > 0.0
    assert (found.reconfigure_s > 0.0) <= ("pruning.method=prunefl" in overrides)
    assert not list(tmp_path.iterdir())


def test_without_time_a_few_participants_are_enough() -> None:
    found = tried((), budget_s=0.0)
    assert found.many == found.few
    assert found.few.participants == 2


def tried(overrides: tuple[str, ...], budget_s: float) -> TrialRounds:
    config = load("quickstart", [*SMALL, *overrides])
    return try_rounds(config, read_data(config), 5, budget_s, EXPECTED)
