"""Pruning in runs on several ranks: zeros stay zeros, and the trace tells of every mask."""

from pathlib import Path

import numpy as np
import pytest
from experiments import BASE, PRUNEFL, VARIANTS, assert_same_trace

from fedmpi import trace
from fedmpi.sparsification.wire import mask_bytes

PROGRAM = Path(__file__).with_name("programs_pruning.py")
PRUNABLE, OTHERS = 64 * 16 + 16 * 10, 16 + 10


@pytest.mark.parametrize(
    "variant",
    [
        "prunefl",
        "prunefl_fab",
        "prunefl_fedavg",
        "prunefl_ogd_float16",
        "snip_fab",
        "online",
        "online_buffers_fab",
        "online_ogd",
    ],
)
def test_pruned_parameters_stay_zero_and_importance_is_summed(launch, variant: str) -> None:
    launch(3, PROGRAM, *VARIANTS[variant], python_path=PROGRAM.parent)


@pytest.mark.parametrize("variant", ["prunefl", "prunefl_fab", "online"])
def test_a_run_resumed_between_two_reconfigurations_continues(launch, tmp_path: Path, variant: str) -> None:
    """Importance gathered before the interruption, and the mask made before it, count after it."""
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    command = ["-m", "fedmpi", "run", config, *VARIANTS[variant], "pruning.reconfigure_every=3", "--quiet"]
    launch(2, *command, "experiment.rounds=8", "--output", tmp_path / "whole")
    launch(3, *command, "experiment.rounds=4", "--output", tmp_path / "parts")
    launch(1, *command, "experiment.rounds=8", "--output", tmp_path / "parts", "--resume")
    assert_same_trace(tmp_path / "whole", tmp_path / "parts", ("rounds", "clients", "layers"))
    whole = trace.read(tmp_path / "whole")
    assert whole.layers["round"].unique().tolist() == [0, 3, 6]


def test_iterative_pruning_reaches_its_density_half_way(launch, tmp_path: Path) -> None:
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = ["pruning.method=iterative", "pruning.target_density=0.1", "--output", tmp_path / "run"]
    launch(2, "-m", "fedmpi", "run", config, *overrides, "--quiet")
    rounds = trace.read(tmp_path / "run").rounds
    assert rounds["density"].is_monotonic_decreasing
    assert rounds["density"].tolist()[3:] == pytest.approx([0.1] * 3, abs=1e-3)
    assert (rounds["density"][:3] > 0.15).all()
    assert np.diff(rounds["end_s"]).argmin() >= 2


@pytest.fixture(scope="module")
def everybody(launch, tmp_path_factory: pytest.TempPathFactory) -> trace.Trace:
    folder = tmp_path_factory.mktemp("everybody")
    config = folder / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = [*PRUNEFL, "clients.per_round=0", "experiment.rounds=5"]
    launch(2, "-m", "fedmpi", "run", config, *overrides, "--output", folder / "run", "--quiet")
    return trace.read(folder / "run")


def test_messages_have_the_values_of_active_parameters(everybody: trace.Trace) -> None:
    """Importance adds a value of every prunable parameter, a new mask its bits and a header."""
    rounds = everybody.rounds.set_index("round")
    active = rounds["active_parameters"]
    assert active[0] == active[1] == PRUNABLE + OTHERS
    assert active[2] == active[3] < active[1]
    assert active[4] < active[3]
    sent = np.where(rounds["density"] > 0.9, PRUNABLE + OTHERS, active)
    by_round = everybody.clients.groupby("round")
    model = 16 + 4 * sent
    importance = np.where(rounds.index % 2 == 1, 4 * PRUNABLE, 0)
    new_mask = np.where(np.isin(rounds.index, [2, 4]), 16 + mask_bytes(PRUNABLE), 0)
    for name, expected in (("bytes_up", model + importance), ("bytes_down", model + new_mask)):
        assert by_round[name].nunique().eq(1).all()
        assert by_round[name].first().tolist() == expected.tolist()
    assert (everybody.clients.groupby("round")["entries_sent"].first() == sent).all()


def test_trace_tells_of_every_mask(everybody: trace.Trace) -> None:
    rounds = everybody.rounds.set_index("round")
    totals = everybody.layers.groupby("round")["active"].sum()
    assert totals.index.tolist() == [0, 2, 4]
    assert (totals == rounds.loc[[0, 2, 4], "active_parameters"]).all()
    changes = everybody.events[everybody.events["kind"] == "pruning"]
    assert changes["round"].tolist() == [1, 3]
    assert f"active {totals[2]}" in changes["detail"].iloc[0]


def test_smaller_models_take_less_time(everybody: trace.Trace) -> None:
    """The time model is linear in the active parameters."""
    by_round = everybody.clients.groupby("round")["compute_s"].max()
    assert by_round[0] == by_round[1] > by_round[2] == by_round[3] > by_round[4]


def test_dense_kernels_until_the_model_is_pruned(launch, tmp_path: Path) -> None:
    """What PruneFL measured on a Raspberry Pi 4: 2.2486 s a step unpruned, the linear formula below density 0.9."""
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = [
        "model.name=conv2",
        "pruning.method=snip",
        "pruning.target_density=0.3",
        "experiment.rounds=2",
    ]
    devices = ["emulation.compute.profile=raspberry-pi-4", "training.batch_size=20", "training.local_steps=1"]
    launch(2, "-m", "fedmpi", "run", config, *overrides, *devices, "--output", tmp_path / "run", "--quiet")
    run = trace.read(tmp_path / "run")
    before, after = (run.clients[run.clients["round"] == index] for index in (0, 1))
    assert (before["compute_s"] == 2.2486449218005875).all()
    layers = run.layers[run.layers["round"] == 1].set_index("layer")
    weights = [name.endswith("weight") for name in run.attributes["layer_names"]]
    active = layers["active"].to_numpy()[weights]
    coefficients = np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7])
    expected = 1.2492789765 + (coefficients * active).sum()
    assert after["compute_s"].to_numpy() == pytest.approx(np.full(5, expected), rel=1e-12)


def test_bytes_of_the_losses_that_choose_the_size(launch, tmp_path: Path) -> None:
    """The update comes down at once with the mask to try, three losses go up; the next download is the new mask."""
    config = tmp_path / "base.toml"
    config.write_text(BASE, encoding="utf-8")
    overrides = [*VARIANTS["online"], "clients.per_round=0", "experiment.rounds=4"]
    launch(2, "-m", "fedmpi", "run", config, *overrides, "--output", tmp_path / "run", "--quiet")
    run = trace.read(tmp_path / "run")
    model, mask = 16 + 4 * (PRUNABLE + OTHERS), 16 + mask_bytes(PRUNABLE)
    by_round = run.clients.groupby("round")
    assert by_round[["bytes_up", "bytes_down"]].nunique().eq(1).all(axis=None)
    assert by_round["bytes_up"].first()[:2].tolist() == [model, model + 16 + 4 * 3]
    assert by_round["bytes_down"].first()[:3].tolist() == [model, model + model + mask, 16 + mask]
    size = run.rounds["active_parameters"]
    assert size[0] == size[1] > size[2] == size[3]
    parts = run.clients[["download_s", "compute_s", "upload_s", "wait_s"]].sum(axis=1)
    durations = (run.rounds["end_s"] - run.rounds["start_s"])[run.clients["round"]]
    assert parts.to_numpy() == pytest.approx(durations.to_numpy(), rel=1e-9)
