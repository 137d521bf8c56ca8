"""``fedmpi check --brief``: one screen, and totals that are those of a run."""

import numpy as np
import pytest

from fedmpi import trace
from fedmpi.cli import brief, estimate
from fedmpi.cli import main as cli
from fedmpi.config import load
from fedmpi.experiment.model import make_fleet
from fedmpi.experiment.parts import resolve
from fedmpi.federation.distribution import read_data
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build
from fedmpi.pruning import Setup

FIXED = [
    "k_control.method=fixed",
    "experiment.rounds=7",
    "experiment.evaluate_every=7",
    "training.batch_size=12",
]
METHODS = {
    "dense": ["sparsification.method=dense"],
    "fab": ["sparsification.k=100", "sparsification.wire=coo"],
    "float16": ["sparsification.k=100", "sparsification.value_type=float16"],
    "fedavg": ["sparsification.method=fedavg", "sparsification.k_fraction=0.5"],
    "fedavg with a period": ["sparsification.method=fedavg", "sparsification.k_fraction=0.17"],
    "normalized": [
        "sparsification.k=100",
        "emulation.compute.model=normalized",
        "emulation.compute.profile=reference",
        "emulation.network.uplink_mbit_per_s=inf",
        "emulation.network.downlink_mbit_per_s=inf",
        "emulation.network.latency_s=0",
        "emulation.network.server_ingress_mbit_per_s=inf",
        "emulation.network.server_egress_mbit_per_s=inf",
    ],
}


def whole_run(overrides: list[str]) -> estimate.WholeRun:
    config = load("quickstart", overrides)
    facts = read_data(config).facts()
    model = FlatModel(build(config.model, facts.input_shape, facts.classes, 0))
    found, mask = resolve(config), None
    if found.pruning.first_mask is not None:
        setup = Setup(config.pruning, config.experiment.rounds, model.layers)
        mask = found.pruning.first_mask(setup, model.vector.numpy()[: model.parameter_count])
    fleet = make_fleet(config, model, facts)
    return estimate.whole_run(found, model, fleet, np.array(facts.sizes), mask)


@pytest.mark.parametrize("method", METHODS)
def test_the_whole_run_is_what_a_run_records(method, tmp_path):
    overrides = [*FIXED, *METHODS[method]]
    told = whole_run(overrides)
    assert cli.main(["run", "quickstart", *overrides, "--output", str(tmp_path), "--quiet"]) == 0
    rounds = trace.read(tmp_path).rounds
    assert told.bytes_up == rounds["bytes_up"].sum()
    assert told.bytes_down == rounds["bytes_down"].sum()
    assert told.emulated_s == pytest.approx(rounds["end_s"].iloc[-1], rel=1e-9)
    assert told.assumed == told.left_out == ()


@pytest.mark.parametrize("every", [1, 3])
def test_masks_of_clients_are_in_the_whole_run(every, tmp_path):
    overrides = [
        *FIXED,
        *METHODS["dense"],
        "pruning.method=feddst",
        "pruning.target_density=0.3",
        f"pruning.reconfigure_every={every}",
        "pruning.options={alpha = 0.5, last_round = 6}",
    ]
    told = whole_run(overrides)
    assert cli.main(["run", "quickstart", *overrides, "--output", str(tmp_path), "--quiet"]) == 0
    rounds = trace.read(tmp_path).rounds
    assert told.bytes_up == rounds["bytes_up"].sum()
    assert told.bytes_down == rounds["bytes_down"].sum()
    assert told.emulated_s == pytest.approx(rounds["end_s"].iloc[-1], rel=1e-9)
    assert told.assumed == ("density as in the first round",)
    assert told.left_out == ()


def test_clients_that_seldom_take_part_download_what_they_missed():
    every = whole_run([*FIXED, *METHODS["fab"]])
    half = whole_run([*FIXED, *METHODS["fab"], "clients.per_round=4"])
    model, update = 16 + 4 * 4810, 16 + 100 * 8
    assert every.bytes_down == 8 * (model + 6 * update)
    assert half.bytes_down == 4 * (model + 6 * (update + 100 * 8))
    assert half.assumed == ("participants as in the first round",)
    rarely = whole_run([*FIXED, "sparsification.k=3000", "sparsification.wire=coo", "clients.per_round=4"])
    assert rarely.bytes_down == 4 * 7 * model


def test_what_is_assumed_and_left_out_is_named():
    told = whole_run(["pruning.method=prunefl", "emulation.network.jitter_s=0.1"])
    assert told.assumed == ("k as in the first round", "nothing pruned")
    assert told.left_out == ("jitter", "the losses by which k is chosen", "masks and importance")


def lines_of(capsys, *arguments: str) -> list[str]:
    assert cli.main(["check", *arguments, "--brief"]) == 0
    out, err = capsys.readouterr()
    assert not err
    return out.splitlines()


INITIAL = ["pruning.method=prunefl", "pruning.initial.where=client", "pruning.initial.charged=false"]
LINEAR = ["emulation.compute.model=linear", "emulation.compute.profile=raspberry-pi-4"]


def test_it_fits_a_screen_and_says_what_the_run_takes(capsys):
    lines = lines_of(capsys, "quickstart", "--ranks", "3", *INITIAL, *LINEAR)
    assert len(lines) <= 25
    assert max(map(len, lines)) < 80
    text = " ".join(" ".join(lines).split())
    assert "quickstart: 300 rounds, seed 1, on 3 ranks" in text
    assert "model mlp, D = 4,810; data digits, 1,438 training and 359 test samples" in text
    assert "[training] batch_size = 20, learning_rate = 0.3;" in text
    assert '[pruning.initial] where = "client", charged = false;' in text
    assert "momentum" not in text
    assert "initial pruning adds up to 1000 local rounds at the client, not charged" in text
    assert "step times are estimated from the work of mlp" in text
    for what in ("bytes", "emulated", "host", "assumed", "left out"):
        assert any(line.startswith(f"  {what} ") for line in lines)


def test_many_keys_are_cut(capsys):
    rates = "emulation.network.uplink_mbit_per_s=[1, 2, 3, 4, 5, 6, 7, 8]"
    more = [
        "training.momentum=0.5",
        "training.weight_decay=0.001",
        "data.samples_per_client=50",
        *INITIAL,
        *LINEAR,
    ]
    lines = lines_of(
        capsys, "quickstart", rates, *more, "emulation.clock=realtime", "experiment.checkpoint_every=3"
    )
    assert len(lines) <= 25
    assert "  ... and more, which fedmpi check prints" in lines


def test_values_are_toml_that_is_not_broken_within_a_number(capsys):
    words = " ".join(lines_of(capsys, "quickstart")).split()
    text = " ".join(words)
    assert "profile = {raspberry-pi-4 = 0.5, raspberry-pi-3 = 0.5};" in text
    assert 'uplink_mbit_per_s = {distribution = "lognormal", median = 0.05, sigma = 0.6},' in text


def test_a_configuration_of_defaults_has_nothing_that_differs():
    assert brief._differing(load("quickstart").__class__()) == ["all keys have their defaults"]
