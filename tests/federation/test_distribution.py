"""Samples handed to groups of ranks: every client finds its own, on whatever rank it is at home."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from mpi4py import MPI

from fedmpi.config import ConfigError, loads
from fedmpi.federation.client import ClientData
from fedmpi.federation.client_tests import distribute_own_tests
from fedmpi.federation.distribution import ServerData, distribute_test, distribute_training, read_data
from fedmpi.learning.datasets import Dataset
from fedmpi.learning.division import Division
from fedmpi.mpi.placement import Placement
from fedmpi.mpi.shared_memory import GroupMemory

TRAIN, TEST = 12, 5
DATA = Dataset(
    train_x=np.arange(TRAIN * 4, dtype=np.float32).reshape(TRAIN, 1, 2, 2),
    train_y=np.arange(TRAIN) % 3,
    train_writer=None,
    test_x=-np.arange(TEST * 4, dtype=np.float32).reshape(TEST, 1, 2, 2),
    test_y=np.arange(TEST) % 2,
    classes=3,
)
PARTS = [np.array([3, 0]), np.array([5]), np.array([7, 1, 2]), np.array([11, 10])]
EVERYTHING = np.arange(TRAIN)
ALONE = Placement(4, (range(4),), ((0,),))
TWO_NODES = Placement(4, (range(1), range(1, 2), range(2, 4)), ((0, 1), (2,)))
"""Ranks 0 and 1 share memory, and have clients 0 and 1; rank 2 has clients 2 and 3."""


class Messages:
    """Ranks one after the other, the server first: what it sends waits for who receives it."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[np.ndarray]] = {}

    def of(self, rank: int) -> Any:
        return OneRank(self, rank)


class OneRank:
    def __init__(self, messages: Messages, rank: int) -> None:
        self.rank, self.is_server = rank, rank == 0
        self._messages = messages

    def send(self, values: np.ndarray, to: int) -> None:
        assert to != self.rank
        self._messages.waiting.setdefault(to, []).append(values.copy())

    def receive(self, into: np.ndarray, source: int) -> None:
        assert source == 0
        into[...] = self._messages.waiting[self.rank].pop(0)

    def barrier(self) -> None: ...


def handed_out(distribute: Any, placement: Placement, data: ServerData, *first: Any) -> dict[int, Any]:
    """What the first rank of each group has in the end, by rank."""
    messages, memory = Messages(), GroupMemory(MPI.COMM_SELF)
    found = {}
    for leader, *_ in placement.groups:
        given = data if leader == 0 else None
        found[leader] = distribute(*first, messages.of(leader), memory, placement, data.facts(), given)
    assert not any(messages.waiting.values())
    return found


def expect_samples(
    found: dict[int, ClientData], placement: Placement, x: np.ndarray, y: np.ndarray, division: Division
) -> None:
    for leader, *members in placement.groups:
        here = [client for rank in (leader, *members) for client in placement.blocks[rank]]
        for client in range(4):
            if client not in here:
                with pytest.raises(LookupError, match=f"client {client} has no data on this rank"):
                    found[leader].of(client)
                continue
            own_x, own_y = found[leader].of(client)
            assert own_x.numpy().tolist() == x[division[client]].tolist()
            assert own_y.tolist() == y[division[client]].tolist()


@pytest.mark.parametrize("placement", [ALONE, TWO_NODES])
@pytest.mark.parametrize(
    "division",
    [
        Division.of(PARTS),
        Division.shared(EVERYTHING, 4),
        Division.of([EVERYTHING[::-1], EVERYTHING[2:], EVERYTHING[:9], EVERYTHING[3:]]),
        Division.of([EVERYTHING[:1], EVERYTHING[1:2], EVERYTHING[4:], EVERYTHING[:9]]),
    ],
    ids=["own", "common", "more_than_there_are", "more_in_one_group"],
)
def test_every_client_finds_its_own_samples(placement: Placement, division: Division) -> None:
    found = handed_out(distribute_training, placement, ServerData(DATA, division))
    expect_samples(found, placement, DATA.train_x, DATA.train_y, division)
    for data in found.values():
        assert len(data.x) <= TRAIN
        assert data.sizes.tolist() == division.sizes.tolist()


