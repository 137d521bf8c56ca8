"""Initial pruning in runs: zeros stay zeros, the device and its link are charged, and the trace tells of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from experiments import BASE, INITIAL, PRUNEFL, assert_same_trace

from fedmpi import trace
from fedmpi.sparsification.wire import mask_bytes

PROGRAM = Path(__file__).with_name("programs_initial_pruning.py")
PRUNABLE, OTHERS = 64 * 16 + 16 * 10, 16 + 10
SERVER = [*PRUNEFL, "pruning.initial.where=server", "pruning.initial.charged=false"]


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize(
    "overrides",
    [
        INITIAL,
        [*SERVER, "training.momentum=0.5", "training.weight_decay=0.001"],
        [*INITIAL, "sparsification.method=fab", "sparsification.k=60", "sparsification.value_type=float16"],
    ],
)
def test_pruned_parameters_are_zero_and_all_ranks_start_alike(
    launch, ranks: int, overrides: list[str]
) -> None:
    launch(ranks, PROGRAM, *overrides, "experiment.rounds=2", python_path=PROGRAM.parent)


@pytest.fixture(scope="module")
def run(launch, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    config = tmp_path_factory.mktemp("config") / "base.toml"
    config.write_text(BASE, encoding="utf-8")

    def start(ranks: int, *overrides: str, output: Path | None = None, resume: bool = False) -> Path:
        folder = output or tmp_path_factory.mktemp("run") / "run"
        options = ["--output", folder, "--quiet", *(["--resume"] if resume else [])]
        launch(ranks, "-m", "fedmpi", "run", config, *overrides, *options)
        return folder

    return start


@pytest.fixture(scope="module")
def at_client(run) -> trace.Trace:
    return trace.read(run(2, *INITIAL, "emulation.network.jitter_s=0"))


def test_local_rounds_come_before_round_0(at_client: trace.Trace) -> None:
    rounds = at_client.rounds
    before = rounds[rounds["phase"] == "initial_pruning"]
    assert before["round"].tolist() == list(range(-len(before), 0))
    assert rounds["round"].tolist() == list(range(-len(before), 6))
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


def test_what_is_not_charged_takes_no_emulated_time(run) -> None:
    free = trace.read(run(1, *INITIAL, "pruning.initial.charged=false"))
    before = free.rounds[free.rounds["round"] < 0]
    assert len(before) > 50
    assert (before[["start_s", "end_s"]] == 0.0).all(axis=None)
    assert free.rounds.set_index("round")["start_s"][0] == 0.0
    clients = free.clients[free.clients["round"] < 0]
    assert clients[["download_s", "compute_s", "upload_s", "wait_s"]].isna().all(axis=None)
    assert clients["bytes_down"].iloc[0] > 0
    assert clients["bytes_up"].iloc[-1] > 0


def test_a_server_has_no_device(run) -> None:
    at_server = trace.read(run(2, *SERVER))
    before = at_server.rounds[at_server.rounds["round"] < 0]
    assert len(before) > 50
    columns = ["start_s", "end_s", "participants", "bytes_up", "bytes_down"]
    assert (before[columns] == 0).all(axis=None)
    assert (at_server.clients["round"] >= 0).all()
    assert at_server.rounds["active_parameters"].iloc[len(before)] < PRUNABLE + OTHERS


def test_too_few_local_rounds_leave_the_mask_full(run) -> None:
    """The first reconfiguration ends the local round after that which reached the accuracy."""
    short = trace.read(run(1, *INITIAL, "pruning.initial.max_rounds=1"))
    assert short.rounds["round"].iloc[0] == -1
    told = short.events["detail"][short.events["round"] == -1]
    assert told.str.contains("ended (max_rounds) after 1 local rounds", regex=False).any()
    clients = short.clients.set_index(["round", "client"])["bytes_down"]
    assert clients.loc[0].drop(index=3, errors="ignore").eq(16 + 4 * (PRUNABLE + OTHERS)).all()


def test_a_run_that_stops_in_initial_pruning_goes_on_there(run) -> None:
    """On other ranks, twice: before and after the first reconfiguration."""
    for overrides in (
        INITIAL,
        [
            *INITIAL,
            "sparsification.method=fub_tree",
            "sparsification.k=60",
            "sparsification.value_type=float16",
        ],
    ):
        whole = run(1, *overrides)
        parts = run(2, *overrides, "experiment.stop_at_emulated_s=0.045")
        assert trace.read(parts).rounds.empty
        run(3, *overrides, "experiment.stop_at_emulated_s=0.3", output=parts, resume=True)
        assert trace.read(parts).rounds.empty
        run(1, *overrides, output=parts, resume=True)
        assert_same_trace(whole, parts)


def test_training_that_diverges_is_refused_on_all_ranks(launch, tmp_path: Path) -> None:
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = [*INITIAL, "training.learning_rate=1e30", "--output", tmp_path / "run", "--quiet"]
    done = launch(2, "-m", "fedmpi", "run", config, *overrides, check=False)
    assert done.returncode == 2
    assert "[training] learning_rate: found 1e+30, with which initial pruning diverges" in done.stderr
    assert "Traceback" not in done.stderr
