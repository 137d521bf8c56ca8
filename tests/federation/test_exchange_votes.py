"""Rounds in which clients vote with masks of their own: what the server makes of it, against a plain mean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from mpi4py import MPI
from numpy.typing import NDArray

from fedmpi.aggregation import Aggregator
from fedmpi.aggregation.means import MEAN
from fedmpi.aggregation.server_optimizers import fedavgm
from fedmpi.config.schema import PruningConfig
from fedmpi.federation.exchange import Exchanged, Roster, Trained
from fedmpi.federation.exchange_dense import DenseExchange
from fedmpi.federation.exchange_votes import VotingExchange, mean_of_voters
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.learning.training import LocalResult
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning import NONE, Mask, Needs, Setup

PARAMETERS, BUFFERS, CLIENTS = 40, 3, 4
SIZES = np.array([3, 10, 6, 1])
DRAW = np.random.default_rng(0)
START = DRAW.standard_normal(PARAMETERS + BUFFERS).astype(np.float32)
ENDS = DRAW.standard_normal((CLIENTS, PARAMETERS + BUFFERS)).astype(np.float32)
FLAGS = DRAW.random((CLIENTS, PARAMETERS)) < 0.5
FLAGS[:, 32:36] = [True, False, False, False]  # three that nobody kept
FLAGS[:, 36:] = True
ROUND = Mask.of((np.arange(PARAMETERS) % 3 == 0) | (np.arange(PARAMETERS) >= 36))


@dataclass(frozen=True)
class Layer:
    start: int
    stop: int
    prunable: bool


LAYERS = (Layer(0, 36, True), Layer(36, PARAMETERS, False))


class Model:
    parameter_count, buffer_count, layers = PARAMETERS, BUFFERS, LAYERS

    def __init__(self) -> None:
        self.vector = torch.from_numpy(START.copy())


class Host:
    """Clients that end where ``ENDS`` says, under the masks that they take."""

    importance = trainer = None

    def __init__(self, ranks: Ranks) -> None:
        flat: Any = Model()
        self.model = flat
        self.masked = MaskedModel(ranks, flat)
        self.masked.use(ROUND, 0)
        self.end = np.empty(0, np.float32)
        self.kept = np.empty(0, np.bool_)

    def train(
        self, client: int, plan: RoundPlan, directions: Any, start: Any = None, own_mask: Any = None
    ) -> tuple[LocalResult, float]:
        assert (directions, start) == (None, None)
        self.end = ENDS[client].copy()
        flags = ROUND.flags()
        if own_mask is not None:
            flags, self.kept = own_mask(ENDS[client, :PARAMETERS], np.full(PARAMETERS, client, np.float32))
        self.end[:PARAMETERS][~flags] = 0.0
        return LocalResult(samples=1, loss=0.0, steps=1, probe_sample=0), 0.0

    def update_into(self, row: torch.Tensor) -> None:
        row.copy_(self.masked.weights - torch.from_numpy(self.end))


def own_mask(
    setup: Setup, round_index: int, weights: NDArray[np.float32], gradient: NDArray[np.float32], mask: Mask
) -> Mask:
    assert round_index == 5
    assert mask is ROUND
    client = int(gradient[0])
    assert (weights == ENDS[client, :PARAMETERS]).all()
    return ROUND if client == 3 else Mask.of(FLAGS[client])


def own_kept(
    setup: Setup, round_index: int, weights: NDArray[np.float32], gradient: NDArray[np.float32], mask: Mask
) -> Mask:
    assert mask is ROUND
    assert (weights == ENDS[int(gradient[0]), :PARAMETERS]).all()
    return Mask.of(FLAGS[int(gradient[0])] & ROUND.flags())


def exchange_of(aggregator: Aggregator = MEAN, **functions: Any) -> tuple[VotingExchange, Host]:
    ranks, memory = Ranks.of(MPI.COMM_SELF), GroupMemory(MPI.COMM_SELF)
    host: Any = Host(ranks)
    dense = DenseExchange(ranks, memory, host, aggregator, ClientRows(memory, np.arange(0), CLIENTS, 1))
    host.masked.use(ROUND, 0)
    setup = Setup(PruningConfig(), 10, LAYERS)
    return VotingExchange(ranks, dense, replace(NONE, own_mask=own_mask, **functions), setup), host


def test_a_client_is_told_which_weights_keep_their_values() -> None:
    """All of the round's mask, unless the method says which."""
    for functions in ({}, {"own_kept": own_kept}):
        exchange, host = exchange_of(**functions)
        clients = np.arange(CLIENTS)
        plan = RoundPlan(5, Action.NONE, 0, 0, 1.0, 0.0, clients, Needs.VOTES | Needs.WEIGHTS)
        exchange.begin(plan, clients)
        for client in clients.tolist():
            exchange.train(client, plan)
            flags = FLAGS[client] & ROUND.flags() if functions else ROUND.flags()
            assert host.kept.tolist() == flags.tolist()