@pytest.mark.parametrize("placement", [ALONE, TWO_NODES])
def test_every_group_has_the_whole_test_set(placement: Placement) -> None:
    found = handed_out(distribute_test, placement, ServerData(DATA, Division.of(PARTS)))
    assert len(found) == len(placement.groups)
    for x, y in found.values():
        assert x.tolist() == DATA.test_x.tolist()
        assert y.tolist() == DATA.test_y.tolist()


@pytest.mark.parametrize("placement", [ALONE, TWO_NODES])
@pytest.mark.parametrize("held_back", [False, True])
def test_own_tests_are_of_the_samples_that_they_were_taken_from(
    placement: Placement, held_back: bool
) -> None:
    last = [3, 1, 8, 9, 5] if held_back else [3, 1]  # with the others, more than there are test samples
    own = Division.of([np.array([4]), np.array([], np.int64), np.array([0, 2]), np.array(last)])
    data = ServerData(DATA, Division.of(PARTS), own, held_back)
    config = loads("", [f"data.client_test_fraction={0.2 if held_back else 0.0}"])
    found = handed_out(distribute_own_tests, placement, data, config)
    x, y = (DATA.train_x, DATA.train_y) if held_back else (DATA.test_x, DATA.test_y)
    expect_samples(found, placement, x, y, own)


def test_all_test_samples_for_every_client_are_kept_as_those_of_the_test_set() -> None:
    """Every client has all test samples, of which there are fewer than of training."""
    own = Division.of([np.arange(TEST), np.arange(TEST)[::-1], np.arange(TEST), np.arange(TEST)])
    data = ServerData(DATA, Division.shared(EVERYTHING, 4), own)
    found = handed_out(distribute_own_tests, ALONE, data, loads("", []))
    expect_samples(found, ALONE, DATA.test_x, DATA.test_y, own)
    assert len(found[0].x) == TEST


def test_facts_are_those_of_the_data() -> None:
    facts = ServerData(DATA, Division.of(PARTS), Division.of(PARTS[::-1])).facts()
    assert (facts.input_shape, facts.classes) == ((1, 2, 2), 3)
    assert (facts.train_samples, facts.test_samples) == (TRAIN, TEST)
    assert facts.sizes.tolist() == [2, 1, 3, 2]
    assert facts.own_test_sizes.tolist() == [2, 3, 1, 2]
    assert np.dtype(facts.dtype) == np.float32
    assert not facts.common
    plain = ServerData(DATA, Division.shared(EVERYTHING, 2)).facts()
    assert plain.common
    assert not len(plain.own_test_sizes)


def test_samples_are_held_back_where_that_is_asked_for() -> None:
    config = loads("", ["clients.count=3", "data.client_test_fraction=0.25"])
    data = read_data(config)
    assert data.held_back
    assert data.own_tests is not None
    kept, held = data.samples.sizes, data.own_tests.sizes
    assert (held == np.ceil(0.25 * (kept + held))).all()
    assert int((kept + held).sum()) == len(data.dataset.train_y)
    for client in range(3):
        assert not np.intersect1d(data.samples[client], data.own_tests[client]).size
    whole = read_data(loads("", ["clients.count=3"]))
    assert not whole.held_back
    assert whole.own_tests is None


def test_clients_without_test_samples_of_their_own_cannot_be_evaluated() -> None:
    config = loads("", ["experiment.evaluate_clients=true"])
    with pytest.raises(ConfigError, match="evaluate_clients: found true, and no client has test samples"):
        read_data(config)
    read_data(loads("", ["experiment.evaluate_clients=true", "data.client_test_fraction=0.1"]))
