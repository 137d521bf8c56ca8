"""The estimate of host time: rounds that were measured on one rank, dealt to the ranks of a run."""

from __future__ import annotations

import re

import pytest

from fedmpi.cli import host_time
from fedmpi.cli import main as cli
from fedmpi.cli.host_time import HostTime, as_limit
from fedmpi.config import Config, load
from fedmpi.experiment.trial_rounds import RoundTime, TrialRounds

TRIAL = TrialRounds(
    assemble_s=2.0,
    few=RoundTime(2, train_s=0.2, other_s=0.01),
    many=RoundTime(8, train_s=0.8, other_s=0.04),
    evaluate_s=0.3,
    reconfigure_s=0.5,
    checkpoint_s=0.25,
)
TEN = ("experiment.rounds=10", "experiment.evaluate_every=5")


def of(
    ranks: int, cores: int, *overrides: str, participants: int = 8, trial: TrialRounds = TRIAL
) -> HostTime:
    config: Config = load("quickstart", [*TEN, *overrides])
    return host_time.host_time(config, trial, participants, 1.5, ranks, cores)


@pytest.fixture(autouse=True)
def free_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collective calls and launchers take no time."""
    monkeypatch.setattr(host_time, "_COLLECTIVE_S", 0.0)
    monkeypatch.setattr(host_time, "_LAUNCH_S", 0.0)


def test_one_rank_does_everything() -> None:
    found = of(1, 8)
    assert (found.start_s, found.evaluate_s) == (3.5, 0.3)
    assert found.train_s == pytest.approx(0.8)
    assert found.round_s == pytest.approx(0.84)
    assert found.whole_s == pytest.approx(3.5 + 10 * 0.84 + 2 * 0.3 + 0.25)


def test_ranks_share_training_and_evaluation_and_cores() -> None:
    assert of(3, 8).train_s == pytest.approx(0.4)
    assert of(3, 8).evaluate_s == pytest.approx(0.1)
    assert of(4, 8).train_s == pytest.approx(0.3)  # the busiest of three ranks has three of eight
    assert of(9, 16).train_s == pytest.approx(0.1)
    assert of(9, 2).train_s == pytest.approx(0.4)  # eight ranks train in turn on two cores
    assert of(9, 2).evaluate_s == pytest.approx(0.15)
    assert of(3, 8, "placement.threads_per_rank=4").train_s == pytest.approx(0.4)
    assert of(3, 4, "placement.threads_per_rank=4").train_s == pytest.approx(0.8)
    assert of(2, 8, "placement.server_trains=true").train_s == pytest.approx(0.4)
    assert of(9, 2).start_s == pytest.approx(2.0 + 1.5)
    config = load("quickstart", [*TEN])
    alone = host_time.host_time(config, TRIAL, 8, 1.5, 9, 2, forked=False)
    assert alone.start_s == pytest.approx(2.0 + 1.5 * 4.5)  # nine imports on two cores
    assert of(9, 16).round_s - of(9, 16).train_s == pytest.approx(0.04)


def test_checkpoints_and_reconfigurations_are_counted() -> None:
    usual = of(1, 1).whole_s
    assert of(1, 1, "experiment.checkpoint_every=4").whole_s - usual == pytest.approx(2 * 0.25)
    assert of(1, 1, "experiment.checkpoint_every=5").whole_s - usual == pytest.approx(0.25)
    assert of(1, 1, "pruning.reconfigure_every=3").whole_s - usual == pytest.approx(3 * 0.5)


def test_collective_calls_grow_with_the_logarithm_of_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_time, "_COLLECTIVE_S", 1.0)
    monkeypatch.setattr(host_time, "_COLLECTIVES", 3)
    assert of(1, 8).round_s == pytest.approx(0.84)
    assert of(4, 8).round_s == pytest.approx(0.34 + 6.0)
    assert of(8, 8).round_s - of(8, 8).train_s == pytest.approx(0.04 + 9.0)


def test_rounds_of_any_number_of_participants_lie_on_a_line() -> None:
    assert TRIAL.round_of(5) == RoundTime(5, pytest.approx(0.5), pytest.approx(0.025))
    assert TRIAL.round_of(100) == RoundTime(100, pytest.approx(10.0), pytest.approx(0.5))
    alone = TrialRounds(0.0, TRIAL.few, TRIAL.few, 0.0, 0.0, 0.0)
    assert alone.round_of(4) == RoundTime(4, pytest.approx(0.4), 0.01)


def test_a_limit_has_a_margin() -> None:
    assert HostTime(0, 0, 0, 0, whole_s=1.0).limit_s == 600
    assert HostTime(0, 0, 0, 0, whole_s=200.0).limit_s == 600
    assert HostTime(0, 0, 0, 0, whole_s=200.1).limit_s == 900


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(300, "00:05:00"), (3_661, "01:01:01"), (86_400, "1-00:00:00"), (90_061.4, "1-01:01:01")],
)
def test_limits_are_written_as_slurm_takes_them(seconds: float, text: str) -> None:
    assert as_limit(seconds) == text


def test_check_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["quickstart", "experiment.rounds=40", "clients.per_round=5"]
    assert cli.main(["check", *small, "--ranks", "3", "--nodes", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    (at,) = (number for number, line in enumerate(lines) if line.startswith("# host time on 3 ranks with "))
    assert "  start-up " in lines[at + 1]
    assert re.search(r"^#   whole run .+; with a margin --time=\d\d:\d[05]:00$", lines[at + 2])
    assert cli.main(["check", *small, "clients.count=3", "clients.per_round=0", "model.name=none:no"]) == 2


def test_what_cannot_be_tried_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*arguments: object) -> TrialRounds:
        raise host_time.Refused("no room", 1)

    monkeypatch.setattr(host_time, "try_rounds", refuse)
    assert cli.main(["check", "quickstart"]) == 0
    assert "# host time: not known, as rounds could not be tried here: no room" in capsys.readouterr().out
    assert cli.main(["check", "quickstart", "--brief"]) == 0
    assert "not known: no room" in capsys.readouterr().out
