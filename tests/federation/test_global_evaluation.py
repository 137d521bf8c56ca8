"""Evaluation on ranks: means over the whole test set, and the losses of single samples in their columns."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.federation import global_evaluation
from fedmpi.federation.global_evaluation import Evaluator, Measured, sample_losses
from fedmpi.federation.messages import LOSSES
from fedmpi.learning.flat import FlatModel
from fedmpi.mpi.collectives import Ranks
from fedmpi.numerics.streams import Purpose, torch_seed

DRAW = np.random.default_rng(0)
X = DRAW.standard_normal((7, 3)).astype(np.float32)
Y = np.array([0, 1, 1, 0, 1, 0, 0])


class Host:
    """A linear model on the CPU; it counts what is loaded."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.module = torch.nn.Linear(3, 2)
        self.model = FlatModel(self.module)
        self.masked = SimpleNamespace(weights="the global weights")
        self.config = SimpleNamespace(
            training=SimpleNamespace(loss="cross_entropy"), experiment=SimpleNamespace(seed=0)
        )
        self.loaded: list[Any] = []

    def load(self, weights: Any) -> None:
        self.loaded.append(weights)

    def loss_of_sample(self, client: int, sample: int) -> float:
        return 100.0 * len(self.loaded) + 10 * client + sample


class OneOfThree:
    """The server among three ranks, whose others send the ``rows`` that are given."""

    rank, size, is_server = 0, 3, True

    def __init__(self, others: list[list[tuple[int, float, float, float]]]) -> None:
        self.others = others
        self.counts: list[int] = []

    def gather_rows(self, rows: np.ndarray, counts: list[int]) -> np.ndarray:
        self.counts = counts
        return np.concatenate([rows, *(np.array(each, rows.dtype) for each in self.others)])


@pytest.mark.parametrize("block", [2, 3, 7, 100])
def test_loss_and_accuracy_are_means_over_all_samples(block: int) -> None:
    host: Any = Host()
    loss, accuracy = Evaluator(Ranks.of(MPI.COMM_SELF), X, Y, block).evaluate(host)
    logits = host.module(torch.from_numpy(X)).detach()
    expected = torch.nn.functional.cross_entropy(logits, torch.from_numpy(Y)).item()
    assert loss == pytest.approx(expected, rel=1e-6)
    assert accuracy == pytest.approx(float((logits.argmax(1).numpy() == Y).mean()))
    assert host.loaded == ["the global weights"]


def test_blocks_go_round_the_ranks_and_their_sums_are_added_in_order() -> None:
    """Four blocks of two samples, the last of one: rank 0 has blocks 0 and 3."""
    host: Any = Host()
    ranks: Any = OneOfThree([[(2, 5.0, 0.0, 2.0)], [(1, 3.0, 2.0, 2.0)]])
    loss, accuracy = Evaluator(ranks, X, Y, 2).evaluate(host)
    assert ranks.counts == [2, 1, 1]
    logits, labels = host.module(torch.from_numpy(X)).detach(), torch.from_numpy(Y)
    mine = [0, 1, 6]
    own = torch.nn.functional.cross_entropy(logits[mine], labels[mine], reduction="sum").item()
    right = int((logits[mine].argmax(1) == labels[mine]).sum())
    assert loss == pytest.approx((own + 3.0 + 5.0) / 7, rel=1e-6)
    assert accuracy == pytest.approx((right + 2) / 7)


def test_unknown_code_gets_a_seed_for_each_block_and_the_same_in_every_round(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host, seen = Host(), []
    host.model.known = False

    def noted(model: Any, blocks: Any, loss: str, seeds: list[int]) -> np.ndarray:
        seen.append(seeds)
        return np.ones((len(blocks), 3))

    monkeypatch.setattr(global_evaluation, "evaluate_blocks", noted)
    ranks: Any = OneOfThree([[(1, 1.0, 1.0, 1.0)], [(2, 1.0, 1.0, 1.0)]])
    unknown: Any = host
    evaluator = Evaluator(ranks, X, Y, 2)
    evaluator.evaluate(unknown)
    evaluator.evaluate(unknown)
    assert seen == [[torch_seed(0, Purpose.EVALUATION, client=block) for block in (0, 3)]] * 2


def test_other_ranks_have_no_mean() -> None:
    host: Any = Host()
    ranks: Any = SimpleNamespace(rank=1, size=2, gather_rows=lambda rows, counts: None)
    assert np.isnan(Evaluator(ranks, X, Y, 2).evaluate(host)).all()


def test_losses_are_those_of_each_clients_sample_in_their_columns() -> None:
    host: Any = Host()
    tried: Any = [("current", "w"), ("pruned", "w pruned")]
    losses = sample_losses(host, [4, 2], {2: 5, 4: 1}, tried)
    assert host.loaded == ["w", "w pruned"]
    assert losses["client"].tolist() == [4, 2]
    assert losses["current"].tolist() == [141.0, 125.0]
    assert losses["pruned"].tolist() == [241.0, 225.0]
    assert losses["previous"].tolist() == losses["probe"].tolist() == [0.0, 0.0]


def test_a_rank_without_clients_loads_nothing() -> None:
    host: Any = Host()
    assert len(sample_losses(host, [], {}, iter([("current", torch.zeros(1))]))) == 0
    assert not host.loaded


def test_losses_of_clients_count_by_their_samples() -> None:
    """Clients 3 and 1, of 30 and 10 samples."""
    records = np.zeros(2, LOSSES)
    records["client"] = [3, 1]
    for name, values in (
        ("previous", (4.0, 8.0)),
        ("current", (1, 5)),
        ("probe", (2, 2)),
        ("pruned", (0, 4)),
    ):
        records[name] = values
    assert Measured(records, None).weighted(np.array([99, 10, 99, 30])) == (5.0, 2.0, 2.0, 1.0)
