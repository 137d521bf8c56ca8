"""What training costs may change where it is done, never among ranks: threads of torch, and accelerators.

The same device and number of threads give the same trace on any number of ranks, bit for bit. Another device or number
of threads adds float32 numbers in another order: losses are then within 1e-4 of each other, relatively, for as long as
no decision depends on the last bits (dense exchanges; top-k selections may differ in single entries), accuracies within
two of the test samples, and bytes and emulated times are equal.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from fedmpi import trace
from fedmpi.learning.seeding import steady_accelerator
from fedmpi.trace.schema import TABLES

RELATIVE = 1e-4
"""How far losses may be apart: some hundred roundings of float32, 6e-8 each, of three rounds."""
TEST_SAMPLES = 359
HOST_COLUMNS = {"host_s", "rank", "overrun_s", "released_s"}
SETTINGS = [
    "experiment.rounds=3",
    "experiment.evaluate_every=1",
    "clients.count=4",
    "sparsification.method=dense",
    "k_control.method=fixed",
]
MODELS = {
    "mlp": ["model.name=mlp"],
    "cnn": ["model.name=cnn", "training.batch_size=32", "training.local_steps=2"],
}
accelerated = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="no accelerator here: torch.cuda.is_available() is false"
)


def run(folder: Path, ranks: int, *overrides: str) -> trace.Trace:
    """A run in a process of its own, without the variables of the launcher around these tests."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith(("PMI", "SLURM_"))}
    command = [sys.executable, "-m", "fedmpi", "run", "quickstart", *SETTINGS, *overrides, "--quiet"]
    done = subprocess.run(
        [*command, "--ranks", str(ranks), "--output", str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return trace.read(folder)


def assert_equal(one: trace.Trace, other: trace.Trace) -> None:
    """The same bits in every column that is not the host's."""
    for table in TABLES:
        left, right = getattr(one, table, None), getattr(other, table, None)
        if left is None or right is None:
            assert left is right
            continue
        for name in set(left.columns) - HOST_COLUMNS:
            np.testing.assert_array_equal(
                left[name].to_numpy(), right[name].to_numpy(), err_msg=f"{table}.{name}"
            )


def assert_close(one: trace.Trace, other: trace.Trace) -> None:
    """Losses and accuracies as near as float32 allows; what devices send and how long it takes is equal."""
    left, right = one.rounds, other.rounds
    assert len(left) == len(right) == 3
    for name in ("train_loss", "test_loss"):
        np.testing.assert_allclose(left[name], right[name], rtol=RELATIVE, err_msg=name)
    np.testing.assert_allclose(left.test_accuracy, right.test_accuracy, rtol=0, atol=2.5 / TEST_SAMPLES)
    for name in ("bytes_up", "bytes_down", "end_s", "k"):
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_threads_of_a_rank(tmp_path: Path) -> None:
    one = run(tmp_path / "one", 1, *MODELS["cnn"])
    two = run(tmp_path / "two", 1, *MODELS["cnn"], "placement.threads_per_rank=2")
    on_two_ranks = run(tmp_path / "ranks", 2, *MODELS["cnn"], "placement.threads_per_rank=2")
    assert two.config["placement"]["threads_per_rank"] == 2
    assert_equal(two, on_two_ranks)
    assert_close(one, two)


@accelerated
@pytest.mark.parametrize("model", MODELS)
def test_an_accelerator(tmp_path: Path, model: str) -> None:
    """Ranks share the device; nothing but the roundings of its sums tells it from the CPU."""
    cpu = run(tmp_path / "cpu", 1, *MODELS[model])
    runs = [run(tmp_path / str(n), n, *MODELS[model], "placement.device=cuda") for n in (1, 2, 3)]
    for other in runs[1:]:
        assert_equal(runs[0], other)
    assert_close(cpu, runs[0])


@accelerated
def test_a_sparse_method_on_an_accelerator_is_the_same_on_all_ranks(tmp_path: Path) -> None:
    fab = ["sparsification.method=fab", "k_control.method=ogd_sign", "placement.device=cuda:0"]
    assert_equal(run(tmp_path / "1", 1, *fab), run(tmp_path / "3", 3, *fab))


@accelerated
def test_a_pruned_run_on_an_accelerator_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    pruned = [
        "pruning.method=prunefl",
        "pruning.reconfigure_every=2",
        "experiment.checkpoint_every=1",
        "placement.device=cuda",
    ]
    whole = run(tmp_path / "whole", 2, *pruned)
    run(tmp_path / "parts", 3, *pruned, "experiment.rounds=2")
    assert_equal(whole, run(tmp_path / "parts", 1, *pruned, "--resume"))


def test_an_accelerator_computes_in_float32_and_one_order(monkeypatch: pytest.MonkeyPatch) -> None:
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    for place, name in (
        (cudnn, "deterministic"),
        (cudnn, "benchmark"),
        (cudnn, "allow_tf32"),
        (matmul, "allow_tf32"),
    ):
        monkeypatch.setattr(place, name, getattr(place, name))  # put back at the end
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    cudnn.benchmark = True
    steady_accelerator()
    assert (cudnn.deterministic, cudnn.benchmark, cudnn.allow_tf32, matmul.allow_tf32) == (
        True,
        False,
        False,
        False,
    )
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
