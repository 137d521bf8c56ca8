"""Initial pruning in runs of one rank: the device and its link are charged, and the trace tells of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fedmpi import trace
from fedmpi.cli import main as cli
from fedmpi.federation.initial_pruning.training import InitialTraining
from fedmpi.sparsification.wire import mask_bytes

CONFIG = """
[experiment]
seed = 5
rounds = 3
[clients]
count = 8
per_round = 5
[data]
dataset = "digits"
partition = "dirichlet"
alpha = 1.0
[model]
name = "mlp"
hidden = [16]
[training]
local_steps = 3
batch_size = 16
learning_rate = 0.2
[pruning]
method = "prunefl"
reconfigure_every = 2
[pruning.initial]
where = "client"
client = 3
[emulation.compute]
model = "linear"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
[emulation.network]
uplink_mbit_per_s = {distribution = "lognormal", median = 2.0, sigma = 0.5}
downlink_mbit_per_s = 8.0
latency_s = 0.02
server_ingress_mbit_per_s = 6.0
"""
NORMALIZED = """
from torch import nn

def net(input_shape, classes):
    layers = nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, classes)
    return nn.Sequential(nn.Flatten(), *layers)
"""
AT_SERVER = ["pruning.initial.where=server", "pruning.initial.charged=false", "pruning.initial.client=0"]
PRUNABLE, OTHERS = 64 * 16 + 16 * 10, 16 + 10
Run = Callable[..., trace.Trace]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    config = tmp_path_factory.mktemp("config") / "base.toml"
    config.write_text(CONFIG, encoding="utf-8")

    def start(*overrides: str, output: Path | None = None, resume: bool = False) -> trace.Trace:
        folder = output or tmp_path_factory.mktemp("run") / "run"
        options = ["--output", str(folder), "--quiet", *(["--resume"] if resume else [])]
        assert cli.main(["run", str(config), *overrides, *options]) == 0
        return trace.read(folder)

    return start


@pytest.fixture(scope="module")
def at_client(run: Run) -> trace.Trace:
    return run()


def test_local_rounds_come_before_round_0(at_client: trace.Trace) -> None:
    rounds = at_client.rounds
    before = rounds[rounds["phase"] == "initial_pruning"]
    assert before["round"].tolist() == list(range(-len(before), 0))
    assert rounds["round"].tolist() == list(range(-len(before), 3))
    assert at_client.attributes["committed_rounds"] == len(rounds)
    assert (before[["participants", "dropped", "k", "k_probe", "k_down"]] == [1, 0, 0, 0, 0]).all(axis=None)
    assert before[["test_loss", "test_accuracy"]].isna().all(axis=None)
    assert before["train_loss"].iloc[-50:].mean() < before["train_loss"].iloc[:50].mean()
    assert (before["learning_rate"] == 0.2).all()


def test_time_goes_on_without_a_gap(at_client: trace.Trace) -> None:
    rounds = at_client.rounds
    assert rounds["start_s"].iloc[0] == 0.0
    assert (rounds["start_s"].iloc[1:].to_numpy() == rounds["end_s"].iloc[:-1].to_numpy()).all()
    clients = at_client.clients[at_client.clients["round"] < 0].reset_index(drop=True)
    assert (clients["client"] == 3).all()
    lasted = (rounds["end_s"] - rounds["start_s"])[: len(clients)]
    whole = clients[["download_s", "compute_s", "upload_s", "wait_s"]].sum(axis=1)
    assert whole.to_numpy() == pytest.approx(lasted.to_numpy(), abs=1e-9)


def test_model_comes_down_first_and_mask_and_values_go_up_last(at_client: trace.Trace) -> None:
    """A model of density 0.9 and less travels as values; the mask goes as bits, being denser than 1/32."""
    clients = at_client.clients[at_client.clients["round"] < 0]
    first, last = clients.iloc[0], clients.iloc[-1]
    active = int(at_client.rounds.set_index("round")["active_parameters"][0])
    assert active < 0.9 * PRUNABLE
    assert first["bytes_down"] == 16 + 4 * (PRUNABLE + OTHERS)
    assert last["bytes_up"] == 16 + mask_bytes(PRUNABLE) + 16 + 4 * active
    assert (clients["bytes_down"].iloc[1:] == 0).all()
    assert (clients["bytes_up"].iloc[:-1] == 0).all()
    assert first["download_s"] == pytest.approx(0.02 + first["bytes_down"] / 1e6, rel=1e-9)
    assert (clients["entries_sent"] == np.where(clients["round"] == -1, active, 0)).all()
    assert (clients["entries_used"] == clients["entries_sent"]).all()


def test_everybody_else_downloads_values_and_mask(at_client: trace.Trace) -> None:
    """Client 3 knows them already when it first takes part, but for what changed since."""
    clients, active = at_client.clients, at_client.rounds.set_index("round")["active_parameters"]
    first = clients[clients["round"] == 0].set_index("client")["bytes_down"]
    model = 16 + 4 * int(active[0])
    assert (first.drop(index=3, errors="ignore") == model + 16 + mask_bytes(PRUNABLE)).all()
    assert first.get(3, 16) == 16


def test_masks_hold_from_the_next_local_round_on(at_client: trace.Trace) -> None:
    rounds = at_client.rounds.set_index("round")
    totals = at_client.layers.groupby("round")["active"].sum()
    assert totals.index[0] == rounds.index[0]
    assert 0 in totals.index
    assert (totals == rounds.loc[totals.index, "active_parameters"]).all()
    changed = rounds.index[1:][np.diff(rounds["active_parameters"]) != 0]
    assert set(changed) <= set(totals.index)
    events = at_client.events[(at_client.events["kind"] == "pruning") & (at_client.events["round"] < 0)]
    assert (events["round"] + 1).tolist() == totals.index[
        (totals.index > rounds.index[0]) & (totals.index <= 0)
    ].tolist()
    assert (np.diff(events["round"]) == 50).all()
    last = at_client.events[at_client.events["round"] == -1]
    assert (last["time_s"] == rounds["end_s"][-1]).all()


def test_steps_are_charged_to_the_selected_device(at_client: trace.Trace) -> None:
    """A step of fewer samples than the batch size of 16 counts as that part of one; pruned models are faster."""
    clients = at_client.clients[at_client.clients["round"] < 0]
    step_s = clients["compute_s"].to_numpy() * 16 / clients["samples"].to_numpy()
    active = at_client.rounds["active_parameters"].to_numpy()[: len(clients)]
    order = np.argsort(active, kind="stable")
    assert np.unique(np.round(step_s, 9)).size == np.unique(active).size
    assert (np.diff(step_s[order]) >= -1e-9).all()
    assert clients["samples"].unique().tolist() == [182]  # all that the client has, in every local round


def test_what_is_not_charged_takes_no_emulated_time(run: Run) -> None:
    free = run("pruning.initial.charged=false")
    before = free.rounds[free.rounds["round"] < 0]
    assert len(before) > 50
    assert (before[["start_s", "end_s"]] == 0.0).all(axis=None)
    assert free.rounds.set_index("round")["start_s"][0] == 0.0
    clients = free.clients[free.clients["round"] < 0]
    assert clients[["download_s", "compute_s", "upload_s", "wait_s"]].isna().all(axis=None)
    assert clients["bytes_down"].iloc[0] > 0
    assert clients["bytes_up"].iloc[-1] > 0


def test_a_server_has_no_device(run: Run) -> None:
    at_server = run(*AT_SERVER)
    before = at_server.rounds[at_server.rounds["round"] < 0]
    assert len(before) > 50
    columns = ["start_s", "end_s", "participants", "bytes_up", "bytes_down"]
    assert (before[columns] == 0).all(axis=None)
    assert (at_server.clients["round"] >= 0).all()
    assert at_server.rounds["active_parameters"].iloc[len(before)] < PRUNABLE + OTHERS


def test_too_few_local_rounds_leave_the_mask_full(run: Run) -> None:
    """The first reconfiguration ends the local round after that which reached the accuracy."""
    short = run("pruning.initial.max_rounds=1")
    assert short.rounds["round"].iloc[0] == -1
    told = short.events["detail"][short.events["round"] == -1]
    assert told.str.contains("ended (max_rounds) after 1 local rounds", regex=False).any()
    clients = short.clients.set_index(["round", "client"])["bytes_down"]
    assert clients.loc[0].drop(index=3, errors="ignore").eq(16 + 4 * (PRUNABLE + OTHERS)).all()


def facts_of(events: pd.DataFrame, kind: str) -> list[dict[str, Any]]:
    return [json.loads(text) for text in events["details"][events["kind"] == kind]]


def test_events_say_why_it_started_and_ended(at_client: trace.Trace) -> None:
    events, rounds = at_client.events, at_client.rounds.set_index("round")
    before = events[events["round"] < 0]
    few, started, ended = facts_of(before, "initial_pruning")
    assert few == {"samples": 182, "wanted": 200}
    assert started["training_accuracy"] >= 0.15
    assert (ended["why"], ended["local_rounds"]) == ("stable", -int(rounds.index[0]))
    assert ended["density"] == pytest.approx((rounds["active_parameters"][0] - OTHERS) / PRUNABLE, rel=1e-12)
    assert ended["training_accuracy"] > 0.8
    reconfigured = facts_of(before, "pruning")
    assert len(reconfigured) >= 5
    assert all(fact["active"] > 0 for fact in reconfigured)


def test_a_client_with_enough_samples_has_no_event_of_too_few(run: Run) -> None:
    """Two clients share 1437 samples alike, of which initial pruning takes 200."""
    plain = ["data.partition=iid", "clients.count=2", "clients.per_round=0", "pruning.initial.client=1"]
    done = run(*plain, "pruning.initial.max_rounds=2", "experiment.rounds=1")
    before = done.events[done.events["round"] < 0]
    assert not before["detail"].str.contains("wanted").any()
    assert done.clients["samples"][done.clients["round"] < 0].tolist() == [200, 200]


def test_a_run_that_stops_in_initial_pruning_goes_on_there(
    run: Run, same_trace: Callable, at_client: trace.Trace, tmp_path: Path
) -> None:
    """Twice: before and after the first reconfiguration."""
    folder = tmp_path / "run"
    for stop_at_s in (0.045, 0.3):
        parts = run(f"experiment.stop_at_emulated_s={stop_at_s}", output=folder, resume=stop_at_s > 0.1)
        assert parts.rounds.empty
    same_trace(run(output=folder, resume=True), at_client)


def test_a_run_whose_initial_pruning_has_ended_keeps_nothing_of_it(run: Run, tmp_path: Path) -> None:
    short = ["pruning.initial.max_rounds=2", "experiment.rounds=1"]
    whole = run(*short, output=tmp_path / "run")
    for _ in range(2):
        again = run(*short, output=tmp_path / "run", resume=True)
        assert again.rounds["round"].tolist() == whole.rounds["round"].tolist() == [-2, -1, 0]


def test_float_buffers_are_never_pruned_and_travel_with_the_values(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reconfiguration comes in the second local round."""
    (tmp_path / "normalized.py").write_text(NORMALIZED, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    own = ["model.name=normalized:net", "pruning.initial.max_rounds=2", "experiment.rounds=1"]
    done = run(*own)
    assert len(facts_of(done.events[done.events["round"] == -1], "pruning")) == 1
    active, floats = int(done.rounds.set_index("round")["active_parameters"][0]), 2 * 16
    assert active < 0.9 * (PRUNABLE + OTHERS + 2 * 16)
    last = done.clients[done.clients["round"] == -1].iloc[0]
    assert last["entries_sent"] == active
    assert last["bytes_up"] == 16 + mask_bytes(PRUNABLE) + 16 + 4 * (active + floats)


@pytest.mark.parametrize("sick", ["loss", "weights"])
def test_a_loss_or_weights_that_are_not_finite_end_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, sick: str
) -> None:
    def diverged(training: InitialTraining, *unused: Any) -> float:
        if sick == "weights":
            training.model.vector[3] = np.inf
        return np.nan if sick == "loss" else 1.0

    monkeypatch.setattr(InitialTraining, "round", diverged)
    config = tmp_path / "base.toml"
    config.write_text(CONFIG, encoding="utf-8")
    assert cli.main(["run", str(config), "--output", str(tmp_path / "run"), "--quiet"]) == 2
    assert "initial pruning diverges in its local round 1;" in capsys.readouterr().err


def test_training_that_diverges_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "base.toml"
    config.write_text(CONFIG, encoding="utf-8")
    command = [
        "run",
        str(config),
        "training.learning_rate=1e30",
        "--output",
        str(tmp_path / "run"),
        "--quiet",
    ]
    assert cli.main(command) == 2
    assert (
        "[training] learning_rate: found 1e+30, with which initial pruning diverges"
        in capsys.readouterr().err
    )
