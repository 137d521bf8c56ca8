"""Which entries travel as pairs, in how many bytes, and what their sum is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.schema import PruningConfig
from fedmpi.federation.exchange import Roster
from fedmpi.federation.importance_pairs import ImportanceForm, Pairs, gather_pairs, sum_of_pairs
from fedmpi.numerics.exact_sum import mean, scale_exponent
from fedmpi.pruning import Mask, Setup
from fedmpi.pruning.fedtiny import adjusted, fedtiny
from fedmpi.pruning.prunefl import METHOD as PRUNEFL
from fedmpi.sparsification.codec import WireCodec


@dataclass(frozen=True)
class Slice:
    start: int
    stop: int
    prunable: bool


LAYERS = (Slice(0, 40, True), Slice(40, 44, False), Slice(44, 104, True))
FLAGS = np.ones(104, np.bool_)
FLAGS[[1, 2, 3, 30, 50, 60, 61, 62, 63, 100]] = False
PRUNED = np.flatnonzero(~FLAGS)


def form(method: Any = PRUNEFL, value_type: str = "float32", **keys: Any) -> ImportanceForm:
    return ImportanceForm(method, Setup(PruningConfig(**keys), 100, LAYERS), value_type)


def pairs_of(**keys: Any) -> Pairs:
    found = form(**keys).pairs(Mask.of(FLAGS), 1, 7)
    assert found is not None
    return found


def test_in_full_every_prunable_parameter_has_a_value() -> None:
    whole = form()
    assert whole.pairs(Mask.of(FLAGS), 1, 7) is None
    assert whole.message_bytes(Mask.of(FLAGS), 1, 7) == 4 * 100


def test_of_what_is_received_only_the_largest_pruned_ones_travel() -> None:
    pairs = pairs_of(importance="received")
    assert pairs.pool.tolist() == PRUNED.tolist()
    assert (pairs.entries, len(pairs.always)) == (7, 0)
    assert pairs.message_bytes == 16 + 2 + 4 * 7 + 4  # a bitmap of ten is shortest; the energy comes last
    vector = np.arange(104, dtype=np.float32) % 7
    data = pairs.encode(vector[pairs.pool], np.array([3.5], np.float32))
    assert data is not None
    assert len(data) == pairs.message_bytes
    coordinates, values, energy = pairs.decode(data)
    assert energy == 3.5
    assert len(coordinates) == 7
    assert set(coordinates) < set(PRUNED)
    np.testing.assert_array_equal(values, vector[coordinates])
    assert values.sum() == np.sort(vector[PRUNED])[-7:].sum()


def test_a_number_of_entries_takes_the_place_of_k_and_float16_of_float32() -> None:
    assert pairs_of(importance="received", importance_entries=4).entries == 4
    assert pairs_of(importance="received", importance_entries=400).entries == 10
    half = form(importance="received", importance_entries=4, value_type="float16")
    assert half.message_bytes(Mask.of(FLAGS), 1, 7) == 16 + 2 + 2 * 4 + 4


def test_no_more_travels_than_can_come_back() -> None:
    """10 of 36 active ones may be dropped and 16 of 54, and 67 may be active: three more than are kept then."""
    assert pairs_of(importance="received", max_density=0.67).entries == 67 - 64
    assert pairs_of(importance="received", max_density=0.5).entries == 1  # two layers, each rounded down


def test_where_nothing_is_pruned_the_energy_travels_alone() -> None:
    received = form(importance="received")
    assert received.message_bytes(Mask(104), 1, 7) == 16 + 4
    pairs = received.pairs(Mask(104), 1, 7)
    assert pairs is not None
    messages = [pairs.encode(np.empty(0, np.float32), np.array([each], np.float32)) for each in (2.5, 4.0)]
    assert [None if message is None else len(message) for message in messages] == [20, 20]
    total = sum_of_pairs(pairs, [*messages, None], 104)
    assert (total.energy, total.left_out, total.values.any()) == (6.5, 1, False)


def test_fedtiny_sends_nothing_where_nothing_is_pruned() -> None:
    method = fedtiny(alpha=0.2, last_round=50, gradients="topk")
    assert form(method=method).message_bytes(Mask(104), 10, 7) == 0


def test_a_sketch_is_of_all_prunable_ones_with_what_is_never_pruned_beside_it() -> None:
    pairs = pairs_of(importance="sketch")
    assert pairs.pool.tolist() == [*range(40), *range(44, 104)]
    assert pairs.always.tolist() == [40, 41, 42, 43]
    assert pairs.message_bytes == 16 + 13 + 4 * 7 + 4 * 4


def test_fedtiny_wants_the_largest_of_each_layer_in_eight_bytes_each() -> None:
    method = fedtiny(alpha=0.2, last_round=50, gradients="topk")
    pairs = form(method=method, value_type="float16").pairs(Mask.of(FLAGS), 10, 7)
    assert pairs is not None
    assert pairs.pool.tolist() == PRUNED.tolist()
    expected = tuple(adjusted(active, size, 0.2, 10, 50) for active, size in ((36, 40), (54, 60)))
    assert pairs.counts == expected == (4, 6)
    pairs = replace(pairs, counts=(3, 1))
    assert pairs.message_bytes == 16 + 8 * 4
    vector = np.zeros(104, np.float32)
    vector[PRUNED] = [1, -3, 2, 4, -9, 8, 5, 5, 5, 5]
    data = pairs.encode(vector[pairs.pool], np.empty(0, np.float32))
    assert data is not None
    coordinates, values, energy = pairs.decode(data)
    assert energy == 0.0
    assert coordinates.tolist() == [2, 3, 30, 50]
    assert values.tolist() == [-3, 2, 4, -9]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_makes_no_message(bad: float) -> None:
    pairs = pairs_of(importance="sketch")
    values, always = np.ones(100, np.float32), np.ones(4, np.float32)
    assert pairs.encode(values, always) is not None
    assert pairs.encode(np.where(np.arange(100) == 3, np.float32(bad), values), always) is None
    assert pairs.encode(values, np.full(4, bad, np.float32)) is None


@given(seed=st.integers(0, 2**32 - 1), clients=st.integers(1, 5), missing=st.integers(0, 2))
def test_sums_of_everything_are_exact_whatever_the_order(seed: int, clients: int, missing: int) -> None:
    rng = np.random.default_rng(seed)
    vectors = (rng.standard_normal((clients, 104)) * 10.0 ** rng.integers(-6, 6)).astype(np.float32)
    pairs = pairs_of(importance="sketch", importance_entries=100)
    messages = [pairs.encode(row[pairs.pool], row[pairs.always]) for row in vectors]
    total = sum_of_pairs(pairs, [*messages, *[None] * missing], 104)
    exact = np.empty(104, np.float32)
    exponent = scale_exponent(float(np.abs(vectors).max()), clients)
    mean(vectors, np.ones(clients, np.int64), [], exponent, clients, exact)
    assert total.values.tobytes() == (exact.astype(np.float64) * clients).tobytes()
    assert total.left_out == missing
    again = sum_of_pairs(pairs, messages[::-1], 104)
    assert again.values.tobytes() == total.values.tobytes()


def test_what_nobody_sent_is_zero() -> None:
    pool = np.array([2, 5, 7], np.int32)
    pairs = Pairs(pool, (slice(0, 3),), (1,), np.empty(0, np.int32), WireCodec("coo"))
    rows = np.array([[1, 0, 0], [3, 4, 0]], np.float32)
    messages = [pairs.encode(row, np.empty(0, np.float32)) for row in rows]
    assert sum_of_pairs(pairs, messages, 8).values.tolist() == [0, 0, 1, 0, 0, 4, 0, 0]
    nothing = sum_of_pairs(pairs, [None], 8)
    assert (nothing.values.tolist(), nothing.left_out) == ([0.0] * 8, 1)


class OneOfThree:
    """The server among three ranks, whose others send the bytes that are given."""

    rank, size = 0, 3

    def __init__(self, *others: list[int]) -> None:
        self.others = others
        self.counts: list[int] = []

    def gather_rows(self, rows: np.ndarray, counts: list[int]) -> np.ndarray:
        self.counts = counts
        return np.concatenate([rows, *(np.array(each, np.uint8) for each in self.others)])


def test_messages_come_to_the_server_in_client_order_whoever_sent_them() -> None:
    """Client 3 is rejected; what client 4 has is not finite."""
    clients, ones = np.arange(6), np.ones(6, np.int64)
    dealt = [np.array([1, 5]), np.array([0, 3]), np.array([2, 4])]
    roster = Roster(clients, clients != 3, ones, ones, 1.0, dealt, ones == 1)
    ranks: Any = OneOfThree([10, 11], [20, 21, 0, 0])
    mine = [np.array([7, 8], np.uint8), np.array([9, 0], np.uint8)]
    found = gather_pairs(ranks, roster, mine, 2)
    assert ranks.counts == [4, 2, 4]
    assert [None if each is None else each.tolist() for each in found] == [
        [10, 11],
        [7, 8],
        [20, 21],
        None,
        [9, 0],
    ]


def test_what_is_not_finite_travels_as_zeros() -> None:
    clients, ones = np.arange(2), np.ones(2, np.int64)
    roster = Roster(clients, ones == 1, ones, ones, 1.0, [clients], ones == 1)
    sent: list[Any] = []
    ranks: Any = SimpleNamespace(size=1, gather_rows=lambda rows, counts: sent.append(rows.tolist()))
    assert gather_pairs(ranks, roster, [None, np.array([3, 4], np.uint8)], 2) == []
    assert sent == [[0, 0, 3, 4]]


@pytest.mark.parametrize("keys", [{}, {"importance_entries": 5}, {"max_density": 0.67}])
@pytest.mark.parametrize("importance", ["full", "received", "sketch"])
def test_bytes_of_any_k_are_those_of_its_pairs(importance: str, keys: dict[str, Any]) -> None:
    if importance == "full":
        keys = {}
    own = form(importance=importance, **keys)
    for mask in (Mask.of(FLAGS), Mask(104)):
        at = own.bytes_at(mask, 1)
        for k in (1, 3, 8, 40, 104):
            pairs = own.pairs(mask, 1, k)
            assert at(k) == own.message_bytes(mask, 1, k) == (400 if pairs is None else pairs.message_bytes)


def test_fedtinys_bytes_do_not_depend_on_k() -> None:
    own = form(method=fedtiny(alpha=0.2, last_round=50, gradients="topk"))
    assert own.bytes_at(Mask.of(FLAGS), 9)(1) == own.message_bytes(Mask.of(FLAGS), 9, 70) == 16 + 8 * 10
