"""What a run records of its clients and events besides its rounds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fedmpi import trace
from fedmpi.cli import main as cli
from fedmpi.experiment.recording import Recorder

SMALL = (
    *("experiment.rounds=4", "experiment.evaluate_every=2", "clients.count=3"),
    *("emulation.network.uplink_mbit_per_s=[8.0,16.0,inf]", "emulation.network.latency_s=0.25"),
)
DENSE = ("sparsification.method=dense", "k_control.method=fixed")


def run(folder: Path, *overrides: str) -> trace.Trace:
    given = ["run", "quickstart", *SMALL, *overrides, "--output", str(folder), "--quiet"]
    assert cli.main(given) == 0
    return trace.read(folder)


def _users(labels: dict[str, list[int]]) -> str:
    data = {
        user: {"x": [[0.1 * (user == "a"), 0.5, label / 8, 1.0] for label in y], "y": y}
        for user, y in labels.items()
    }
    counts = [len(y) for y in labels.values()]
    return json.dumps({"users": list(labels), "num_samples": counts, "user_data": data})


@pytest.fixture
def leaf(tmp_path) -> Path:
    """All train on label 0. Of the test samples, those of a are of label 0, those of d of others, and b has none."""
    train = {"b": [0] * 9, "a": [0] * 6, "d": [0] * 5, "c": [0, 0, 1]}
    test = {"d": [2, 1, 2], "a": [0, 0], "b": [], "c": [0, 0, 1, 2], "z": [0]}
    for part, users in (("train", train), ("test", test)):
        (tmp_path / part).mkdir()
        (tmp_path / part / "users.json").write_text(_users(users))
    return tmp_path


BY_WRITER = ("data.dataset=leaf", "data.partition=by_writer", "experiment.evaluate_clients=true")


def test_every_client_is_evaluated_on_its_own_users_test_samples(tmp_path, leaf):
    found = run(
        tmp_path / "run",
        *(*DENSE, *BY_WRITER, f"data.path={leaf}", "clients.count=4"),
        *("emulation.network.uplink_mbit_per_s=8.0", "training.evaluation_batch_size=3"),
    )
    tests = found.client_tests
    assert tests["round"].tolist() == [1] * 4 + [3] * 4
    assert tests["client"].tolist() == [0, 1, 2, 3] * 2
    assert tests["samples"].tolist() == [2, 0, 4, 3] * 2
    last = tests[tests["round"] == 3]
    np.testing.assert_array_equal(last["accuracy"], [1.0, np.nan, 0.5, 0.0])
    assert last["loss"].iloc[0] < last["loss"].iloc[2] < last["loss"].iloc[3]
    assert np.isnan(last["loss"].iloc[1])
    devices = found.devices
    assert devices["samples"].tolist() == [6, 9, 3, 5]
    assert devices["test_samples"].tolist() == [2, 0, 4, 3]
    assert devices["labels"].tolist() == [1, 1, 2, 1]
    assert devices["writers"].tolist() == [1] * 4


def test_a_client_of_several_users_has_the_test_samples_of_all(tmp_path, leaf):
    devices = run(
        tmp_path / "run",
        *(*DENSE, *BY_WRITER[:2], f"data.path={leaf}", "clients.count=2"),
        "emulation.network.uplink_mbit_per_s=8.0",
    ).devices
    assert devices["writers"].tolist() == [2, 2]
    assert devices["samples"].tolist() == [15, 8]
    assert devices["test_samples"].tolist() == [2, 7]


def test_held_back_samples_are_tested_and_not_trained_on(tmp_path):
    plain = run(tmp_path / "plain", *DENSE)
    held = run(
        tmp_path / "held", *DENSE, "experiment.evaluate_clients=true", "data.client_test_fraction=0.25"
    )
    assert plain.client_tests.empty
    before, after = plain.devices, held.devices
    assert before["test_samples"].tolist() == [0, 0, 0]
    assert (after["samples"] + after["test_samples"]).tolist() == before["samples"].tolist()
    assert after["test_samples"].tolist() == [-(-int(size) // 4) for size in before["samples"]]
    assert held.client_tests["samples"].tolist() == after["test_samples"].tolist() * 2
    counts = held.client_tests["accuracy"] * held.client_tests["samples"]
    np.testing.assert_allclose(counts, counts.round())
    assert held.client_tests["accuracy"].between(0, 1).all()
    assert held.client_tests["loss"].notna().all()


def test_the_whole_test_set_at_the_clients_gives_what_the_server_finds(tmp_path, leaf):
    (leaf / "test" / "users.json").write_text(_users({"a": [0, 1], "c": [0, 2, 1], "d": [0]}))
    found = run(
        tmp_path / "run",
        *(*DENSE, *BY_WRITER, f"data.path={leaf}", "clients.count=4"),
        "emulation.network.uplink_mbit_per_s=8.0",
    )
    for round_index, tests in found.client_tests.dropna().groupby("round"):
        server = found.rounds[found.rounds["round"] == round_index].iloc[0]
        for name in ("accuracy", "loss"):
            mean = np.average(tests[name], weights=tests["samples"])
            assert mean == pytest.approx(server[f"test_{name}"], rel=1e-6)


@pytest.mark.parametrize("partition", ["iid", "case3"])
def test_tests_at_clients_that_have_no_test_samples_are_refused(tmp_path, capsys, partition):
    given = [*SMALL, "experiment.evaluate_clients=true", f"data.partition={partition}"]
    assert cli.main(["run", "quickstart", *given, "--output", str(tmp_path / "run")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "[experiment] evaluate_clients: found true, and no client has test samples of its own in" in line
    assert f'data set "digits" by partition "{partition}"; allowed: false, data.client_test_fraction' in line
    assert not (tmp_path / "run" / "trace.h5").exists()


def test_the_devices_are_those_of_the_emulation(tmp_path):
    devices = run(
        tmp_path / "run",
        *(*DENSE, "data.partition=by_label", "data.labels_per_client=8"),
        'emulation.compute.profile={"raspberry-pi-4"=0.4,"raspberry-pi-3"=0.6}',
    ).devices
    assert devices["client"].tolist() == [0, 1, 2]
    assert sorted(devices["device"]) == ["raspberry-pi-3", "raspberry-pi-3", "raspberry-pi-4"]
    assert devices["uplink_bytes_per_s"].tolist() == [1e6, 2e6, np.inf]
    assert devices["downlink_bytes_per_s"].tolist() == [62_500.0] * 3
    assert devices["latency_s"].tolist() == [0.25] * 3
    assert devices["labels"].tolist() == [8, 8, 8]
    assert devices["writers"].tolist() == [-1, -1, -1]


def test_rounds_are_the_server_steps_that_clients_train_from(tmp_path):
    clients = run(tmp_path / "run", *DENSE).clients
    assert clients["version"].tolist() == clients["round"].tolist()
    assert (clients["staleness"] == 0).all()
    assert clients[["energy_j", "released_s"]].isna().all(axis=None)


def test_within_a_period_clients_train_from_the_model_of_its_start(tmp_path):
    clients = run(
        tmp_path / "run",
        *("experiment.rounds=7", "sparsification.method=fedavg", "sparsification.k_fraction=0.17"),
        "k_control.method=fixed",
    ).clients
    assert clients.groupby("round")["version"].first().tolist() == [0, 0, 0, 3, 3, 3, 6]


def test_facts_of_events_are_those_in_words(tmp_path):
    events = run(
        tmp_path / "run",
        *("pruning.method=prunefl", "pruning.reconfigure_every=2"),
        *("pruning.initial.where=client", "pruning.initial.max_rounds=3"),
    ).events
    facts = events["details"].map(json.loads)
    for kind, words, found in zip(events["kind"], events["detail"], facts, strict=True):
        if kind == "pruning":
            assert words == ", ".join(f"{name} {value:g}" for name, value in found.items())
    ended = facts[events["detail"].str.startswith("ended")].iloc[0]
    assert (ended["why"], ended["local_rounds"]) == ("max_rounds", 3)
    assert 0 < ended["density"] <= 1
    assert facts.iloc[-1] == {"reason": "all 4 rounds done"}


def test_rejected_clients_are_named(tmp_path):
    found = run(tmp_path / "run", *DENSE, "training.learning_rate=1e30", "training.local_steps=4")
    rejected = found.clients[found.clients["status"] == "rejected"]
    events = found.events[found.events["kind"] == "rejected"]
    assert len(rejected)
    named = events["details"].map(lambda text: json.loads(text)["client"])
    assert list(zip(events["round"], named, strict=True)) == list(
        zip(rejected["round"], rejected["client"], strict=True)
    )


def test_initial_pruning_that_is_late_is_told_before_round_0(tmp_path):
    """Of local rounds that are to last a billionth of their emulated time, every one ends late."""
    found = run(
        tmp_path / "run",
        *("pruning.method=prunefl", "pruning.initial.where=client", "pruning.initial.max_rounds=3"),
        *("emulation.clock=realtime", "emulation.time_scale=1e-9", "experiment.rounds=1"),
    )
    late = found.events[
        (found.events["kind"] == "overrun") & found.events["detail"].str.contains("local rounds")
    ]
    assert late["round"].tolist() == [-1]
    assert late["time_s"].tolist() == found.rounds["end_s"][found.rounds["round"] == -1].tolist()


def test_the_mask_of_round_0_is_recorded_where_initial_pruning_ends_between_masks(tmp_path):
    found = run(
        tmp_path / "run",
        *("pruning.method=prunefl", "pruning.initial.where=client", "pruning.initial.max_rounds=3"),
        "experiment.rounds=1",
    )
    assert found.layers["round"].unique().tolist() == [-3, -1, 0]
    first, last, of_round_0 = (
        found.layers[found.layers["round"] == number]["active"].tolist() for number in (-3, -1, 0)
    )
    assert first != last == of_round_0


def test_the_progress_line_shows_the_last_local_round():
    shown = []
    recorder = SimpleNamespace(progress=SimpleNamespace(initial=lambda *values: shown.append(values)))
    initial = SimpleNamespace(
        schedule=SimpleNamespace(rounds=2),
        rows=[{"density": 1.0}, {"density": 0.5}],
        max_rounds=9,
        base=SimpleNamespace(now_s=3.5),
    )
    Recorder.local_round(recorder, initial)
    assert shown == [(2, 9, {"density": 0.5}, 3.5)]
