"""Rounds of a sparse exchange on one rank, with clients whose gradients are given: w, and what clients keep."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.aggregation import Aggregator
from fedmpi.aggregation.means import MEAN
from fedmpi.aggregation.server_optimizers import fedavgm
from fedmpi.config import loads
from fedmpi.federation.exchange import Exchanged, Roster, Trained, TrainedBatch
from fedmpi.federation.exchange_sparse import SparseExchange
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.learning.training import LocalResult
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning.mask import Mask
from fedmpi.sparsification import choices, ef21, fab, fub_flat, fub_tree, periodic, qsgd, stc, unidirectional
from fedmpi.sparsification.codec import WireCodec
from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch

PARAMETERS, CLIENTS, ROUNDS, RATE, K = 24, 4, 3, 0.25, 5
EVERYBODY = np.arange(CLIENTS)
SIZES = np.array([10, 20, 30, 40])
GRADIENTS = np.random.default_rng(3).normal(size=(ROUNDS, CLIENTS, PARAMETERS)).astype(np.float32)
TAILS = np.arange(CLIENTS * 2, dtype=np.float32).reshape(CLIENTS, 2) / 4
HALF = np.arange(PARAMETERS) % 2 == 0
COO, FLOAT16, SHARED = WireCodec("coo"), WireCodec("coo", "float16"), WireCodec("values")
METHODS: dict[str, tuple[SparseMethod, Any]] = {
    "fab": (fab.METHOD, COO),
    "fab_float16": (fab.METHOD, FLOAT16),
    "fub_flat": (fub_flat.METHOD, WireCodec("bitmap")),
    "fub_tree": (fub_tree.METHOD, COO),
    "unidirectional": (unidirectional.METHOD, COO),
    "unidirectional_float16": (unidirectional.METHOD, FLOAT16),
    "periodic": (periodic.METHOD, SHARED),
    "random_k": (choices.RANDOM_K, COO),
    "layer_top_k": (choices.LAYER_TOP_K, COO),
    "threshold": (choices.threshold(1.5), COO),
}


@dataclass(frozen=True)
class Layer:
    start: int
    stop: int
    prunable: bool = True


class Model:
    parameter_count = PARAMETERS
    layers = (Layer(0, 16), Layer(16, PARAMETERS))

    def __init__(self, buffers: int) -> None:
        self.buffer_count = buffers
        self.vector = torch.zeros(PARAMETERS + buffers)


class Host:
    """Clients with ``gradients`` (rounds, N, D) and the same changes of float buffers in every round, (N, B)."""

    importance = None

    def __init__(self, ranks: Ranks, gradients: np.ndarray, buffers: int, overrides: Sequence[str]) -> None:
        flat: Any = Model(buffers)
        self.model, self.masked = flat, MaskedModel(ranks, flat)
        self.config = loads("", [f"clients.count={CLIENTS}", *overrides])
        self.data = ClientSizes(SIZES)
        self.gradients = gradients
        self._client = -1

    def train(self, client: int, plan: RoundPlan, direction: torch.Tensor) -> tuple[LocalResult, float]:
        self._client = client
        direction.copy_(torch.from_numpy(self.gradients[plan.round_index, client]))
        return LocalResult(samples=1, loss=0.0, steps=1, probe_sample=0), 0.5

    def tail_update_into(self, row: torch.Tensor) -> None:
        row.copy_(torch.from_numpy(TAILS[self._client]))

    def train_many(
        self, clients: np.ndarray, plan: RoundPlan, need_directions: bool
    ) -> Iterator[TrainedBatch]:
        """Batches of the odd and of the even positions."""
        assert need_directions
        for first in (1, 0):
            positions = np.arange(first, len(clients), 2)
            directions = torch.from_numpy(self.gradients[plan.round_index, clients[positions]].copy())
            zeros, ones = np.zeros(len(positions)), np.ones(len(positions), np.int64)
            yield TrainedBatch(positions, ones, zeros, 0 * ones, None, directions, 0.5)


@dataclass(frozen=True)
class ClientSizes:
    sizes: np.ndarray


@dataclass
class Rounds:
    """An exchange, and the rounds that it went through."""

    exchange: SparseExchange
    host: Host
    index: int = 0

    def train(
        self, many: bool = False, k: int = K, k_probe: int = 0, rate: float = RATE
    ) -> tuple[RoundPlan, list[Trained]]:
        plan = RoundPlan(self.index, Action.NONE, k, k_probe, rate, 0.0, EVERYBODY)
        self.exchange.begin(plan, EVERYBODY)
        self.index += 1
        if not many:
            return plan, [self.exchange.train(client, plan) for client in range(CLIENTS)]
        trained: list[Any] = [None] * CLIENTS
        for each in self.exchange.train_many(plan):
            what = zip(each.entries, each.message_bytes, each.max_abs, strict=True)
            for position, of_client in zip(each.batch.positions, what, strict=True):
                trained[position] = Trained(LocalResult(1, 0.0, 1, 0), 0.5, *of_client)
        return plan, trained

    def finish(
        self,
        plan: RoundPlan,
        trained: list[Trained],
        accepted: Sequence[int] = (0, 1, 2, 3),
        stopped: Sequence[int] = (),
    ) -> Exchanged:
        sent = np.array([each.message_bytes for each in trained])
        largest = max((trained[client].max_abs for client in accepted), default=0.0)
        taken, in_time = np.isin(EVERYBODY, accepted), ~np.isin(EVERYBODY, stopped)
        return self.exchange.finish(
            plan, Roster(EVERYBODY, taken, SIZES, sent, largest, [EVERYBODY], in_time)
        )

    def next(
        self, *, many: bool = False, k: int = K, k_probe: int = 0, rate: float = RATE, **verdict: Any
    ) -> Exchanged:
        return self.finish(*self.train(many, k, k_probe, rate), **verdict)

    @property
    def weights(self) -> np.ndarray:
        weights: np.ndarray = self.host.masked.weights.numpy().copy()
        return weights

    @property
    def kept(self) -> np.ndarray:
        """What clients have accumulated, (N, D)."""
        return np.stack(
            [self.exchange.client_state(client)["accumulated"].copy() for client in range(CLIENTS)]
        )


def rounds_of(
    method: SparseMethod,
    codec: Any = COO,
    *overrides: str,
    aggregator: Aggregator = MEAN,
    gradients: np.ndarray = GRADIENTS,
    buffers: int = 0,
    sketch: MagnitudeSketch = NO_SKETCH,
) -> Rounds:
    ranks, memory = Ranks.of(MPI.COMM_SELF), GroupMemory(MPI.COMM_SELF)
    host: Any = Host(ranks, gradients, buffers, overrides)
    vectors = ClientRows(memory, EVERYBODY, CLIENTS, PARAMETERS)
    return Rounds(SparseExchange(ranks, memory, host, method, codec, aggregator, vectors, sketch), host)


def mean_of(values: np.ndarray, clients: Sequence[int] = (0, 1, 2, 3)) -> np.ndarray:
    return np.average(values[list(clients)].astype(np.float64), axis=0, weights=SIZES[list(clients)])


def largest(vector: np.ndarray, k: int = K) -> np.ndarray:
    return np.sort(np.argsort(-np.abs(vector), kind="stable")[:k])


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_what_clients_computed_is_in_the_model_or_still_with_them(name: str, many: bool) -> None:
    """Nothing is lost or counted twice, with messages in float16 neither: the server keeps what these round off."""
    rounds = rounds_of(*METHODS[name])
    for index in range(ROUNDS):
        before = rounds.weights
        exchanged = rounds.next(many=many)
        moved = -rounds.weights / RATE + mean_of(rounds.kept)
        lost = rounds.exchange.server_state()["lost_in_rounding"]
        expected = mean_of(GRADIENTS[: index + 1].sum(axis=0))
        np.testing.assert_allclose(moved + (lost if len(lost) else 0.0), expected, rtol=1e-4, atol=1e-5)
        assert exchanged.changed is not None
        assert set(np.flatnonzero(rounds.weights != before)) <= set(exchanged.changed.tolist())
        assert 0 < exchanged.k_down == len(exchanged.changed) < PARAMETERS
        assert 0 < exchanged.entries_used.sum() <= CLIENTS * K
    assert len(lost) == (PARAMETERS if "float16" in name else 0)
    assert rounds.weights.any()


def reference(accepted: list[list[int]], stopped: list[list[int]]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Weights and accumulated gradients after each round, where all that is sent comes back."""
    weights, kept = np.zeros(PARAMETERS), np.zeros((CLIENTS, PARAMETERS))
    for index in range(ROUNDS):
        before = kept.copy()
        kept += GRADIENTS[index]
        step, total = np.zeros(PARAMETERS), SIZES[accepted[index]].sum()
        for client in accepted[index]:
            sent = largest(kept[client])
            step[sent] += SIZES[client] / total * kept[client, sent]
            kept[client, sent] = 0.0
        weights -= RATE * step
        kept[stopped[index]] = before[stopped[index]]
        yield weights.copy(), kept.copy()


