"""Every method and controller: the same trace on 1, 2 and 3 ranks, after an interruption, and trained one by one."""

import json
from pathlib import Path

import numpy as np
import pytest
from experiments import VARIANTS, assert_same_trace

from fedmpi import trace
from fedmpi.pruning.fedtiny import adjusted
from fedmpi.sparsification.wire import message_bytes

PROGRAM = Path(__file__).with_name("programs_methods.py")
PLACEMENTS = {1: ("straight",), 2: ("interrupted",), 3: ("straight", "training.batched=off")}
"""Ranks, and whether the runs are stopped on the way and resumed; on three, clients are trained one by one."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory, launch) -> dict[int, Path]:
    folders = {}
    for ranks, way in PLACEMENTS.items():
        folders[ranks] = tmp_path_factory.mktemp(f"on-{ranks}")
        launch(ranks, PROGRAM, folders[ranks], *way, python_path=PROGRAM.parent)
    return folders


@pytest.mark.parametrize("variant", VARIANTS)
def test_trace_depends_neither_on_placement_nor_on_an_interruption(
    runs: dict[int, Path], variant: str
) -> None:
    one = trace.read(runs[1] / variant)
    assert one.attributes["status"] == "completed"
    assert (one.rounds["phase"] == "federated").sum() == 7
    assert_same_trace(runs[1] / variant, runs[3] / variant)
    # Where a run ended for a while is an event of its own.
    assert_same_trace(runs[1] / variant, runs[2] / variant, ("rounds", "clients", "layers"))


@pytest.mark.parametrize(
    ("variant", "bytes_up", "bytes_down"),
    [("everybody", 16 + 152 + 4 * 60, 16 + 152 + 4 * 60), ("everybody_periodic", 16 + 2 * 350, 16 + 2 * 350)],
)
def test_bytes_of_the_trace_are_those_of_the_messages(
    runs: dict[int, Path], variant: str, bytes_up: int, bytes_down: int
) -> None:
    """Every client has the model of the round before, so what it downloads is the server's last message.

    60 of 1210 coordinates are shortest with a bitmap of 152 bytes.
    """
    one = trace.read(runs[1] / variant)
    assert (one.clients["bytes_up"] == bytes_up).all()
    later = one.clients[one.clients["round"] > 0]
    assert (later["bytes_down"] == bytes_down).all()
    # Beside the messages, MPI carried the plan, the records and the verdicts, and the same on any number of ranks.
    assert (one.rounds["mpi_bytes"] > 8 * bytes_up + bytes_down).all()


@pytest.mark.parametrize("variant", ["prunefl_received", "prunefl_sketch"])
def test_pairs_of_importance_are_charged_where_the_mask_is_to_change(
    runs: dict[int, Path], variant: str
) -> None:
    """60 of the active coordinates in every round; after every other one 60 of the pruned, or of all prunable ones.

    With those of the pruned ones comes the energy of the active ones.
    """
    one, prunable, others = trace.read(runs[1] / variant), 64 * 16 + 16 * 10, 16 + 10
    sent = []
    for number, active in enumerate(one.rounds["active_parameters"].tolist()):
        size = message_bytes("auto", 60, active)
        pruned = prunable + others - active
        if number % 2 and variant == "prunefl_sketch":
            size += message_bytes("auto", 60, prunable) + 4 * others
        elif number % 2:
            size += message_bytes("auto", min(60, pruned), pruned) + 4
        sent.append(5 * size)
    assert one.rounds["bytes_up"].tolist() == sent
    assert one.rounds["active_parameters"].iloc[-1] < prunable


def test_largest_gradients_are_charged_as_pairs(runs: dict[int, Path]) -> None:
    """As many as there come in of each layer, 8 bytes each, in a message of its own."""
    one = trace.read(runs[1] / "fedtiny_topk")
    layers = one.layers[one.layers["total"].isin([64 * 16, 16 * 10])].groupby("round")["active"].apply(list)
    kept = layers.iloc[0]
    assert sum(kept) < 0.4 * 1210
    assert layers.apply(lambda active: active == kept).all()  # the number of a layer stays
    assert one.events[one.events["kind"] == "pruning"]["round"].tolist() == [2, 4, 6]
    for number in (2, 4, 6):
        moved = [adjusted(*each, 0.3, number, 300) for each in zip(kept, (64 * 16, 16 * 10), strict=True)]
        size = message_bytes("auto", 60, int(one.rounds["active_parameters"][number])) + 16 + 8 * sum(moved)
        assert one.rounds["bytes_up"][number] == 5 * size


def test_an_interval_that_adapts_is_told_and_kept(runs: dict[int, Path]) -> None:
    one = trace.read(runs[1] / "departures_prunefl_adaptive_interval")
    changes = one.events[one.events["kind"] == "pruning"]
    rounds, facts = changes["round"].tolist(), [json.loads(text) for text in changes["details"]]
    abandoned = set(one.events[one.events["kind"] == "abandoned"]["round"].tolist())
    assert 0 in abandoned  # nobody's importance came, and the first mask waits for an interval

    def due(after: int, interval: int) -> int:
        return next(number for number in range(after + interval, 99, interval) if number not in abandoned)

    assert rounds[0] == due(-1, 1)
    for last, following, found in zip(rounds, rounds[1:], facts, strict=False):
        assert following == due(last, found["interval_rounds"])
        assert 1 <= found["interval_rounds"] <= 16


def test_fedavg_exchanges_at_the_end_of_each_period_only(runs: dict[int, Path]) -> None:
    one = trace.read(runs[1] / "fedavg")
    assert (one.rounds["bytes_up"] > 0).tolist() == [False, False, True] * 2 + [False]
    assert (one.rounds["bytes_down"] > 0).tolist() == [True, False, False] * 2 + [True]
    assert (one.rounds["k_down"] > 0).tolist() == [False, False, True] * 2 + [False]
    by_round = one.clients.groupby("round")["client"].apply(list)
    assert by_round[0] == by_round[1] == by_round[2] != by_round[3]
    assert (one.clients["compute_s"] > 0).all()
    assert (one.clients.loc[one.clients["round"] % 3 == 1, ["download_s", "upload_s"]] == 0).all(axis=None)


def test_fedavg_learns_between_exchanges(runs: dict[int, Path]) -> None:
    """The global model stays, the clients' own loss falls."""
    one = trace.read(runs[1] / "fedavg").rounds
    assert one["train_loss"][2] < one["train_loss"][0]
    assert one["test_loss"][3] < one["test_loss"][1]


