"""What clients gather of the importance of parameters, and its sum over those who send it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from mpi4py import MPI

from fedmpi.federation.client_importance import ClientImportance
from fedmpi.federation.exchange import Roster
from fedmpi.mpi.client_rows import ClientRows
from fedmpi.mpi.collectives import Ranks
from fedmpi.mpi.shared_memory import GroupMemory

CLIENTS, PARAMETERS = 5, 6
DIRECTIONS = torch.arange(CLIENTS * PARAMETERS, dtype=torch.float32).reshape(CLIENTS, PARAMETERS) / 8 - 1
SQUARES = DIRECTIONS.numpy().astype(np.float64) ** 2


@pytest.fixture
def importance() -> ClientImportance:
    memory = GroupMemory(MPI.COMM_SELF)
    rows = ClientRows(memory, np.arange(CLIENTS), CLIENTS, PARAMETERS)
    return ClientImportance(Ranks.of(MPI.COMM_SELF), memory, rows, PARAMETERS, range(CLIENTS))


def roster_of(clients: Sequence[int], accepted: Sequence[int]) -> Roster:
    ids = np.array(clients)
    ones = np.ones(len(ids), dtype=np.int64)
    return Roster(ids, np.isin(ids, accepted), ones, ones, 1.0, [ids], ones == 1)


def a_round(importance: ClientImportance, clients: Sequence[int], samples: int = 1) -> None:
    importance.begin(np.array(clients))
    for client in clients:
        importance.add(client, DIRECTIONS[client], samples)


def test_accepted_clients_send_squares_times_samples_of_all_rounds(importance: ClientImportance) -> None:
    a_round(importance, [0, 2, 3], samples=2)
    a_round(importance, [0, 3, 4], samples=3)
    total = importance.gather(roster_of([0, 3, 4], accepted=[0, 4]))
    assert total.values.dtype == np.float64
    np.testing.assert_allclose(total.values, 5 * SQUARES[0] + 3 * SQUARES[4], rtol=1e-6)
    assert total.left_out == 0


def test_signed_gradients_are_those_of_the_last_round_times_samples() -> None:
    memory = GroupMemory(MPI.COMM_SELF)
    gradients = ClientImportance(
        Ranks.of(MPI.COMM_SELF),
        memory,
        ClientRows(memory, np.arange(CLIENTS), CLIENTS, PARAMETERS),
        PARAMETERS,
        range(CLIENTS),
        signed_gradient=True,
    )
    a_round(gradients, [0, 1, 3], samples=7)
    a_round(gradients, [0, 1], samples=3)
    gradients.add(1, -DIRECTIONS[1], samples=2)
    total = gradients.gather(roster_of([0, 1], accepted=[0, 1]))
    expected = 3 * DIRECTIONS[0].numpy() - 2 * DIRECTIONS[1].numpy()
    assert expected.min() < 0
    np.testing.assert_allclose(total.values, expected, rtol=1e-6)


def test_afterwards_everybody_starts_from_zero(importance: ClientImportance) -> None:
    a_round(importance, [0, 1])
    a_round(importance, [2])
    importance.gather(roster_of([2], accepted=[2]))
    assert importance.client_state(1) == {}
    a_round(importance, [1, 2])
    total = importance.gather(roster_of([1, 2], accepted=[1, 2]))
    np.testing.assert_allclose(total.values, SQUARES[1] + SQUARES[2], rtol=1e-6)


def test_what_is_not_finite_is_left_out(importance: ClientImportance) -> None:
    a_round(importance, [0, 1, 2])
    importance.add(1, torch.full((PARAMETERS,), 1e30), 1)
    total = importance.gather(roster_of([0, 1, 2], accepted=[0, 1, 2]))
    np.testing.assert_allclose(total.values, SQUARES[0] + SQUARES[2], rtol=1e-6)
    assert total.left_out == 1


def test_without_accepted_clients_the_sum_is_zero(importance: ClientImportance) -> None:
    a_round(importance, [0, 1])
    total = importance.gather(roster_of([0, 1], accepted=[]))
    assert not total.values.any()
    assert total.left_out == 0


def test_a_checkpoint_has_what_clients_carry(importance: ClientImportance) -> None:
    a_round(importance, [1, 4], samples=2)
    kept = {client: dict(importance.client_state(client)) for client in range(CLIENTS)}
    assert [client for client in kept if kept[client]] == [1, 4]
    memory = GroupMemory(MPI.COMM_SELF)
    rows = ClientRows(memory, np.arange(CLIENTS), CLIENTS, PARAMETERS)
    again = ClientImportance(Ranks.of(MPI.COMM_SELF), memory, rows, PARAMETERS, range(CLIENTS))
    for client in (1, 4):
        again.restore_client(client, kept[client]["importance"])
    a_round(again, [4])
    total = again.gather(roster_of([4], accepted=[4]))
    np.testing.assert_allclose(total.values, 3 * SQUARES[4], rtol=1e-6)
    a_round(again, [1])
    np.testing.assert_allclose(again.client_state(1)["importance"], SQUARES[1], rtol=1e-6)
