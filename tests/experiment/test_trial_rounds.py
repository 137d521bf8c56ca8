"""Rounds that are tried: of any method, with fewer participants where there is no time, and without traces left."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from fedmpi.config import load
from fedmpi.experiment.main import EXPECTED
from fedmpi.experiment.trial_rounds import RoundTime, TrialRounds, try_rounds
from fedmpi.federation.distribution import read_data

MODELS = Path(__file__).parents[1] / "mpi"
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


def test_a_model_of_unknown_code_is_tried_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MODELS)
    found = tried(("model.name=stateful_model:make",), budget_s=0.0)
    assert min(found.few.train_s, found.evaluate_s) > 0.0


def test_without_time_a_few_participants_are_enough() -> None:
    found = tried((), budget_s=0.0)
    assert found.many == found.few
    assert found.few.participants == 2


def tried(overrides: tuple[str, ...], budget_s: float) -> TrialRounds:
    config = load("quickstart", [*SMALL, *overrides])
    return try_rounds(config, read_data(config), 5, budget_s, EXPECTED)


def test_rounds_of_other_numbers_of_participants_are_on_a_line() -> None:
    few, many = RoundTime(2, 1.0, 0.5), RoundTime(6, 5.0, 0.7)
    found = TrialRounds(0.0, few, many, 0.0, 0.0, 0.0)
    assert found.round_of(4) == RoundTime(4, 3.0, pytest.approx(0.6))
    assert found.round_of(10) == RoundTime(10, 9.0, pytest.approx(0.9))
    falling = TrialRounds(0.0, few, RoundTime(4, 0.25, 0.0), 0.0, 0.0, 0.0)
    assert falling.round_of(9) == RoundTime(9, 0.0, 0.0)


def test_of_one_number_of_participants_training_alone_grows_with_them() -> None:
    few = RoundTime(2, 1.0, 0.5)
    assert TrialRounds(0.0, few, few, 0.0, 0.0, 0.0).round_of(6) == RoundTime(6, 3.0, 0.5)