def one_round(
    exchange: VotingExchange, accepted: Sequence[int], needs: Needs = Needs.VOTES | Needs.WEIGHTS
) -> tuple[Exchanged, list[Trained]]:
    clients = np.arange(CLIENTS)
    plan = RoundPlan(5, Action.NONE, 0, 0, 1.0, 0.0, clients, needs)
    exchange.begin(plan, clients)
    trained = [exchange.train(client, plan) for client in clients.tolist()]
    roster = Roster(
        clients=clients,
        accepted=np.isin(clients, accepted),
        sizes=SIZES,
        message_bytes=np.array([each.message_bytes for each in trained]),
        max_abs=float(max((trained[client].max_abs for client in accepted), default=0.0)),
        dealt=[clients],
        trained=clients >= 0,
    )
    return exchange.finish(plan, roster), trained


def masks() -> NDArray[np.bool_]:
    return np.stack([*FLAGS[:3], ROUND.flags()])


@pytest.mark.parametrize("accepted", [(0, 1, 2, 3), (1, 2), (3,)])
def test_w_is_the_mean_of_those_who_kept_an_entry(accepted: tuple[int, ...]) -> None:
    exchange, host = exchange_of()
    exchanged, _ = one_round(exchange, accepted)
    chosen, samples = masks()[list(accepted)], SIZES[list(accepted)]
    votes = samples @ chosen
    assert exchanged.votes is not None
    assert exchanged.votes.tolist() == votes.tolist()
    sums = samples @ np.where(chosen, ENDS[list(accepted), :PARAMETERS], 0.0)
    expected = np.divide(sums, votes, out=np.zeros(PARAMETERS), where=votes > 0)
    found = host.masked.weights.numpy()
    np.testing.assert_allclose(found[:PARAMETERS], expected, rtol=0, atol=5e-7)
    assert (found[:PARAMETERS][votes == 0] == 0).all()
    assert (votes == 0).any()
    buffers = np.average(ENDS[list(accepted), PARAMETERS:], axis=0, weights=samples)
    np.testing.assert_allclose(found[PARAMETERS:], buffers, rtol=0, atol=5e-7)
    assert exchanged.changed is not None
    assert exchanged.changed.tolist() == np.flatnonzero((votes > 0) | ROUND.flags()).tolist()
    assert exchanged.k_down == ROUND.count


def test_a_vote_in_w_is_a_change_for_who_has_missed_it() -> None:
    exchange, _ = exchange_of()
    exchanged, _ = one_round(exchange, (0, 1, 2, 3))
    assert exchanged.bytes_down == exchange.message_bytes_down(ROUND.count)
    assert (exchanged.k_down_probe, exchanged.probe_bytes) == (0, 0)