def test_normalized_times_are_those_of_the_formula(runs: dict[int, Path]) -> None:
    one = trace.read(runs[1] / "normalized")
    parameters = one.attributes["parameters"]
    rounds = one.rounds
    training = 1 + (rounds["k_probe"] > 0) / 16
    expected = training + 10 / (2 * parameters) * (2 * rounds["k"] + 2 * rounds["k_down"])
    assert (rounds["end_s"] - rounds["start_s"]).to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)
    fedavg = trace.read(runs[1] / "normalized_fedavg").rounds
    durations = (fedavg["end_s"] - fedavg["start_s"]).to_numpy()
    assert durations == pytest.approx([1, 1, 11, 1, 1, 11, 1], rel=1e-12)


def test_normalized_times_under_masks_are_those_of_what_travels(runs: dict[int, Path]) -> None:
    """Training takes 1, the values of active parameters their share of beta; k entries cost k whatever the mask."""
    one = trace.read(runs[1] / "normalized_prunefl")
    rounds, parameters = one.rounds, one.attributes["parameters"]
    sent = rounds["active_parameters"].where(rounds["density"] <= 0.9, parameters)
    assert (sent < parameters).any()
    durations = (rounds["end_s"] - rounds["start_s"]).to_numpy()
    assert durations == pytest.approx((1 + 10 * sent / parameters).to_numpy(), rel=1e-12)
    sparse = trace.read(runs[1] / "normalized_online_fab").rounds
    training = 1 + (sparse["round"] % 2 == 1) / 16  # the losses of a smaller mask, every other round
    expected = training + 10 / (2 * parameters) * (2 * sparse["k"] + 2 * sparse["k_down"])
    assert (sparse["end_s"] - sparse["start_s"]).to_numpy() == pytest.approx(expected.to_numpy(), rel=1e-12)


