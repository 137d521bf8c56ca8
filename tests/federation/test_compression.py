"""What clients send of what they have accumulated: entries, bytes, and what the server reads of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fedmpi.federation.compression import Compression
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.pruning import Mask
from fedmpi.sparsification.codec import Codec, WireCodec
from fedmpi.sparsification.interface import SparseMethod
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH, MagnitudeSketch
from fedmpi.sparsification.uploads import Selection, Uploads
from fedmpi.sparsification.wire import NO_TAIL

PLAN = RoundPlan(3, Action.NONE, 2, 0, 0.1, 0.0, np.arange(2))
ACTIVE = np.array([[1.0, -3.0, 0.5, 2.0, 0.0, -2.5], [4.0, 0.0, 0.0, 0.0, -1.0, 0.25]], np.float32)
COO = WireCodec("coo")


class Layer:
    def __init__(self, start: int, stop: int) -> None:
        self.start, self.stop, self.prunable = start, stop, True


LAYERS = (Layer(0, 4), Layer(4, 6))


def none(uploads: Uploads, k: int) -> Selection:
    raise AssertionError("clients do not select")


def compression_of(codec: Codec = COO, sketch: MagnitudeSketch = NO_SKETCH, **method: Any) -> Compression:
    made = SparseMethod(summary="It is tried.", select=none, **method)
    return Compression(made, codec, sketch, LAYERS, 6, seed=9)


def last_two(accumulated: np.ndarray, k: int, choice: Any) -> np.ndarray:
    return np.arange(len(accumulated) - k, len(accumulated), dtype=np.int32)


@pytest.mark.parametrize(
    ("method", "indices"),
    [({}, [[1, 5], [0, 4]]), ({"choose": last_two}, [[4, 5], [4, 5]])],
)
def test_a_client_sends_the_entries_that_its_method_chooses(method: dict, indices: list[list[int]]) -> None:
    given = compression_of(**method)
    given.begin(PLAN)
    for row, expected in zip(ACTIVE, indices, strict=True):
        sent = given.of(row, 1, PLAN, NO_TAIL)
        assert sent is not None
        assert sent.indices.tolist() == expected
        assert sent.message.values.tolist() == row[expected].tolist()
        assert len(sent.message.data) == 16 + 2 * 8


@pytest.mark.parametrize(
    ("layer_k", "indices"),
    [((2, 0), [[1, 3], [0, 1]]), ((0, 1), [[5], [4]]), ((1, 2), [[1, 4, 5], [0, 4, 5]])],
)
def test_layers_send_so_many_of_their_largest_entries(
    layer_k: tuple[int, ...], indices: list[list[int]]
) -> None:
    given = compression_of()
    plan = replace(PLAN, k=sum(layer_k), layer_k=layer_k)
    given.begin(plan)
    many = given.of_many(ACTIVE, np.arange(2), plan)
    for row, client, expected in zip(ACTIVE, many, indices, strict=True):
        sent = given.of(row, 1, plan, NO_TAIL)
        assert sent is not None
        assert client is not None
        assert sent.indices.tolist() == client.indices.tolist() == expected
        assert sent.indices.dtype == client.indices.dtype == np.int32
        assert sent.message.data.tobytes() == client.message.data.tobytes()


def test_a_method_sees_what_each_layer_may_send() -> None:
    seen = []

    def look(accumulated: np.ndarray, k: int, choice: Any) -> np.ndarray:
        seen.append((k, choice.layer_k, [accumulated[layer].size for layer in choice.layers]))
        return last_two(accumulated, k, choice)

    plan = replace(PLAN, k=3, layer_k=(2, 1))
    compression_of(choose=look).of(ACTIVE[0], 1, plan, NO_TAIL)
    assert seen == [(3, (2, 1), [4, 2])]


@pytest.mark.parametrize(
    "method",
    [
        {},
        {"choose": last_two},
        {"coordinates": lambda dimension, k, choice: np.arange(k, dtype=np.int32)},
        {
            "codec": WireCodec("values"),
            "coordinates": lambda dimension, k, choice: np.arange(k, dtype=np.int32),
        },
        {"codec_at": lambda k, choice: WireCodec("bitmap")},
    ],
)
@pytest.mark.parametrize("sketch", [NO_SKETCH, MagnitudeSketch(6, 1)])
@pytest.mark.parametrize("broken", [False, True])
def test_many_clients_send_what_each_would(method: dict, sketch: MagnitudeSketch, broken: bool) -> None:
    given = compression_of(sketch=sketch, **method)
    given.begin(PLAN)
    rows = ACTIVE.copy()
    if broken:
        rows[1] = np.inf
    many = given.of_many(rows, np.array([4, 7]), PLAN)
    alone = [given.of(row, client, PLAN, NO_TAIL) for row, client in zip(rows, (4, 7), strict=True)]
    assert [each is None for each in many] == [False, broken]
    for one, other in zip(many, alone, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert one.indices.tolist() == other.indices.tolist()
            assert one.message.data.tobytes() == other.message.data.tobytes()


def test_a_choice_knows_its_round_client_and_layers() -> None:
    given = compression_of()
    choice = given.choice(PLAN, 5)
    assert (choice.seed, choice.round_index, choice.client) == (9, 3, 5)
    assert list(choice.layers) == [slice(0, 4), slice(4, 6)]
    given.set_mask(Mask.of(np.array([1, 0, 0, 1, 1, 0], np.bool_)))
    assert list(given.choice(PLAN, 5).layers) == [slice(0, 2), slice(2, 3)]
    assert given.dimension == 3


def test_a_choice_knows_the_fraction_of_which_k_is_made_as_long_as_nothing_is_pruned() -> None:
    assert compression_of().choice(PLAN, 5).k_fraction == 0.0
    method = SparseMethod(summary="It is tried.", select=none)
    given = Compression(method, COO, NO_SKETCH, LAYERS, 6, seed=9, k_fraction=0.3)
    assert given.choice(PLAN, 5).k_fraction == 0.3
    given.set_mask(Mask.of(np.array([1, 0, 0, 1, 1, 0], np.bool_)))
    assert given.choice(PLAN, 5).k_fraction == 0.0


def test_no_more_entries_are_chosen_than_are_active() -> None:
    given = compression_of()
    given.set_mask(Mask.of(np.array([1, 0, 0, 0, 0, 1], np.bool_)))
    plan, row = replace(PLAN, k=5), np.array([1.0, 2.0], np.float32)
    sent = given.of(row, 0, plan, NO_TAIL)
    assert sent is not None
    assert sent.indices.tolist() == [0, 1]
    (many,) = given.of_many(row[None], np.array([0]), plan)
    assert many is not None
    assert many.indices.tolist() == [0, 1]


def test_the_server_reads_entries_tails_and_energies() -> None:
    """Squares of 4, 1 and 0.25 are those of the bins from them on, [4, 4.25), [1, 1.0625) and [0.25, 0.265625)."""
    given = compression_of(sketch=MagnitudeSketch(6, 1))
    tail = np.array([7.0, 8.0, 9.0], np.float32)
    sent = [given.of(row, client, PLAN, tail) for client, row in enumerate(ACTIVE)]
    messages = [each.message.data for each in sent if each is not None]
    assert [len(message) for message in messages] == [16 + 2 * 8 + 3 * 4 + given.sketch.bytes] * 2
    entries, stated = given.read(messages, COO, 3)
    assert [each.indices.tolist() for each in entries] == [[1, 5], [0, 4]]
    assert [each.values.tolist() for each in entries] == [[-3.0, -2.5], [4.0, -1.0]]
    assert all(each.tail.tolist() == [7.0, 8.0, 9.0] for each in entries)
    squares = (4.0**2 + 4.0 * 4.25 + 4.25**2) / 3 * (1 + 1 / 16 + 1 / 256)
    assert stated[1][-1] == pytest.approx(squares, rel=1e-6)
    assert stated[0][-1] == pytest.approx(3.0**2 + 2.5**2 + 2.0**2 + 1.0**2 + 0.5**2, rel=0.07)


def test_without_sketches_no_energies_are_stated() -> None:
    given = compression_of()
    sent = given.of(ACTIVE[0], 0, PLAN, NO_TAIL)
    assert sent is not None
    entries, stated = given.read([sent.message.data], COO, 0)
    assert entries[0].values.tolist() == [-3.0, -2.5]
    assert stated == []
