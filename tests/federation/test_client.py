"""Clients of a rank, trained one by one and in batches."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mpi4py import MPI

from fedmpi.config import Config, loads
from fedmpi.federation import client as client_module
from fedmpi.federation.client import ClientData, ClientHost, largest_magnitude, largest_magnitudes
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.learning.batched import BatchTrainer
from fedmpi.learning.models import build_flat
from fedmpi.mpi.collectives import Ranks

TEXT = '[model]\nname = "mlp"\nhidden = [5]\n[training]\nlocal_epochs = 1\nbatch_size = 4\nmomentum = 0.5\n'
CONFIG = loads(TEXT)
STEPS = loads(TEXT, ["training.local_epochs=0", "training.local_steps=3"])
SHAPE, CLASSES = (1, 2, 3), 3


def make_host(sizes: list[int], reachable: int | None = None, config: Config = CONFIG) -> ClientHost:
    rng = np.random.default_rng(1)
    count = sum(sizes)
    starts = np.cumsum([0, *sizes])[:-1]
    starts[len(sizes) if reachable is None else reachable :] = -1
    data = ClientData(
        x=rng.integers(0, 256, (count, *SHAPE), dtype=np.uint8),
        y=rng.integers(0, CLASSES, count),
        begins=starts,
        sizes=np.array(sizes),
    )
    model = build_flat(config.model, SHAPE, CLASSES, 0)
    masked = MaskedModel(Ranks.of(MPI.COMM_SELF), model)
    host = ClientHost(config, masked, data, trainer=BatchTrainer(model, config.training.loss))
    host.begin_round()
    return host


def plan_for(clients: np.ndarray) -> RoundPlan:
    return RoundPlan(3, Action.NONE, 0, 0, 0.1, 0.0, clients)


@settings(max_examples=25)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=9), st.data())
def test_batches_hold_what_each_client_does_alone(sizes: list[int], data: st.DataObject) -> None:
    host = make_host(sizes, config=data.draw(st.sampled_from([CONFIG, STEPS])))
    assert host.trainer is not None
    host.trainer.most_clients = data.draw(st.integers(1, 4))
    flags = data.draw(st.lists(st.booleans(), min_size=len(sizes), max_size=len(sizes)))
    clients = np.flatnonzero(flags)
    plan = plan_for(clients)
    seen: list[int] = []
    for batch in host.train_many(clients, plan, need_directions=False):
        assert batch.weights is not None
        assert 0 < len(batch.positions) <= host.trainer.most_clients
        for number, position in enumerate(batch.positions.tolist()):
            weights = batch.weights[number].clone()
            result, _ = host.train(int(clients[position]), plan, None)
            assert torch.equal(weights, host.model.vector)
            assert batch.losses[number] == result.loss
            assert batch.samples[number] == result.samples
            assert batch.probe_samples[number] == result.probe_sample
        seen += batch.positions.tolist()
    assert sorted(seen) == list(range(len(clients)))


@pytest.mark.parametrize(("config", "batches"), [(CONFIG, [[1], [0, 3], [2]]), (STEPS, [[1], [0, 2, 3]])])
def test_who_takes_batches_of_the_same_bounds_trains_together(
    config: Config, batches: list[list[int]]
) -> None:
    host = make_host([6, 3, 9, 6], config=config)
    clients = np.arange(4)
    trained = host.train_many(clients, plan_for(clients), need_directions=False)
    assert [batch.positions.tolist() for batch in trained] == batches


def test_clients_can_go_on_from_weights_of_their_own() -> None:
    host = make_host([4, 6, 4])
    own = np.random.default_rng(2).standard_normal((3, host.model.parameter_count)).astype(np.float32)
    clients = np.arange(3)
    for batch in host.train_many(clients, plan_for(clients), False, lambda client: own[client]):
        assert batch.weights is not None
        for number, client in enumerate(batch.positions.tolist()):
            weights = batch.weights[number].clone()
            host.train(client, plan_for(clients), None, torch.from_numpy(own[client]))
            assert torch.equal(weights, host.model.vector)


def test_a_batchs_host_seconds_are_shared_among_its_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock goes on by 6 s whenever it is read: a batch of one client, and then one of three, take as long."""
    seconds = itertools.count(0.0, 6.0)
    monkeypatch.setattr(client_module, "time", SimpleNamespace(perf_counter=lambda: next(seconds)))
    host = make_host([6, 3, 9, 6], config=STEPS)
    clients = np.arange(4)
    trained = host.train_many(clients, plan_for(clients), need_directions=False)
    assert [batch.host_s for batch in trained] == [6.0, 2.0]
    assert host.train(0, plan_for(clients), None)[1] == 6.0


def test_a_client_without_data_here_is_refused() -> None:
    host = make_host([4, 4], reachable=1)
    with pytest.raises(LookupError, match="have no data on this rank"):
        list(host.train_many(np.array([0, 1]), plan_for(np.array([0, 1])), need_directions=False))


def test_largest_magnitudes_are_those_of_each_row() -> None:
    rows = torch.tensor([[1.0, -3.0], [2.0, 0.5], [np.nan, 1.0], [1.0, -np.inf], [0.0, -0.0]])
    expected = [largest_magnitude(row) for row in rows]
    np.testing.assert_array_equal(largest_magnitudes(rows), expected)
    np.testing.assert_array_equal(largest_magnitudes(torch.empty(2, 0)), [0.0, 0.0])
    assert largest_magnitude(torch.empty(0)) == 0.0
