"""Whole runs of one rank: one that was stopped goes on bit by bit, and batches train as clients do one by one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmpi import checkpoint, trace
from fedmpi.cli import main as cli
from fedmpi.federation.round_loop import RoundLoop
from fedmpi.sparsification.magnitude_sketch import MagnitudeSketch

CONFIG = """
[experiment]
seed = 5
rounds = 6
evaluate_every = 2
[clients]
count = 6
per_round = 4
[data]
dataset = "digits"
partition = "dirichlet"
alpha = 1.0
[model]
name = "mlp"
hidden = [8]
[training]
local_steps = 2
batch_size = 8
learning_rate = 0.2
[emulation.compute]
model = "linear"
profile = {"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}
[emulation.network]
uplink_mbit_per_s = {distribution = "lognormal", median = 2.0, sigma = 0.5}
downlink_mbit_per_s = 8.0
latency_s = 0.02
server_ingress_mbit_per_s = 6.0
"""
PRUNEFL = ["pruning.method=prunefl", "pruning.reconfigure_every=2"]
LATE = ["federation.deadline_s=0.08", "emulation.availability.dropout_probability=0.1"]
FAB = ["sparsification.method=fab", "sparsification.k=60"]
OGD = ["sparsification.method=fab", "k_control.method=ogd_sign"]
RUNS = {
    "momentum": ["training.momentum=0.5", "federation.aggregator=fedadam"],
    "period": ["sparsification.method=fedavg", "sparsification.k_fraction=0.17"],
    "period_on_disk": [
        "sparsification.method=fedavg",
        "sparsification.k_fraction=0.17",
        "clients.state=disk",
    ],
    "fab": [*FAB, *LATE],
    "fab_on_disk": [*FAB, "clients.state=disk", "sparsification.value_type=float16"],
    "ogd": [*OGD, *LATE],
    "tree": ["sparsification.method=fub_tree", "sparsification.k=60", "federation.aggregator=fedavgm"],
    "stc": ["sparsification.method=stc", "sparsification.k=60"],
    "ef21": ["sparsification.method=ef21", "sparsification.k=60"],
    "qsgd": ["sparsification.method=qsgd"],
    "exp3": ["sparsification.method=fub_flat", "k_control.method=exp3", "k_control.arms=8"],
    "norm_rate": ["sparsification.method=unidirectional", "k_control.method=norm_rate"],
    "accordion": [
        "sparsification.method=layer_top_k",
        "k_control.method=accordion",
        "k_control.options.interval=2",
    ],
    "accordion_prunefl": [
        *(*PRUNEFL, "sparsification.method=unidirectional", "k_control.method=accordion"),
        "k_control.options={low = 0.05, high = 0.6, interval = 2}",
    ],
    "prunefl": [*PRUNEFL, *LATE],
    "prunefl_period": [*PRUNEFL, "sparsification.method=fedavg", "sparsification.k_fraction=0.26"],
    "prunefl_fab": [*PRUNEFL, *FAB, "pruning.importance=received", "pruning.max_decrease_fraction=0.6"],
    "prunefl_sketch": [*PRUNEFL, *FAB, "pruning.importance=sketch", "pruning.interval=adaptive"],
    "joint": [
        *(*PRUNEFL, "sparsification.method=fab", "k_control.method=norm_rate"),
        *("pruning.importance=received", "pruning.joint=true"),
    ],
    "joint_few": [
        *("pruning.method=prunefl", "pruning.reconfigure_every=1", "pruning.max_decrease_fraction=0.9"),
        *("sparsification.method=unidirectional", "k_control.method=norm_rate"),
        *("k_control.k_min_fraction=0.5", "pruning.importance=sketch", "pruning.joint=true"),
        *("pruning.interval=adaptive", "pruning.target_density=0.05", "pruning.importance_entries=50"),
    ],
    "online": ["pruning.method=online", "pruning.reconfigure_every=2", *FAB],
    "fedtiny": ["pruning.method=fedtiny", "pruning.target_density=0.4", "pruning.reconfigure_every=2"],
    "feddst": [
        *("pruning.method=feddst", "pruning.target_density=0.4", "pruning.reconfigure_every=2"),
        "pruning.options={alpha = 0.5, last_round = 6}",
    ],
    "snip": ["pruning.method=snip", "pruning.target_density=0.3", "pruning.importance=full"],
    "own_tests": ["experiment.evaluate_clients=true", "data.client_test_fraction=0.2"],
}
"""Methods that keep something from round to round, at clients or at the server."""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Path]:
    config = tmp_path / "base.toml"
    config.write_text(CONFIG, encoding="utf-8")

    def start(name: str, *overrides: str, resume: bool = False, code: int = 0) -> Path:
        folder = tmp_path / name
        options = ["--output", str(folder), "--quiet", *(["--resume"] if resume else [])]
        assert cli.main(["run", str(config), *overrides, *options]) == code
        return folder

    return start


def test_k_and_density_of_what_is_decided_together_stay_within_their_bounds(run: Callable[..., Path]) -> None:
    """The least k is more than the masks leave; k is then all that is active, as the events say."""
    found = trace.read(run("few", *RUNS["joint_few"]))
    rounds = found.rounds.set_index("round")
    masks = found.events[found.events["kind"] == "pruning"].set_index("round")["details"].map(json.loads)
    assert len(masks) > 1
    taken = masks[[("k" in facts) for facts in masks]]
    assert len(taken) > 1
    for index, facts in taken.items():
        if index + 1 in rounds.index:
            following = rounds.loc[index + 1]
            assert facts["k"] == following["k"] == following["active_parameters"] < 305
    for index in masks.index[masks.index < rounds.index[-1]]:
        assert rounds["density"][index + 1] <= 1.0 - 0.95 * (index + 1) / 6 + 1e-12
    assert (rounds["k"] <= rounds["active_parameters"]).all()


def test_k_falls_until_somebody_is_in_time(run: Callable[..., Path]) -> None:
    """After training 0.07 s are left, in which 56 bytes get through: of 3 entries 58 are sent, of one 42."""
    links = ["emulation.network.uplink_mbit_per_s=0.0064", "emulation.network.server_ingress_mbit_per_s=inf"]
    unit = [
        "emulation.compute.model=unit",
        "emulation.compute.unit_s=0.01",
        "emulation.network.latency_s=0.0",
    ]
    profile = ["emulation.compute.profile=reference", "emulation.network.downlink_mbit_per_s=inf"]
    rounds = trace.read(
        run("late", *RUNS["norm_rate"], *links, *unit, *profile, "federation.deadline_s=0.08")
    ).rounds
    accepted = (rounds["participants"] - rounds["dropped"]).tolist()
    assert rounds["k"].tolist()[:3] == [6, 3, 1]
    assert accepted[:2] == [0, 0]
    assert all(accepted[2:])


def test_sketches_are_charged_by_the_mask_of_the_round_in_the_published_cost_model(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 27,160 parameters a sketch has ten counts, of the few that stay eight."""
    given = ["emulation.compute.model=normalized", "emulation.compute.profile=reference"]
    given += ["emulation.network.uplink_mbit_per_s=inf", "emulation.network.downlink_mbit_per_s=inf"]
    given += ["emulation.network.latency_s=0", "emulation.network.server_ingress_mbit_per_s=inf"]
    given += ["pruning.method=snip", "pruning.target_density=0.02", "model.hidden=[362]"]
    folder = run("sketches", *RUNS["norm_rate"], *given)
    found = trace.read(folder)
    rounds, dimension = found.rounds, 64 * 362 + 362 + 362 * 10 + 10
    assert rounds["active_parameters"].tolist()[0] == dimension
    bytes_ = [
        MagnitudeSketch(active, round(0.002 * dimension)).bytes for active in rounds["active_parameters"]
    ]
    assert bytes_[0] > bytes_[1]
    entries = rounds["k"] + rounds["k_down"] + np.array(bytes_) / 8
    np.testing.assert_allclose(
        rounds["end_s"] - rounds["start_s"], 1.0 + 10.0 / dimension * entries, rtol=1e-9
    )
    assert cli.main(["verify", str(folder)]) == 0
    assert "every value follows" in capsys.readouterr().out


def test_rounds_with_and_without_losses_are_verified_where_participants_may_stop_early(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """All that stays within one mask, under which as many entries go up in messages of two lengths."""
    few = ["training.learning_rate=1e-9", "emulation.availability.dropout_probability=0.3"]
    folder = run("losses", *RUNS["online"], *few)
    found = trace.read(folder)
    assert found.clients.query("status == 'ok'")["bytes_up"].nunique() == 2
    assert found.rounds["active_parameters"].nunique() == 1
    assert cli.main(["verify", str(folder)]) == 0
    assert "every value follows" in capsys.readouterr().out


def test_charged_initial_pruning_is_verified_where_participants_may_stop_early(
    run: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    initial = ["pruning.initial.where=client", "pruning.initial.client=1", "pruning.initial.max_rounds=3"]
    folder = run("initial", *RUNS["joint"], *initial, "emulation.availability.dropout_probability=0.2")
    assert trace.read(folder).rounds["round"].min() == -3
    assert cli.main(["verify", str(folder)]) == 0
    assert "every value follows" in capsys.readouterr().out


def last_checkpoint(folder: Path) -> dict[str, np.ndarray]:
    """What the server kept, without the places of rows on disk, which differ."""
    found, _ = checkpoint.latest_good(folder / "checkpoint")
    assert found is not None
    return {name: values for name, values in found.server().items() if not name.startswith("rows.")}


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_stopped_goes_on_bit_by_bit(
    name: str, run: Callable[..., Path], same_trace: Callable, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, rounds = run("whole", *RUNS[name]), RoundLoop._round

    def third_is_signalled(loop: RoundLoop, plan):
        loop.signal.set = plan.round_index == 2
        return rounds(loop, plan)

    with monkeypatch.context() as patch:
        patch.setattr(RoundLoop, "_round", third_is_signalled)
        run("parts", *RUNS[name], code=75)
    parts = run("parts", *RUNS[name], resume=True)
    same_trace(trace.read(parts), trace.read(whole))
    of_whole, of_parts = last_checkpoint(whole), last_checkpoint(parts)
    assert of_whole.keys() == of_parts.keys()
    assert of_whole["weights"].any()
    for key, values in of_whole.items():
        np.testing.assert_array_equal(of_parts[key], values)


def test_what_lies_on_disk_is_not_in_checkpoints(run: Callable[..., Path]) -> None:
    for name, kept in (("fab", {"accumulated"}), ("fab_on_disk", set())):
        found, _ = checkpoint.latest_good(run(name, *RUNS[name]) / "checkpoint")
        assert found is not None
        assert {array for arrays in found.clients(range(6)).values() for array in arrays} == kept


@pytest.mark.parametrize(
    "name", ["momentum", "period", "fab", "tree", "qsgd", "prunefl", "prunefl_fab", "own_tests"]
)
def test_clients_in_batches_train_as_one_by_one(
    name: str, run: Callable[..., Path], same_trace: Callable
) -> None:
    alone, batched = (run(mode, *RUNS[name], f"training.batched={mode}") for mode in ("off", "on"))
    same_trace(trace.read(batched), trace.read(alone))
    assert (last_checkpoint(batched)["weights"] == last_checkpoint(alone)["weights"]).all()