def test_what_is_charged_are_kept_values_and_a_mask_that_changed() -> None:
    exchange, _ = exchange_of()
    exchanged, trained = one_round(exchange, (0, 2, 3))
    kept = masks().sum(axis=1)
    mask_bytes = [16 + min(5, 4 * int(count)) for count in masks()[:, :36].sum(axis=1)]
    mask_bytes[3] = 0  # the last client went on under the mask of the round
    assert [each.entries for each in trained] == kept.tolist()
    expected = [16 + 4 * n + 4 * BUFFERS + extra for n, extra in zip(kept.tolist(), mask_bytes, strict=True)]
    assert [each.message_bytes for each in trained] == expected
    assert exchanged.entries_used.tolist() == [kept[0], 0, kept[2], kept[3]]


def test_where_nobody_is_accepted_nothing_changes() -> None:
    exchange, host = exchange_of()
    before = host.masked.weights.clone()
    exchanged, _ = one_round(exchange, ())
    assert torch.equal(host.masked.weights, before)
    assert exchanged.votes is None
    assert exchanged.changed is not None
    assert (len(exchanged.changed), exchanged.k_down, exchanged.bytes_down) == (0, 0, 0)
    assert (exchanged.k_down_probe, exchanged.probe_bytes) == (0, 0)
    assert exchanged.entries_used.tolist() == [0] * CLIENTS


def test_what_is_kept_is_that_of_dense_averaging() -> None:
    exchange, again = exchange_of(fedavgm())[0], exchange_of(fedavgm())[0]
    one_round(exchange, (0, 1), Needs.NOTHING)
    state = exchange.server_state()
    assert state["aggregator.m"].any()
    again.restore_server({name: array.copy() for name, array in state.items()})
    assert again.server_state()["aggregator.m"].tolist() == state["aggregator.m"].tolist()
    assert exchange.client_state(0) == {}
    with pytest.raises(ValueError, match="which dense averaging does not keep"):
        again.restore_client(0, {"weights": np.zeros(2)})
    assert (
        exchange.message_bytes_up(1) == exchange.message_bytes_down(1) == 16 + 4 * ROUND.count + 4 * BUFFERS
    )
    assert list(exchange.weights_tried()) == []
    fixed, each = exchange.bytes_by_size(ROUND.count)
    assert fixed + each * np.count_nonzero(ROUND.flags()[:36]) == exchange.message_bytes_up(1)


def test_other_rounds_are_those_of_dense_averaging() -> None:
    ends = []
    for votes_first in (False, True):
        exchange, host = exchange_of()
        if votes_first:
            one_round(exchange, ())
            host.masked.use(ROUND, 6)
        exchanged, trained = one_round(exchange, (0, 1), Needs.NOTHING)
        assert exchanged.votes is None
        assert {each.entries for each in trained} == {ROUND.count}
        assert {each.message_bytes for each in trained} == {16 + 4 * ROUND.count + 4 * BUFFERS}
        ends.append(host.masked.weights.clone())
    assert torch.equal(*ends)
    mean = np.average(ENDS[:2, :PARAMETERS], axis=0, weights=SIZES[:2])
    np.testing.assert_allclose(ends[0].numpy()[:PARAMETERS], mean * ROUND.flags(), rtol=0, atol=5e-7)


@given(st.integers(1, 2**26 - 1), st.integers(0, 2**32 - 1))
def test_where_all_voted_the_bits_of_the_mean_stay(total: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    mean = rng.standard_normal(20).astype(np.float32)
    assert mean_of_voters(mean, np.full(20, total, np.int32), total).tolist() == mean.tolist()
    votes = rng.integers(0, total + 1, 20).astype(np.int32)
    found = mean_of_voters(mean, votes, total)
    assert (found[votes == 0] == 0).all()
    some = votes > 0
    expected = mean[some].astype(np.float64) * total / votes[some]
    np.testing.assert_allclose(found[some], expected, rtol=1.2e-7)
