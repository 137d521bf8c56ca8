"""The presets and sweeps of the PruneFL study, beside the published constants and beside each other."""

from __future__ import annotations

import tomllib
from math import inf

import numpy as np
import pytest

from fedmpi.checkpoint.ticket import ticket_folder
from fedmpi.cli import host_time
from fedmpi.cli import main as cli
from fedmpi.config import load, preset_names, validate
from fedmpi.federation import distribution
from fedmpi.learning.datasets import Dataset
from fedmpi.sweeps import plan

PUBLISHED = {
    "prunefl-femnist": ("conv2_femnist", "conv2", "bce_one_hot"),
    "prunefl-cifar10": ("vgg11_cifar10", "vgg11", "bce_one_hot"),
    "prunefl-imagenet100": ("resnet18_imagenet100", "resnet18", "cross_entropy"),
    "prunefl-celeba": ("conv4_celeba", "conv4", "cross_entropy"),
}
PRESETS = [*PUBLISHED, "prunefl-femnist-small"]
SHAPES = {
    "conv2": ((1, 28, 28), 62, 6_603_710, 0),
    "vgg11": ((3, 32, 32), 10, 9_750_922, 0),
    "resnet18": ((3, 168, 168), 100, 11_227_812, 9_600),
    "conv4": ((3, 84, 84), 2, 31_202, 256),
}
"""What a model is trained on: the shape of a sample, the classes; the parameters and buffers that it then has."""

STUDIES = ["prunefl-study", "prunefl-study-small"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_presets_have_the_published_constants(name, golden_dir):
    experiment, model, loss = PUBLISHED[name]
    text = (golden_dir / "prunefl_profiles.toml").read_text()
    published = tomllib.loads(text)[experiment]
    config = load(name)
    validate(config)
    assert config.experiment.rounds == published["rounds"]
    assert (config.clients.count, config.clients.per_round) == (published["clients"], 0)
    assert config.training.local_steps == published["local_steps"]
    assert config.training.batch_size == published["batch_size"]
    assert config.training.learning_rate == published["learning_rate"]
    half_life = published.get("learning_rate_half_life_rounds", inf)
    assert config.training.learning_rate_half_life_rounds == half_life
    assert (config.model.name, config.training.loss) == (model, loss)


def test_all_presets_of_the_study_prune_alike():
    names = [name for name in preset_names() if name.startswith("prunefl-")]
    assert set(PRESETS) == set(names)
    assert len({load(name).pruning for name in names}) == 1
    assert load("prunefl-femnist").pruning.initial.where == "client"
    assert len({load(name).emulation for name in names}) == 1


def test_the_small_preset_is_the_large_one_but_shorter():
    small, large = load("prunefl-femnist-small"), load("prunefl-femnist")
    for section in ("clients", "data", "model", "training", "sparsification", "pruning", "emulation"):
        assert getattr(small, section) == getattr(large, section)
    assert (small.experiment.rounds, small.experiment.evaluate_every) == (400, 10)


@pytest.mark.parametrize("name", PRESETS)
def test_check_without_the_data_names_their_folder(name, tmp_path, capsys):
    assert cli.main(["check", name, f"data.path={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert str(tmp_path) in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", PRESETS)
def test_check_with_data_of_the_same_shape(name, tmp_path, monkeypatch, capsys):
    shape, classes, parameters, buffers = SHAPES[load(name).model.name]
    x, y = np.zeros((40, *shape), np.uint8), np.arange(40) % classes
    data = Dataset(x, y, np.arange(40) // 2, x[:4], y[:4], classes)
    monkeypatch.setattr(distribution, "load", lambda section: data)
    monkeypatch.setattr(host_time, "check_host_time", lambda *arguments: "rounds of large models take long")
    assert cli.main(["check", name, "--ranks", "11", f"data.path={tmp_path}"]) == 0
    out = capsys.readouterr().out
    bytes_down = 4 * (parameters + buffers) + 16
    assert f"model: D = {parameters} parameters" in out
    assert f"first round: 10 participants, k = {parameters}; bytes of each, down {bytes_down} " in out
    assert "rank 1 to 10: clients 0 to 9, 1 client each, " in out


@pytest.mark.parametrize("name", STUDIES)
def test_studies_compare_the_published_methods(name):
    runs = {run.label: run.config for run in plan(name).runs}
    for label in ("none", "snip", "iterative", "online", "prunefl"):
        assert (runs[label].pruning.method, runs[label].sparsification.method) == (label, "dense")
    for label, pruning in (("fab", "none"), ("prunefl_fab", "prunefl")):
        assert (runs[label].pruning.method, runs[label].sparsification.method) == (pruning, "fab")
        assert runs[label].k_control.method == "ogd_sign"
    assert {label for label, config in runs.items() if config.pruning.initial.where == "client"} == {
        label for label in runs if label.startswith("prunefl")
    }
    assert runs["snip"].pruning.target_density == runs["iterative"].pruning.target_density


@pytest.mark.parametrize("name", STUDIES)
def test_studies_have_three_seeds_of_every_run(name):
    for sweep in (plan(name), plan(name.replace("study", "lottery"))):
        seeds = {run.label: set() for run in sweep.runs}
        for run in sweep.runs:
            seeds[run.label].add(run.config.experiment.seed)
        assert all(found == {1, 2, 3} for found in seeds.values())


def test_the_large_study_selects_clients_too():
    runs = {run.label: run.config for run in plan("prunefl-study").runs}
    selected = {name: config.clients for name, config in runs.items() if name.endswith("-selected")}
    assert len(selected) == len(runs) // 2 == 7
    assert all((clients.count, clients.per_round) == (193, 10) for clients in selected.values())


@pytest.mark.parametrize("name", STUDIES)
def test_lottery_tickets_are_taken_from_the_run_of_the_same_seed(name):
    study = plan(name)
    folders = {f"runs/{study.name}/{run.name}": run.config for run in study.runs if run.label == "prunefl"}
    assert len(folders) == 3
    for run in plan(name.replace("study", "lottery")).runs:
        assert run.config.pruning.method == run.label
        ticketed = folders[str(ticket_folder(run.config))]
        assert ticketed.experiment.seed == run.config.experiment.seed
        for section in ("clients", "data", "model", "training"):
            assert getattr(run.config, section) == getattr(ticketed, section)
