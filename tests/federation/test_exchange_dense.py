"""Dense exchanges on one rank: how w follows the updates under each aggregator and mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi import trace
from fedmpi.aggregation import Aggregator
from fedmpi.aggregation.means import MEAN, trimmed_mean
from fedmpi.aggregation.server_optimizers import fedavgm
from fedmpi.cli import main as cli
from fedmpi.federation.exchange import Exchanged, Roster, TrainedBatch
from fedmpi.federation.exchange_dense import DenseExchange
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.learning.training import LocalResult
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning.mask import Mask

PARAMETERS, BUFFERS, CLIENTS = 20, 2, 4
SIZES = np.array([1, 2, 3, 4])
DRAW = np.random.default_rng(0)
UPDATES = DRAW.integers(-64, 64, (CLIENTS, PARAMETERS + BUFFERS)).astype(np.float32) / 16
HALF = np.arange(PARAMETERS) % 2 == 0
NEARLY_ALL = np.arange(PARAMETERS) != 3
"""With one of twenty parameters pruned, a model travels with its zeros."""


@dataclass(frozen=True)
class Layer:
    start: int
    stop: int
    prunable: bool


class Model:
    parameter_count, buffer_count = PARAMETERS, BUFFERS
    layers = (Layer(0, PARAMETERS, True),)

    def __init__(self) -> None:
        self.vector = torch.zeros(PARAMETERS + BUFFERS)


class Host:
    """Clients whose updates are given: ``updates`` (N, D + B), masked as training would."""

    importance = None

    def __init__(self, ranks: Ranks, updates: np.ndarray) -> None:
        flat: Any = Model()
        self.model = flat
        self.masked = MaskedModel(ranks, flat)
        self.updates = updates
        self._client = -1

    def train(self, client: int, plan: RoundPlan, *unused: Any) -> tuple[LocalResult, float]:
        self._client = client
        return LocalResult(samples=1, loss=0.0, steps=1, probe_sample=0), 0.0

    def update_into(self, row: torch.Tensor) -> None:
        row.copy_(torch.from_numpy(self.updates[self._client]))

    def train_many(
        self, clients: np.ndarray, plan: RoundPlan, need_directions: bool, start_of: Any
    ) -> Iterator[TrainedBatch]:
        """First clients at the ends, then those between; directions are the updates over the learning rate."""
        for at in (np.array([0, 3]), np.array([1, 2])):
            ended = torch.from_numpy(self.updates[clients[at]])
            directions = ended[:, :PARAMETERS] / plan.learning_rate if need_directions else None
            weights = None if need_directions else self.masked.weights - ended
            ones = np.ones(2, np.int64)
            yield TrainedBatch(at, ones, np.zeros(2), 0 * ones, weights, directions, 0.0)

    def updates_into(self, weights: torch.Tensor, rows: torch.Tensor) -> None:
        torch.sub(self.masked.weights, weights, out=rows)


def exchange_of(aggregator: Aggregator, updates: np.ndarray = UPDATES) -> DenseExchange:
    ranks = Ranks.of(MPI.COMM_SELF)
    host: Any = Host(ranks, updates.copy())
    memory = GroupMemory(MPI.COMM_SELF)
    return DenseExchange(ranks, memory, host, aggregator, ClientRows(memory, np.arange(0), CLIENTS, 1))


def one_round(exchange: DenseExchange, accepted: Sequence[int] = (0, 1, 2, 3)) -> Exchanged:
    clients = np.arange(CLIENTS)
    plan = RoundPlan(0, Action.NONE, 0, 0, 1.0, 0.0, clients)
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
    return exchange.finish(plan, roster)


def weights_of(exchange: DenseExchange) -> np.ndarray:
    return exchange.host.masked.weights.numpy()


def weighted_mean(accepted: Sequence[int] = (0, 1, 2, 3)) -> np.ndarray:
    return np.average(UPDATES[list(accepted)], axis=0, weights=SIZES[list(accepted)])


class Seen:
    """An aggregator that keeps what it is given, and moves the model by twice the sum of what arrived."""

    def __init__(self) -> None:
        self.updates: list[np.ndarray] = []
        self.samples: list[np.ndarray] = []
        self.indices: list[np.ndarray | None] = []
        self.means: list[np.ndarray] = []

    def combine(self, updates: np.ndarray, samples: np.ndarray) -> np.ndarray:
        self.updates.append(updates.copy())
        self.samples.append(samples.copy())
        return updates.sum(axis=0)

    def step(self, state, mean: np.ndarray, indices: np.ndarray | None):
        self.indices.append(indices)
        self.means.append(mean.copy())
        return state, 2 * mean

    def aggregator(self, combine: bool) -> Aggregator:
        return Aggregator(summary="Seen.", combine=self.combine if combine else None, step=self.step)


def test_w_follows_the_mean_weighted_by_samples() -> None:
    exchange = exchange_of(MEAN)
    one_round(exchange)
    np.testing.assert_allclose(weights_of(exchange), -weighted_mean(), rtol=1e-6)
    assert exchange.server_state() == {}


def test_a_server_optimizer_steps_parameters_and_leaves_buffers_plain_means() -> None:
    exchange = exchange_of(fedavgm(learning_rate=0.5, momentum=0.5))
    exchanged = [one_round(exchange), one_round(exchange)]
    mean = weighted_mean()
    steps = np.where(np.arange(PARAMETERS + BUFFERS) < PARAMETERS, 0.5 + 0.5 * 1.5, 2.0)
    np.testing.assert_allclose(weights_of(exchange), -steps * mean, rtol=1e-6)
    assert [each.k_down for each in exchanged] == [PARAMETERS] * 2
    assert all(each.changed is None for each in exchanged)


@pytest.mark.parametrize("accepted", [(0, 1, 2, 3), (1, 3)])
def test_updates_of_the_accepted_are_gathered_with_their_samples(accepted: tuple[int, ...]) -> None:
    seen = Seen()
    exchange = exchange_of(seen.aggregator(combine=True))
    one_round(exchange, accepted)
    np.testing.assert_array_equal(seen.updates[0], UPDATES[list(accepted), :PARAMETERS])
    np.testing.assert_array_equal(seen.samples[0], SIZES[list(accepted)])
    expected = -2 * UPDATES[list(accepted)].sum(axis=0)
    np.testing.assert_array_equal(weights_of(exchange)[:PARAMETERS], expected[:PARAMETERS])
    np.testing.assert_allclose(
        weights_of(exchange)[PARAMETERS:], -weighted_mean(accepted)[PARAMETERS:], rtol=1e-6
    )


def test_updates_reach_the_aggregator_in_client_order_whoever_trained_them() -> None:
    seen = Seen()
    exchange = exchange_of(seen.aggregator(combine=True))
    clients, order = np.arange(CLIENTS), np.array([2, 0, 3, 1])
    plan = RoundPlan(0, Action.NONE, 0, 0, 1.0, 0.0, clients)
    exchange.begin(plan, order)
    for client in order.tolist():
        exchange.train(client, plan)
    exchange.finish(plan, Roster(clients, clients != 3, SIZES, SIZES, 9.0, [order], clients >= 0))
    np.testing.assert_array_equal(seen.updates[0], UPDATES[:3, :PARAMETERS])
    np.testing.assert_array_equal(seen.samples[0], SIZES[:3])


def test_rounds_of_fewer_participants_see_nothing_of_those_before() -> None:
    seen = Seen()
    exchange = exchange_of(seen.aggregator(combine=True))
    one_round(exchange)
    clients = np.array([1, 3])
    plan = RoundPlan(1, Action.NONE, 0, 0, 1.0, 0.0, clients)
    exchange.begin(plan, clients)
    for client in clients.tolist():
        exchange.train(client, plan)
    taken = np.array([True, True])
    exchange.finish(plan, Roster(clients, taken, SIZES[clients], SIZES[clients], 9.0, [clients], taken))
    np.testing.assert_array_equal(seen.updates[1], UPDATES[clients, :PARAMETERS])
    np.testing.assert_array_equal(seen.samples[1], SIZES[clients])


def test_a_trimmed_mean_takes_clients_alike() -> None:
    exchange = exchange_of(trimmed_mean(0.25))
    one_round(exchange)
    expected = np.sort(UPDATES, axis=0)[1:3].mean(axis=0)
    np.testing.assert_allclose(weights_of(exchange)[:PARAMETERS], -expected[:PARAMETERS], rtol=1e-6)


@pytest.mark.parametrize("combine", [False, True])
def test_without_accepted_updates_there_is_no_step(combine: bool) -> None:
    seen = Seen()
    exchange = exchange_of(seen.aggregator(combine))
    exchanged = one_round(exchange, accepted=())
    assert exchanged.k_down == 0
    assert not seen.indices
    assert not weights_of(exchange).any()


@pytest.mark.parametrize("combine", [False, True])
@pytest.mark.parametrize(("active", "travelling"), [(HALF, PARAMETERS // 2), (NEARLY_ALL, PARAMETERS)])
def test_under_a_mask_active_parameters_alone_are_stepped(
    active: np.ndarray, travelling: int, combine: bool
) -> None:
    """Whether values travel alone, or with the zeros of a model that is nearly dense."""
    masked = UPDATES * np.append(active, [True] * BUFFERS)
    seen = Seen()
    exchange = exchange_of(seen.aggregator(combine), masked)
    exchange.host.masked.use(Mask.of(active), 0)
    assert exchange.dimension == travelling
    one_round(exchange)
    parameters = masked.sum(axis=0) if combine else weighted_mean()
    assert seen.indices[0] is not None
    np.testing.assert_array_equal(seen.indices[0], np.flatnonzero(active))
    np.testing.assert_allclose(seen.means[0], parameters[:PARAMETERS][active], rtol=1e-6)
    expected = np.where(active, -2 * parameters[:PARAMETERS], 0)
    np.testing.assert_allclose(weights_of(exchange)[:PARAMETERS], expected, rtol=1e-6)
    np.testing.assert_allclose(weights_of(exchange)[PARAMETERS:], -weighted_mean()[PARAMETERS:], rtol=1e-6)


def test_what_is_pruned_loses_its_momentum_for_good() -> None:
    exchange = exchange_of(fedavgm(momentum=0.5))
    one_round(exchange)
    exchange.host.masked.use(Mask.of(HALF), 1)
    exchange.host.masked.use(Mask(PARAMETERS), 2)
    momentum = exchange.server_state()["aggregator.m"]
    np.testing.assert_allclose(momentum, np.where(HALF, weighted_mean()[:PARAMETERS], 0), rtol=1e-6)
    before = weights_of(exchange).copy()
    assert not before[:PARAMETERS][~HALF].any()
    one_round(exchange)
    change = (before - weights_of(exchange))[:PARAMETERS]
    np.testing.assert_allclose(change, np.where(HALF, 1.5, 1.0) * weighted_mean()[:PARAMETERS], rtol=1e-5)


def test_a_run_goes_on_with_the_state_of_its_checkpoint() -> None:
    whole, first, second = (exchange_of(fedavgm()) for _ in range(3))
    one_round(whole)
    one_round(whole)
    one_round(first)
    second.host.masked.weights.copy_(first.host.masked.weights)
    second.restore_server(first.server_state())
    one_round(second)
    np.testing.assert_array_equal(weights_of(second), weights_of(whole))


def test_fedadam_learns_digits_sooner_than_the_mean(tmp_path: Path) -> None:
    """With small local steps, whose mean moves the model slowly."""
    accuracy = {}
    for name, options in {"mean": [], "fedadam": ["federation.options.learning_rate=0.03"]}.items():
        command = ["run", "quickstart", "k_control.method=fixed", "sparsification.method=dense"]
        command += ["experiment.rounds=15", f"federation.aggregator={name}", *options]
        assert cli.main([*command, "--output", str(tmp_path / name), "--quiet"]) == 0
        accuracy[name] = trace.read(tmp_path / name).rounds["test_accuracy"].iloc[-1]
    assert accuracy["fedadam"] > 0.85
    assert accuracy["fedadam"] > accuracy["mean"] + 0.1


# --- periods ---


def periodic(period: int) -> DenseExchange:
    ranks = Ranks.of(MPI.COMM_SELF)
    host: Any = Host(ranks, UPDATES.copy())
    memory = GroupMemory(MPI.COMM_SELF)
    own = ClientRows(memory, np.arange(CLIENTS), CLIENTS, host.model.vector.numel())
    return DenseExchange(ranks, memory, host, MEAN, own, period)


def numbered_round(exchange: DenseExchange, index: int) -> tuple[Exchanged, list[Any]]:
    clients = np.arange(CLIENTS)
    plan = RoundPlan(index, Action.NONE, 0, 0, 1.0, 0.0, clients)
    exchange.begin(plan, clients)
    trained = [exchange.train(client, plan) for client in clients.tolist()]
    sent = np.array([each.message_bytes for each in trained])
    largest = max(each.max_abs for each in trained)
    return exchange.finish(
        plan, Roster(clients, SIZES > 0, SIZES, sent, largest, [clients], SIZES > 0)
    ), trained


def test_a_round_without_an_exchange_sends_nothing() -> None:
    exchanged, trained = numbered_round(periodic(2), 0)
    assert exchanged.changed is not None
    assert not len(exchanged.changed)
    assert (exchanged.k_down, exchanged.k_down_probe) == (0, 0)
    assert (exchanged.bytes_down, exchanged.probe_bytes) == (0, 0)
    assert exchanged.entries_used.tolist() == [0] * CLIENTS
    assert [(each.entries, each.message_bytes) for each in trained] == [(0, 0)] * CLIENTS


def test_only_the_last_round_of_a_period_exchanges() -> None:
    exchange = periodic(3)
    starts: list[Any] = []
    host: Any = exchange.host
    train = host.train

    def noted(client: int, plan: RoundPlan, directions: Any, start: Any) -> Any:
        starts.append(None if start is None else start.clone())
        host.model.vector[:] = client + 10 * plan.round_index
        return train(client, plan)

    host.train = noted
    whole = 16 + 4 * PARAMETERS + 4 * BUFFERS
    for index, exchanges in enumerate([False, False, True, False]):
        exchanged, trained = numbered_round(exchange, index)
        assert [each.message_bytes for each in trained] == [whole * exchanges] * CLIENTS
        assert [each.entries for each in trained] == [PARAMETERS * exchanges] * CLIENTS
        assert exchanged.bytes_down == whole * exchanges
        assert exchanged.k_down == PARAMETERS * exchanges
        assert (exchanged.changed is None) == exchanges
        assert exchanged.entries_used.tolist() == [PARAMETERS * exchanges] * CLIENTS
        assert weights_of(exchange).any() == (index >= 2)
        carried = [bool(exchange.client_state(client)) for client in range(CLIENTS)]
        assert carried == [not exchanges] * CLIENTS
    by_round = [starts[at : at + CLIENTS] for at in range(0, 16, CLIENTS)]
    assert [each is None for each in starts] == [True] * 4 + [False] * 8 + [True] * 4
    assert [float(start[0]) for start in by_round[1]] == [0.0, 1.0, 2.0, 3.0]
    assert [float(start[0]) for start in by_round[2]] == [10.0, 11.0, 12.0, 13.0]
    np.testing.assert_allclose(weights_of(exchange), -weighted_mean(), rtol=1e-6)


def test_own_weights_go_on_from_a_checkpoint() -> None:
    exchange, again = periodic(2), periodic(2)
    exchange.host.model.vector[:] = 2.5
    numbered_round(exchange, 0)
    again.restore_client(1, exchange.client_state(1))
    assert again.client_state(1)["weights"].tolist() == [2.5] * (PARAMETERS + BUFFERS)
    assert again.client_state(0) == {}
    with pytest.raises(ValueError, match="which dense averaging does not keep"):
        periodic(1).restore_client(1, exchange.client_state(1))
    with pytest.raises(ValueError, match="which dense averaging does not keep"):
        again.restore_client(1, {"accumulated": np.zeros(2)})


def test_a_rejected_update_counts_for_nothing() -> None:
    exchange = exchange_of(MEAN)
    exchanged = one_round(exchange, accepted=(1, 3))
    np.testing.assert_allclose(weights_of(exchange), -weighted_mean((1, 3)), rtol=1e-6)
    assert exchanged.entries_used.tolist() == [0, PARAMETERS, 0, PARAMETERS]


def test_bytes_are_those_of_what_is_active() -> None:
    exchange = exchange_of(MEAN)
    exchange.host.masked.use(Mask.of(HALF), 0)
    assert exchange.message_bytes_up(5) == 16 + 4 * PARAMETERS // 2 + 4 * BUFFERS
    assert exchange.message_bytes_down(5) == exchange.message_bytes_up(5)
    assert exchange.message_bytes_up(0) == 0
    assert exchange.bytes_by_size(5) == (16 + 4 * BUFFERS, 4)
    assert list(exchange.weights_tried()) == []


def test_under_a_mask_updates_are_taken_from_directions_where_importance_needs_these() -> None:
    """The directions are the updates over a learning rate of 1/2, what is pruned included."""
    exchange = exchange_of(MEAN)
    host: Any = exchange.host
    host.importance = "asked for"
    host.masked.use(Mask.of(HALF), 0)
    train = host.train

    def with_directions(client: int, plan: RoundPlan, directions: torch.Tensor, start: Any) -> Any:
        assert start is None
        directions.copy_(torch.from_numpy(2 * UPDATES[client, :PARAMETERS]))
        return train(client, plan)

    def tail_update_into(row: torch.Tensor) -> None:
        row.copy_(torch.from_numpy(UPDATES[host._client, PARAMETERS:]))

    host.train, host.tail_update_into, host.update_into = with_directions, tail_update_into, None
    clients = np.arange(CLIENTS)
    plan = RoundPlan(0, Action.NONE, 0, 0, 0.5, 0.0, clients)
    exchange.begin(plan, clients)
    trained = [exchange.train(client, plan) for client in clients.tolist()]
    travelling = np.append(HALF, [True] * BUFFERS)
    assert [each.max_abs for each in trained] == np.abs(UPDATES[:, travelling]).max(axis=1).tolist()
    exchange.finish(plan, Roster(clients, SIZES > 0, SIZES, SIZES, 9.0, [clients], SIZES > 0))
    np.testing.assert_allclose(weights_of(exchange), np.where(travelling, -weighted_mean(), 0), rtol=1e-6)


@pytest.mark.parametrize(
    ("active", "importance"),
    [(np.ones(PARAMETERS, bool), None), (HALF, None), (HALF, "asked for")],
    ids=["whole", "masked", "directions"],
)
def test_batches_bring_the_updates_of_their_clients(active: np.ndarray, importance: str | None) -> None:
    """Clients in batches that are not beside each other, of a model without buffers."""
    updates = UPDATES[:, :PARAMETERS]
    exchange = exchange_of(MEAN, updates)
    host: Any = exchange.host
    host.importance, host.model.buffer_count = importance, 0
    host.masked.weights = host.masked.weights[:PARAMETERS]
    host.masked.use(Mask.of(active), 0)
    clients = np.arange(CLIENTS)
    plan = RoundPlan(0, Action.NONE, 0, 0, 0.5, 0.0, clients)
    exchange.begin(plan, clients)
    largest = np.zeros(CLIENTS)
    for trained in exchange.train_many(plan):
        largest[trained.batch.positions] = trained.max_abs
        assert trained.entries.tolist() == [active.sum()] * 2
        assert trained.message_bytes.tolist() == [16 + 4 * active.sum()] * 2
    assert largest.tolist() == np.abs(updates[:, active]).max(axis=1).tolist()
    exchange.finish(plan, Roster(clients, SIZES > 0, SIZES, SIZES, 9.0, [clients], SIZES > 0))
    expected = np.where(active, -weighted_mean()[:PARAMETERS], 0)
    np.testing.assert_allclose(weights_of(exchange), expected, rtol=1e-6)


def test_directions_are_taken_without_a_period_alone() -> None:
    exchange = periodic(2)
    host: Any = exchange.host
    host.importance = "asked for"
    host.masked.use(Mask.of(HALF), 0)
    seen: list[Any] = []
    train = host.train
    host.train = lambda client, plan, directions, start: seen.append(directions) or train(client, plan)
    for index in range(2):
        numbered_round(exchange, index)
    assert seen == [None] * 8
    expected = np.where(np.append(HALF, [True] * BUFFERS), -weighted_mean(), 0)
    np.testing.assert_allclose(weights_of(exchange), expected, rtol=1e-6)


def test_each_update_goes_to_the_mean_with_its_own_samples() -> None:
    """Clients that this rank trains, of participants among whom others are."""
    exchange = exchange_of(MEAN)
    mine, everybody = np.array([1, 3]), np.array([0, 1, 3])
    plan = RoundPlan(0, Action.NONE, 0, 0, 1.0, 0.0, everybody)
    exchange.begin(plan, mine)
    for client in mine.tolist():
        exchange.train(client, plan)
    sizes, sent = SIZES[everybody], np.zeros(3, dtype=np.int64)
    exchange.finish(plan, Roster(everybody, everybody > 0, sizes, sent, 9.0, [mine], everybody >= 0))
    np.testing.assert_allclose(weights_of(exchange), -weighted_mean((1, 3)), rtol=1e-6)
