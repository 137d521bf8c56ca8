"""Which moments a run in real time waits for, and what it records of those that it misses, under a clock of our own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from fedmpi import trace
from fedmpi.cli import main as cli
from fedmpi.experiment import main as experiment

LATE_S = 2.5
"""More than the models are on the way."""


class RecordingClock:
    """Emulated time is where the last wait ended; every wait for one of ``missed`` ends late."""

    runs = True

    def __init__(self) -> None:
        self.waited: list[float] = []
        self.missed: set[int] = set()

    def now_s(self) -> float:
        return self.waited[-1]

    def hold_until(self, emulated_s: float) -> float:
        self.waited.append(emulated_s)
        return LATE_S if len(self.waited) - 1 in self.missed else 0.0


@pytest.fixture
def clock(monkeypatch) -> RecordingClock:
    clock = RecordingClock()
    monkeypatch.setattr(experiment, "make_clock", lambda *_: clock)
    return clock


def run(tmp_path, *overrides: str) -> trace.Trace:
    given = ["experiment.rounds=2", "emulation.network.jitter_s=0.3", *overrides]
    assert cli.main(["run", "quickstart", *given, "--output", str(tmp_path / "run"), "--quiet"]) == 0
    return trace.read(tmp_path / "run")


def test_the_start_every_update_and_all_losses_have_their_moments(tmp_path, clock, capsys):
    recorded = run(tmp_path)
    assert len(clock.waited) == 2 * (1 + 8 + 8) + 1
    for round_index in range(2):
        start, *moments = clock.waited[17 * round_index : 17 * round_index + 17]
        updates, losses = moments[:8], moments[8:]
        row = recorded.rounds.iloc[round_index]
        assert start == row["start_s"]
        assert updates == sorted(updates)
        assert losses == sorted(losses)
        assert len(set(updates)) == len(set(losses)) == 8
        assert start < updates[0]
        assert updates[-1] < losses[0]
        assert losses[-1] == pytest.approx(row["end_s"])
    assert (recorded.clients["overrun_s"] == 0.0).all()
    clients = recorded.clients.merge(recorded.rounds[["round", "start_s"]], on="round")
    assert (clients["released_s"] > clients["start_s"]).all()
    for round_index, released_s in clients.groupby("round")["released_s"]:
        assert sorted(released_s) == clock.waited[17 * round_index + 1 : 17 * round_index + 9]
    assert recorded.events["kind"].tolist() == ["stop"]
    assert not capsys.readouterr().err


@pytest.mark.parametrize("missed", [17 + 1 + 3, 17 + 9 + 3])
def test_a_late_update_or_loss_is_recorded(tmp_path, clock, capsys, missed):
    clock.missed = {missed}
    recorded = run(tmp_path)
    overrun_s = recorded.clients.groupby("round")["overrun_s"].apply(list)
    assert overrun_s[0] == [0.0] * 8
    assert sorted(overrun_s[1]) == [0.0] * 7 + [LATE_S]
    event = recorded.events[recorded.events["kind"] == "overrun"]
    assert event["round"].tolist() == [1]
    facts = json.loads(event["details"].iloc[0])
    assert (facts["late"], facts["of"], facts["worst_host_s"]) == (1, 8, LATE_S)
    assert facts["start_overrun_host_s"] == 0.0
    said = "1 of 8 participants got or sent a message too late, the worst by 2.5 s of host time"
    assert event["detail"].tolist() == [said]
    assert capsys.readouterr().err.startswith("fedmpi: warning: emulation was not honoured in round 1: ")


def test_after_a_late_start_models_are_late_by_what_they_are_not_on_the_way(tmp_path, clock, capsys):
    clock.missed = {17}
    recorded = run(tmp_path)
    second = recorded.clients[recorded.clients["round"] == 1]
    assert (recorded.clients.loc[recorded.clients["round"] == 0, "overrun_s"] == 0.0).all()
    np.testing.assert_allclose(second["overrun_s"], LATE_S - second["download_s"])
    assert second["overrun_s"].nunique() == 8
    event = recorded.events[recorded.events["kind"] == "overrun"]
    facts = json.loads(event["details"].iloc[0])
    assert (facts["late"], facts["of"]) == (8, 8)
    assert facts["worst_host_s"] == second["overrun_s"].max()
    assert facts["start_overrun_host_s"] == LATE_S
    assert event["detail"].iloc[0].endswith("; the round started 2.5 s late")
    assert capsys.readouterr().err.startswith("fedmpi: warning: emulation was not honoured in round 1: ")


def test_a_start_that_is_late_by_less_than_models_are_on_the_way_is_none(
    tmp_path, clock, monkeypatch, capsys
):
    monkeypatch.setitem(globals(), "LATE_S", 0.04)
    clock.missed = {17}
    recorded = run(tmp_path)
    assert (recorded.clients["download_s"] > 0.04).all()
    assert (recorded.clients["overrun_s"] == 0.0).all()
    assert recorded.events["kind"].tolist() == ["stop"]
    assert not capsys.readouterr().err


def test_a_message_that_is_late_is_that_of_its_client(tmp_path, clock):
    recorded = run(tmp_path, "k_control.method=fixed", "sparsification.k=50")
    arrival_s = np.array(clock.waited[1:9])
    assert len(clock.waited) == 2 * 9 + 1
    clients = recorded.clients[recorded.clients["round"] == 0]
    expected_s = clients["download_s"] + clients["compute_s"] + clients["upload_s"]
    order = clients["client"].to_numpy()[np.argsort(expected_s)]
    np.testing.assert_allclose(arrival_s, np.sort(expected_s))
    np.testing.assert_allclose(clients["released_s"], expected_s)
    clock.waited, clock.missed = [], {1 + 5}
    assert (
        cli.main(
            [
                "run",
                "quickstart",
                "experiment.rounds=2",
                "emulation.network.jitter_s=0.3",
                "k_control.method=fixed",
                "sparsification.k=50",
                "--output",
                str(tmp_path / "again"),
                "--quiet",
            ]
        )
        == 0
    )
    again = trace.read(tmp_path / "again").clients
    assert again.loc[again["overrun_s"] > 0.0, "client"].tolist() == [order[5]]