def test_masks_change_where_fedavg_exchanges(runs: dict[int, Path]) -> None:
    one = trace.read(runs[1] / "prunefl_fedavg")
    assert (one.rounds["bytes_up"] > 0).tolist() == [False, True] * 3 + [False]
    assert one.layers["round"].unique().tolist() == [0, 2, 4, 6]
    assert one.rounds["density"].is_monotonic_decreasing
    assert one.rounds["density"].iloc[-1] < 0.9
    parameters, prunable = one.attributes["parameters"], 64 * 16 + 16 * 10
    sent = one.rounds["active_parameters"].where(one.rounds["density"] <= 0.9, parameters)
    assert (one.rounds["bytes_up"] / 5)[1::2].tolist() == (16 + 4 * sent[1::2] + 4 * prunable).tolist()


def test_masks_of_clients_travel_up_and_the_servers_down(runs: dict[int, Path]) -> None:
    """In rounds 1, 3 and 5 clients make one more pass on a batch of 16, and send bits of 1184 weights."""
    one = trace.read(runs[1] / "feddst")
    votes = one.clients["round"].isin([1, 3, 5])
    values = 16 + 4 * one.rounds["active_parameters"].iloc[0]
    assert one.rounds["active_parameters"].nunique() == 1
    assert (one.clients["samples"] == 48 + 16 * votes).all()
    assert (one.clients["bytes_up"] == values + (16 + 148) * votes).all()
    assert (one.clients["bytes_down"][one.clients["round"].isin([0, 2, 4, 6])] == values + 16 + 148).all()
    assert one.events[one.events["kind"] == "pruning"]["round"].tolist() == [1, 3, 5]
    assert one.layers["round"].unique().tolist() == [0, 2, 4, 6]
    late = trace.read(runs[1] / "departures_feddst")
    assert late.events[late.events["kind"] == "abandoned"]["round"].tolist()[0] == 0
    assert late.clients[late.clients["round"] == 1]["bytes_down"].min() == 16  # nothing new, the mask neither


@pytest.mark.parametrize("variant", ["fab", "everybody", "zeros", "ogd_float16", "prunefl_fab"])
def test_with_fab_every_client_contributes_its_share(runs: dict[int, Path], variant: str) -> None:
    one = trace.read(runs[1] / variant)
    rounds = one.rounds.set_index("round")
    least = one.clients.groupby("round")["entries_used"].min()
    assert (least >= rounds["k"] // rounds["participants"]).all()
    assert (one.clients["entries_used"] <= one.clients["entries_sent"]).all()


def test_participants_that_stop_early_are_charged_up_to_there(runs: dict[int, Path]) -> None:
    one = trace.read(runs[1] / "departures")
    clients = one.clients.merge(one.rounds[["round", "start_s", "end_s"]], on="round")
    whole = clients["end_s"] - clients["start_s"]
    spent = clients[["download_s", "compute_s", "upload_s"]].sum(axis=1)
    assert {"ok", "late", "dropped", "rejected"} == set(clients["status"])
    late, dropped = clients["status"] == "late", clients["status"] == "dropped"
    np.testing.assert_allclose(spent[late], whole[late], atol=1e-12)
    assert (spent[dropped] <= whole[dropped] + 1e-12).all()
    assert (clients["bytes_up"][late | dropped] < clients["bytes_up"].max()).all()
    assert (clients["entries_used"][clients["status"] != "ok"] == 0).all()
    assert (clients["wait_s"][late | dropped] == 0).all()
    assert one.rounds["end_s"].sub(one.rounds["start_s"]).max() <= 0.095 + 1e-12
    few = one.events[one.events["kind"] == "abandoned"]["round"]
    assert (clients[clients["round"].isin(few)]["status"] != "ok").all()
    assert len(few) > 0
