"""Tests at clients: loss and accuracy of the global model on each client's own samples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.federation import client_tests
from fedmpi.federation.client import ClientData
from fedmpi.federation.client_tests import CLIENT_TEST, ClientTests
from fedmpi.learning.flat import FlatModel
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.placement import Placement
from fedmpi.numerics.streams import Purpose, torch_seed

SIZES = np.array([4, 0, 3])
DRAW = np.random.default_rng(2)
DATA = ClientData(
    x=DRAW.standard_normal((7, 3)).astype(np.float32),
    y=DRAW.integers(0, 2, 7),
    begins=np.array([0, 4, 4]),
    sizes=SIZES,
)
PLACEMENT = Placement(3, (range(3),), ((0,),))


class Host:
    """A linear model on the CPU, which takes the weights that it is told to."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        self.module = torch.nn.Linear(3, 2)
        self.model = FlatModel(self.module)
        self.masked = SimpleNamespace(weights=torch.linspace(-1.0, 1.0, 8))
        self.config = SimpleNamespace(
            training=SimpleNamespace(loss="cross_entropy"), experiment=SimpleNamespace(seed=5)
        )

    def load(self, weights: torch.Tensor) -> None:
        self.model.load(weights)


@pytest.mark.parametrize("block", [1, 2, 100])
def test_each_client_is_tested_on_its_own_samples(block: int) -> None:
    host: Any = Host()
    rows = ClientTests(Ranks.of(MPI.COMM_SELF), PLACEMENT, DATA, block).evaluate(host)
    assert rows is not None
    assert rows["client"].tolist() == [0, 1, 2]
    assert rows["samples"].tolist() == SIZES.tolist()
    assert torch.equal(host.model.vector, host.masked.weights)
    logits, labels = host.module(torch.from_numpy(DATA.x)).detach(), torch.from_numpy(DATA.y)
    for client, own in ((0, slice(0, 4)), (2, slice(4, 7))):
        expected = torch.nn.functional.cross_entropy(logits[own], labels[own]).item()
        assert rows["loss"][client] == pytest.approx(expected, rel=1e-6)
        right = (logits[own].argmax(1) == labels[own]).float().mean().item()
        assert rows["accuracy"][client] == pytest.approx(right, rel=1e-6)
    assert np.isnan([rows["loss"][1], rows["accuracy"][1]]).all()


def test_the_server_puts_the_clients_of_all_ranks_in_order() -> None:
    """It has client 2 itself, another rank the clients 0 and 1."""
    others = np.array([(1, 7, 0.5, 0.25), (0, 9, 1.5, 0.75)], CLIENT_TEST)
    counts: list[int] = []

    def gather_rows(rows: np.ndarray, of_ranks: list[int]) -> np.ndarray:
        counts.extend(of_ranks)
        return np.concatenate([rows, others])

    host: Any = Host()
    ranks: Any = SimpleNamespace(rank=0, gather_rows=gather_rows)
    rows = ClientTests(ranks, Placement(3, (range(2, 3), range(2)), ((0,), (1,))), DATA, 9).evaluate(host)
    assert rows is not None
    assert counts == [1, 2]
    assert rows["client"].tolist() == [0, 1, 2]
    assert rows["samples"].tolist() == [9, 7, 3]


def test_other_ranks_have_no_rows() -> None:
    host: Any = Host()
    ranks: Any = SimpleNamespace(rank=0, gather_rows=lambda rows, counts: None)
    assert ClientTests(ranks, PLACEMENT, DATA, 2).evaluate(host) is None


def test_unknown_code_gets_a_seed_for_each_client_and_block(monkeypatch: pytest.MonkeyPatch) -> None:
    host, seen = Host(), []
    host.model.known = False

    def noted(model: Any, blocks: Any, loss: str, seeds: list[int]) -> np.ndarray:
        seen.append(seeds)
        return np.ones((len(blocks), 3))

    monkeypatch.setattr(client_tests, "evaluate_blocks", noted)
    unknown: Any = host
    ClientTests(Ranks.of(MPI.COMM_SELF), PLACEMENT, DATA, 3).evaluate(unknown)
    expected = [
        [torch_seed(5, Purpose.CLIENT_EVALUATION, block, client) for block in range(blocks)]
        for client, blocks in ((0, 2), (2, 1))
    ]
    assert seen == expected