@pytest.mark.parametrize("many", [False, True])
def test_who_is_late_keeps_all_and_who_stopped_before_training_what_it_had(many: bool) -> None:
    accepted, stopped = [[0, 1, 2, 3], [0, 3], [1]], [[], [1], [0, 2]]
    rounds = rounds_of(unidirectional.METHOD, COO, "federation.deadline_s=9")
    for index, (weights, kept) in enumerate(reference(accepted, stopped)):
        exchanged = rounds.next(many=many, accepted=accepted[index], stopped=stopped[index])
        np.testing.assert_allclose(rounds.weights, weights, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(rounds.kept, kept, rtol=1e-4, atol=1e-6)
        assert exchanged.entries_used.tolist() == np.where(np.isin(EVERYBODY, accepted[index]), K, 0).tolist()


def test_what_a_client_sends_is_counted() -> None:
    rounds = rounds_of(unidirectional.METHOD)
    for many in (False, True):
        plan, trained = rounds.train(many)
        assert [each.entries for each in trained] == [K] * CLIENTS
        assert [each.message_bytes for each in trained] == [16 + 8 * K] * CLIENTS
        assert [each.compute_host_s for each in trained] == [0.5] * CLIENTS
        expected = np.abs(GRADIENTS[plan.round_index]).max(axis=1).tolist()
        assert [each.max_abs for each in trained] == expected
        exchanged = rounds.finish(plan, trained)
        assert exchanged.bytes_down == 16 + 8 * exchanged.k_down
        assert (exchanged.probe_bytes, exchanged.k_down_probe, exchanged.energies) == (0, 0, None)
        assert exchanged.uploads is not None
        assert exchanged.uploads.weights.tolist() == (SIZES / 100).tolist()


def test_a_client_sends_no_more_than_there_is() -> None:
    rounds = rounds_of(unidirectional.METHOD)
    for many in (False, True):
        plan, trained = rounds.train(many, k=PARAMETERS + 6)
        assert [each.entries for each in trained] == [PARAMETERS] * CLIENTS
        rounds.finish(plan, trained)
    assert not rounds.kept.any()
    np.testing.assert_allclose(rounds.weights, -RATE * mean_of(GRADIENTS[:2].sum(axis=0)), rtol=1e-4)


@pytest.mark.parametrize("many", [False, True])
def test_what_is_not_finite_is_neither_sent_nor_kept(many: bool) -> None:
    """A gradient that is not, and one whose sum with what was kept is not."""
    huge = np.float32(3e38)
    gradients = GRADIENTS.copy()
    gradients[0, 1, :] = huge
    gradients[1, 1, :] = huge
    gradients[1, 2, 7] = np.nan
    rounds = rounds_of(unidirectional.METHOD, COO, gradients=gradients)
    rounds.next(many=many, k=1, accepted=[0, 2, 3])
    with np.errstate(over="ignore"):
        plan, trained = rounds.train(many, k=1)
    assert trained[1].max_abs == np.inf
    assert np.isnan(trained[2].max_abs)
    assert [each.entries for each in trained] == [1] * CLIENTS
    assert [each.message_bytes for each in trained] == [16 + 8] * CLIENTS
    assert np.isfinite([trained[0].max_abs, trained[3].max_abs]).all()
    before = rounds.kept[2]
    rounds.finish(plan, trained, accepted=[0, 3])
    assert rounds.kept[2].tolist() == before.tolist()
    assert np.isfinite(rounds.weights).all()


def test_without_accepted_clients_nothing_changes() -> None:
    rounds = rounds_of(fub_tree.METHOD)
    plan, trained = rounds.train(k_probe=2)
    exchanged = rounds.finish(plan, trained, accepted=[])
    assert exchanged.changed is not None
    assert not len(exchanged.changed)
    assert exchanged.entries_used.tolist() == [0] * CLIENTS
    assert (exchanged.k_down, exchanged.k_down_probe) == (0, 0)
    assert (exchanged.bytes_down, exchanged.probe_bytes) == (0, 0)
    assert exchanged.uploads is None
    assert not rounds.weights.any()
    np.testing.assert_array_equal(rounds.kept, GRADIENTS[0])
    assert [weights.any().item() for _, weights in rounds.exchange.weights_tried()] == [False, False]


@pytest.mark.parametrize("buffers", [0, 2])
def test_the_weights_before_and_those_of_a_smaller_k_are_tried(buffers: int) -> None:
    rounds = rounds_of(unidirectional.METHOD, COO, buffers=buffers)
    rounds.next()
    before, kept = rounds.weights, rounds.kept
    exchanged = rounds.next(k_probe=2)
    after, tried = rounds.weights, {}
    for name, vector in rounds.exchange.weights_tried():
        tried[name] = vector.numpy().copy()
    step = np.zeros((CLIENTS, PARAMETERS))
    for client, vector in enumerate(kept + GRADIENTS[1]):
        step[client, largest(vector, 2)] = vector[largest(vector, 2)]
    assert list(tried) == ["previous", "probe"]
    np.testing.assert_array_equal(tried["previous"], before)
    probe = before[:PARAMETERS] - RATE * mean_of(step)
    np.testing.assert_allclose(tried["probe"][:PARAMETERS], probe, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(tried["probe"][PARAMETERS:], after[PARAMETERS:])
    assert exchanged.k_down_probe == np.count_nonzero(step.any(axis=0)) < exchanged.k_down
    assert exchanged.probe_bytes > 0
    np.testing.assert_array_equal(rounds.weights, after)


def test_float_buffers_become_their_weighted_mean() -> None:
    rounds = rounds_of(fab.METHOD, COO, buffers=2)
    plan, trained = rounds.train()
    assert [each.message_bytes for each in trained] == [16 + 8 * K + 8] * CLIENTS
    exchanged = rounds.finish(plan, trained, accepted=[1, 3])
    np.testing.assert_allclose(rounds.weights[PARAMETERS:], -mean_of(TAILS, [1, 3]), rtol=1e-6)
    assert exchanged.bytes_down == 16 + 8 * K + 8
    assert rounds.exchange.message_bytes_up(3) == rounds.exchange.message_bytes_down(3) == 16 + 3 * 8 + 8
    fixed, each = rounds.exchange.bytes_by_size(3)
    assert fixed + each * PARAMETERS == rounds.exchange.message_bytes_up(3)


def test_buffers_count_for_the_largest_magnitude() -> None:
    rounds = rounds_of(unidirectional.METHOD, COO, gradients=GRADIENTS / 100, buffers=2)
    _, trained = rounds.train()
    small = float(np.abs(GRADIENTS[0, 0] / 100).max())
    assert [each.max_abs for each in trained] == [max(small, 0.25), 0.75, 1.25, 1.75]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("name", ["fab", "fub_tree", "unidirectional", "unidirectional_float16", "periodic"])
def test_under_a_mask_active_parameters_alone_move(name: str, many: bool) -> None:
    """Of what clients have kept, that of pruned parameters is gone; the rest goes on."""
    rounds = rounds_of(*METHODS[name])
    rounds.next(many=many)
    rounds.host.masked.use(Mask.of(HALF), 1, range(CLIENTS))
    assert rounds.exchange.dimension == PARAMETERS // 2
    before, kept, lost = (
        rounds.weights,
        rounds.kept,
        rounds.exchange.server_state()["lost_in_rounding"].copy(),
    )
    assert not kept[:, ~HALF].any()
    exchanged = rounds.next(many=many)
    moved = (before - rounds.weights)[HALF] / RATE
    now_lost = rounds.exchange.server_state()["lost_in_rounding"]
    difference = now_lost - lost if len(lost) else 0.0
    expected = mean_of(kept + GRADIENTS[1])[HALF] - mean_of(rounds.kept)[HALF]
    np.testing.assert_allclose(moved + difference, expected, rtol=1e-4, atol=1e-5)
    assert not rounds.weights[~HALF].any()
    assert not rounds.kept[:, ~HALF].any()
    assert exchanged.changed is not None
    assert HALF[exchanged.changed].all()
    assert set(np.flatnonzero(rounds.weights != before)) <= set(exchanged.changed.tolist())


@pytest.mark.parametrize("many", [False, True])
def test_a_method_without_memory_leaves_clients_nothing(many: bool) -> None:
    """Every round's gradients count alone, and what comes down is their mean as it arrived."""
    rounds = rounds_of(qsgd.qsgd(levels=127, bucket=4), qsgd.QuantizedCodec(127, 4, False))
    for index in range(2):
        before = rounds.weights
        rounds.next(many=many, k=PARAMETERS)
        assert not rounds.kept.any()
        step = (before - rounds.weights) / RATE
        np.testing.assert_allclose(step, mean_of(GRADIENTS[index]), atol=0.05)


def test_estimates_follow_the_gradients() -> None:
    """A client's estimate gains what it sent; the model moves by the mean of all estimates, of every client."""
    rounds = rounds_of(ef21.METHOD)
    estimates = np.zeros((CLIENTS, PARAMETERS), np.float32)
    for index, accepted in enumerate(([0, 1, 2, 3], [0, 2])):
        before = rounds.weights
        rounds.next(accepted=accepted)
        for client in accepted:
            change = GRADIENTS[index, client] - estimates[client]
            estimates[client, largest(change)] += change[largest(change)]
        np.testing.assert_allclose((before - rounds.weights) / RATE, mean_of(estimates), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(-rounds.kept, estimates, rtol=1e-5, atol=1e-6)


def test_a_server_with_a_residual_sends_what_it_kept_later() -> None:
    """Sparse ternary compression: clients count alike, and of its own memory the server sends the largest.

    What waits are updates, made at the learning rate of their own round.
    """
    rounds = rounds_of(stc.stc(per_tensor=False), stc.TernaryCodec())
    expected = np.zeros(PARAMETERS)
    for index, rate in zip(range(ROUNDS), (RATE, RATE / 2, RATE / 8), strict=True):
        exchanged = rounds.next(many=index == 1, rate=rate)
        assert exchanged.upload_rate == rate
        residual = rounds.exchange.server_state()["lost_in_rounding"]
        moved = -rounds.weights + rounds.kept.mean(axis=0) + residual
        expected += rate * GRADIENTS[index].mean(axis=0)
        np.testing.assert_allclose(moved, expected, rtol=1e-4, atol=1e-5)
        assert exchanged.k_down == K
        assert exchanged.entries_used.tolist() == [K] * CLIENTS
    assert residual.any()


def test_a_dense_server_optimizer_moves_everything() -> None:
    rounds = rounds_of(fub_flat.METHOD, COO, aggregator=fedavgm(learning_rate=1.0, momentum=0.5, dense=True))
    moves, steps = [], []
    for _ in range(2):
        before, kept = rounds.weights, rounds.kept
        exchanged = rounds.next()
        moves.append(before - rounds.weights)
        steps.append(RATE * mean_of(kept + GRADIENTS[rounds.index - 1] - rounds.kept))
        assert exchanged.changed is None
        assert exchanged.k_down == PARAMETERS
        assert exchanged.bytes_down == 16 + 4 * PARAMETERS
    np.testing.assert_allclose(moves[0], steps[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(moves[1], 0.5 * steps[0] + steps[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("method", "codec", "aggregator"),
    [
        (fab.METHOD, FLOAT16, MEAN),
        (fub_tree.METHOD, COO, fedavgm()),
        (stc.stc(), stc.TernaryCodec(), MEAN),
        (ef21.METHOD, COO, MEAN),
    ],
)
def test_another_exchange_goes_on_from_what_was_kept(method: Any, codec: Any, aggregator: Aggregator) -> None:
    rounds = rounds_of(method, codec, aggregator=aggregator)
    rounds.next()
    rounds.next()
    again = rounds_of(method, codec, aggregator=aggregator)
    again.index = rounds.index
    again.host.masked.weights.copy_(rounds.host.masked.weights)
    for client in range(CLIENTS):
        again.exchange.restore_client(client, rounds.exchange.client_state(client))
    state = {name: array.copy() for name, array in rounds.exchange.server_state().items()}
    again.exchange.restore_server(state)
    for each in (rounds, again):
        each.next()
    np.testing.assert_array_equal(again.weights, rounds.weights)
    np.testing.assert_array_equal(again.kept, rounds.kept)
    np.testing.assert_array_equal(
        again.exchange.server_state()["lost_in_rounding"], rounds.exchange.server_state()["lost_in_rounding"]
    )


def test_sketches_travel_behind_the_entries() -> None:
    """The server learns the mean energy of what the accepted clients have accumulated, weighted by samples."""
    plain = rounds_of(unidirectional.METHOD)
    rounds = rounds_of(unidirectional.METHOD, COO, sketch=MagnitudeSketch(PARAMETERS, 2))
    extra = rounds.exchange.sketch.bytes
    assert extra > 0
    assert rounds.exchange.message_bytes_up(K) == plain.exchange.message_bytes_up(K) + extra
    assert rounds.exchange.message_bytes_down(K) == plain.exchange.message_bytes_down(K)
    assert rounds.exchange.bytes_by_size(K)[0] == plain.exchange.bytes_by_size(K)[0] + extra
    assert rounds.exchange.bytes_by_size(K, down=True) == plain.exchange.bytes_by_size(K, down=True)
    plan, trained = rounds.train()
    assert [each.message_bytes for each in trained] == [16 + 8 * K + extra] * CLIENTS
    exchanged = rounds.finish(plan, trained, accepted=[1, 2])
    assert exchanged.energies is not None
    expected = mean_of((GRADIENTS[0] ** 2).sum(axis=1), [1, 2])
    assert float(exchanged.energies.max()) == pytest.approx(expected, rel=0.1)
