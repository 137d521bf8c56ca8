"""What clients gather of the importance of parameters, and its sum over those who send it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.config.schema import PruningConfig
from fedmpi.federation.client_importance import ClientImportance, Sketches, WholeVectors
from fedmpi.federation.exchange import Roster
from fedmpi.federation.importance_pairs import ImportanceForm
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory
from fedmpi.pruning import Needs, Setup
from fedmpi.pruning.prunefl import METHOD as PRUNEFL

CLIENTS, PARAMETERS = 5, 6
DIRECTIONS = torch.arange(CLIENTS * PARAMETERS, dtype=torch.float32).reshape(CLIENTS, PARAMETERS) / 8 - 1
SQUARES = DIRECTIONS.numpy().astype(np.float64) ** 2


def gathering(form: ImportanceForm | None = None, **given: bool) -> ClientImportance:
    """Whole vectors, or pairs in a ``form``."""
    ranks, memory = Ranks.of(MPI.COMM_SELF), GroupMemory(MPI.COMM_SELF)
    rows = ClientRows(memory, np.arange(CLIENTS), CLIENTS, PARAMETERS)
    summing = WholeVectors(ranks, memory, PARAMETERS) if form is None else Sketches(ranks, form, PARAMETERS)
    return ClientImportance(ranks, memory, rows, summing, range(CLIENTS), **given)


@pytest.fixture
def importance() -> ClientImportance:
    return gathering()


def plan_of(clients: Sequence[int], k: int = 2) -> RoundPlan:
    return RoundPlan(0, Action.NONE, k, 0, 0.1, 0.0, np.array(clients), Needs.IMPORTANCE)


def roster_of(clients: Sequence[int], accepted: Sequence[int]) -> Roster:
    ids = np.array(clients)
    ones = np.ones(len(ids), dtype=np.int64)
    return Roster(ids, np.isin(ids, accepted), ones, ones, 1.0, [ids], ones == 1)


def a_round(importance: ClientImportance, clients: Sequence[int], samples: int = 1) -> None:
    importance.begin(plan_of(clients))
    for client in clients:
        importance.add(client, DIRECTIONS[client], samples)


def test_accepted_clients_send_squares_times_samples_of_all_rounds(importance: ClientImportance) -> None:
    a_round(importance, [0, 2, 3], samples=2)
    a_round(importance, [0, 3, 4], samples=3)
    total = importance.gather(roster_of([0, 3, 4], accepted=[0, 4]))
    assert total.values.dtype == np.float64
    np.testing.assert_allclose(total.values, 5 * SQUARES[0] + 3 * SQUARES[4], rtol=1e-6)
    assert total.left_out == 0


@pytest.mark.parametrize("scale", [2.0**-120, 1.0, 2.0**100])
def test_sums_are_as_exact_whatever_the_magnitudes(scale: float) -> None:
    gradients = gathering(signed_gradient=True)
    gradients.begin(plan_of([0, 1, 2]))
    for client in (0, 1, 2):
        gradients.add(client, DIRECTIONS[client] * scale, samples=1)
    total = gradients.gather(roster_of([0, 1, 2], accepted=[0, 1, 2]))
    np.testing.assert_allclose(total.values, DIRECTIONS[:3].sum(0).numpy() * scale, rtol=1e-6)


def test_signed_gradients_are_those_of_the_last_round_times_samples() -> None:
    gradients = gathering(signed_gradient=True)
    a_round(gradients, [0, 1, 3], samples=7)
    a_round(gradients, [0, 1], samples=3)
    gradients.add(1, -DIRECTIONS[1], samples=2)
    total = gradients.gather(roster_of([0, 1], accepted=[0, 1]))
    expected = 3 * DIRECTIONS[0].numpy() - 2 * DIRECTIONS[1].numpy()
    assert expected.min() < 0
    np.testing.assert_allclose(total.values, expected, rtol=1e-6)


def test_signed_gradients_are_taken_where_they_are_asked_for_and_not_kept() -> None:
    """Also where nobody's was accepted; importance waits for somebody's then."""
    gradients = gathering(signed_gradient=True)
    assert gradients.at_end
    gradients.begin(replace(plan_of([0, 1]), needs=Needs.NOTHING))
    assert not gradients.gathers
    assert gradients.client_state(0) == {}
    a_round(gradients, [0, 1])
    assert gradients.gathers
    assert not gradients.gather(roster_of([0, 1], accepted=[])).values.any()
    assert gradients.client_state(0) == {}
    a_round(gradients, [1])
    total = gradients.gather(roster_of([0, 1], accepted=[0, 1]))
    np.testing.assert_allclose(total.values, DIRECTIONS[1].numpy(), rtol=1e-6)
    sums = gathering()
    assert not sums.at_end
    sums.begin(replace(plan_of([0, 1]), needs=Needs.NOTHING))
    assert sums.gathers


def test_afterwards_everybody_starts_from_zero(importance: ClientImportance) -> None:
    a_round(importance, [0, 1])
    a_round(importance, [2])
    importance.gather(roster_of([2], accepted=[2]))
    assert importance.client_state(1) == {}
    a_round(importance, [1, 2])
    total = importance.gather(roster_of([1, 2], accepted=[1, 2]))
    np.testing.assert_allclose(total.values, SQUARES[1] + SQUARES[2], rtol=1e-6)


@pytest.mark.parametrize("may_stop_early", [True, False])
def test_a_round_is_taken_back_where_participants_may_stop_early(may_stop_early: bool) -> None:
    """Of clients 0 and 1, that of client 1; what it had before stays, and client 2 was not in the round."""
    gathered = gathering(may_stop_early=may_stop_early)
    a_round(gathered, [1, 2], samples=4)
    a_round(gathered, [0, 1], samples=3)
    gathered.take_back(np.array([1, 2]))
    total = gathered.gather(roster_of([0, 1, 2], accepted=[0, 1, 2]))
    of_client_1 = 4 if may_stop_early else 7
    expected = 3 * SQUARES[0] + of_client_1 * SQUARES[1] + 4 * SQUARES[2]
    np.testing.assert_allclose(total.values, expected, rtol=1e-6)


def test_what_is_not_finite_is_left_out(importance: ClientImportance) -> None:
    a_round(importance, [0, 1, 2])
    importance.add(1, torch.full((PARAMETERS,), 1e30), 1)
    total = importance.gather(roster_of([0, 1, 2], accepted=[0, 1, 2]))
    np.testing.assert_allclose(total.values, SQUARES[0] + SQUARES[2], rtol=1e-6)
    assert total.left_out == 1


def test_without_accepted_clients_the_sum_is_zero_and_all_keep_what_they_have(
    importance: ClientImportance,
) -> None:
    a_round(importance, [0, 1])
    total = importance.gather(roster_of([0, 1], accepted=[]))
    assert not total.values.any()
    assert total.left_out == 0
    a_round(importance, [1, 2])
    total = importance.gather(roster_of([1, 2], accepted=[1, 2]))
    np.testing.assert_allclose(total.values, 2 * SQUARES[1] + SQUARES[2], rtol=1e-6)


def test_a_checkpoint_has_what_clients_carry(importance: ClientImportance) -> None:
    a_round(importance, [1, 4], samples=2)
    kept = {client: dict(importance.client_state(client)) for client in range(CLIENTS)}
    assert [client for client in kept if kept[client]] == [1, 4]
    again = gathering()
    for client in (1, 4):
        again.restore_client(client, kept[client]["importance"])
    a_round(again, [4])
    total = again.gather(roster_of([4], accepted=[4]))
    np.testing.assert_allclose(total.values, 3 * SQUARES[4], rtol=1e-6)
    a_round(again, [1])
    np.testing.assert_allclose(again.client_state(1)["importance"], SQUARES[1], rtol=1e-6)


@dataclass(frozen=True)
class Slice:
    start: int
    stop: int
    prunable: bool


LAYERS = (Slice(0, 3, True), Slice(3, 4, False), Slice(4, 6, True))


def sketch(entries: int) -> ImportanceForm:
    config = PruningConfig(importance="sketch", importance_entries=entries)
    return ImportanceForm(PRUNEFL, Setup(config, 10, LAYERS))


def test_a_sketch_of_everything_is_the_whole_bit_by_bit(importance: ClientImportance) -> None:
    sketched = gathering(sketch(entries=5))
    for each in (importance, sketched):
        a_round(each, [0, 2, 3], samples=3)
        a_round(each, [0, 3, 4], samples=7)
    roster = roster_of([0, 3, 4], accepted=[0, 4])
    whole, sent = importance.gather(roster), sketched.gather(roster)
    assert sent.values.tobytes() == whole.values.tobytes()
    assert sent.left_out == 0


def test_a_sketch_has_the_largest_prunable_values_and_what_is_never_pruned() -> None:
    sketched = gathering(sketch(entries=2))
    a_round(sketched, [0, 4])
    total = sketched.gather(roster_of([0, 4], accepted=[0, 4]))
    expected = np.zeros(PARAMETERS)
    for client, largest in ((0, [0, 1]), (4, [4, 5])):  # from -1 to -0.375, and from 2 to 2.625
        expected[[3, *largest]] += SQUARES[client][[3, *largest]]
    np.testing.assert_allclose(total.values, expected, rtol=1e-6)


def test_a_sketch_leaves_out_what_is_not_finite() -> None:
    sketched = gathering(sketch(entries=2))
    a_round(sketched, [0, 1])
    sketched.add(1, torch.full((PARAMETERS,), 1e30), 1)
    total = sketched.gather(roster_of([0, 1], accepted=[0, 1]))
    assert total.left_out == 1
    assert total.values[0] == pytest.approx(1.0)
    assert total.values[5] == 0.0
