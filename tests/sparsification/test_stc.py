"""Sparse ternary compression: the vectors of its authors' program, its messages, and its accounts in whole rounds."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fedmpi.aggregation.means import MEAN
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.federation.server_aggregation import Answering
from fedmpi.sparsification import Choice, ServerMemory, SparseMethod, Uploads
from fedmpi.sparsification.stc import (
    Tensor,
    TernaryCodec,
    expected_bits,
    kept,
    largest_with_ties,
    low_bits,
    plain_mean,
    stc,
    tensors_of,
    ternary_entries,
)
from fedmpi.sparsification.wire import HEADER_BYTES, NO_TAIL, WireError
from fedmpi.testing import check_sparsification

VECTORS = np.load(Path(__file__).parents[1] / "golden" / "stc.npz")
CASES = json.loads(str(VECTORS["meta"]))


def layers_of(shapes: list[list[int]]) -> list[slice]:
    bounds = np.cumsum([0, *(int(np.prod(shape)) for shape in shapes)]).tolist()
    return [slice(start, stop) for start, stop in pairwise(bounds)]


def compressed(vector: NDArray[np.float32], tensors: tuple[Tensor, ...]) -> tuple[NDArray[np.float32], bytes]:
    """What arrives of a vector, and the message."""
    codec, indices = TernaryCodec(tensors), ternary_entries(vector, tensors)
    message = codec.encode(indices, vector[indices], vector.size)
    read = TernaryCodec(tuple(Tensor(t.start, t.stop, 0) for t in tensors)).decode(message.data, vector.size)
    np.testing.assert_array_equal(read.indices, indices)
    np.testing.assert_array_equal(read.values, message.values)
    arrived = np.zeros_like(vector)
    arrived[read.indices] = read.values
    return arrived, message.data.tobytes()


def code_bytes(case: dict[str, Any], golomb_bits: int) -> int:
    """The length of a message: header, a float32 and a uint32 for each tensor, and the code."""
    return HEADER_BYTES + 8 * len(case["shapes"]) + ceil(golomb_bits / 8)


def signs_and_magnitudes(
    arrived: NDArray[np.float32], layers: list[slice]
) -> tuple[NDArray[np.int8], list[float]]:
    return np.sign(arrived).astype(np.int8), [float(np.abs(arrived[layer]).max()) for layer in layers]


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']}")
def test_rounds_are_those_of_the_authors_program(case: dict[str, Any]) -> None:
    name, layers = case["case"], layers_of(case["shapes"])
    tensors = tensors_of(layers, case["p"])
    updates = VECTORS[f"{name}_update"].astype(np.float32)
    rounds, clients, dimension = updates.shape
    residual, weights = np.zeros((clients, dimension), np.float32), np.zeros(dimension, np.float32)
    method = replace(
        stc(),
        server=ServerMemory(lambda memory, k, choice: ternary_entries(memory, tensors)),
        codec_at=lambda k, choice: TernaryCodec(tensors),
    )
    server = Answering(method, TernaryCodec(), MEAN, dimension, is_server=True)
    for number in range(rounds):
        taking_part = case["participants"][number]
        sent = []
        for position, client in enumerate(taking_part):
            residual[client] += updates[number, client]
            arrived, data = compressed(residual[client], tensors)
            signs, magnitudes = signs_and_magnitudes(arrived, layers)
            np.testing.assert_array_equal(signs, VECTORS[f"{name}_client_sign"][number, client])
            np.testing.assert_allclose(magnitudes, VECTORS[f"{name}_client_mu"][number, client], rtol=1e-5)
            assert len(data) == code_bytes(case, case["client_bits_golomb"][number][position])
            residual[client] -= arrived
            sent.append(arrived)
        found = [np.flatnonzero(vector).astype(np.int32) for vector in sent]
        values = tuple(vector[at] for vector, at in zip(sent, found, strict=True))
        uploads = Uploads(tuple(found), values, np.full(len(sent), 1.0), dimension)
        choice = Choice(0, number, -1, layers)
        plan = RoundPlan(number, Action.NONE, 1, 0, 1.0, 0.0, np.array(taking_part))
        answer = server.answer(plan, uploads, NO_TAIL, choice, share=1.0)
        assert answer.selection.used.all()
        arrived, data = np.zeros(dimension, np.float32), answer.message
        arrived[answer.selection.indices] = answer.selection.values
        signs, magnitudes = signs_and_magnitudes(arrived, layers)
        np.testing.assert_array_equal(signs, VECTORS[f"{name}_server_sign"][number])
        np.testing.assert_allclose(magnitudes, VECTORS[f"{name}_server_mu"][number], rtol=1e-5)
        assert len(data) == code_bytes(case, case["server_bits_golomb"][number])
        weights += arrived
    np.testing.assert_allclose(residual, VECTORS[f"{name}_client_residual"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(server.lost, VECTORS[f"{name}_server_residual"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(weights, VECTORS[f"{name}_weights"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "case", [case for case in CASES if len(case["shapes"]) == 1], ids=lambda c: c["case"]
)
def test_the_programs_closed_formula_has_one_more_bit_for_each_entry(case: dict[str, Any]) -> None:
    size = int(np.prod(case["shapes"][0]))
    for row in zip(case["client_entries"], case["client_bits_expected"], strict=True):
        for entries, expected in zip(*row, strict=True):
            assert expected_bits(entries, size) + entries == pytest.approx(expected, rel=1e-5)


def test_the_low_bits_of_a_code() -> None:
    """b rises by one whenever the density halves; it is never negative."""
    assert [low_bits(k, 100_000) for k in (62_500, 50_000, 10_000, 100, 1)] == [0, 0, 3, 9, 15]
    assert low_bits(9, 10) == 0


def test_ties_are_all_sent_and_zeros_never() -> None:
    vector = np.array([0.0, 2.0, -1.0, 1.0, -1.0, 0.5], np.float32)
    assert largest_with_ties(vector, 2).tolist() == [1, 2, 3, 4]
    assert largest_with_ties(np.array([0.0, 3.0, 0.0], np.float32), 2).tolist() == [1]
    assert largest_with_ties(vector, 0).tolist() == []


def test_the_magnitude_is_the_mean_of_exactly_k() -> None:
    """Of 2, 1, 1, 1 two count; of a single 3 two count as well, one of them a zero."""
    tensors = (Tensor(0, 6, 2),)
    arrived, _ = compressed(np.array([0.0, 2.0, -1.0, 1.0, -1.0, 0.5], np.float32), tensors)
    assert arrived.tolist() == [0.0, 1.5, -1.5, 1.5, -1.5, 0.0]
    arrived, _ = compressed(np.array([0.0, -3.0, 0.0, 0.0, 0.0, 0.0], np.float32), tensors)
    assert arrived.tolist() == [0.0, -1.5, 0.0, 0.0, 0.0, 0.0]


def test_k_of_a_tensor_is_rounded_up() -> None:
    assert [kept(4003, 0.001), kept(1000, 0.001), kept(1, 0.001), kept(0, 0.5)] == [5, 1, 1, 0]


@given(st.integers(1, 300), st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.integers(0, 3))
def test_messages_are_read_as_written(size: int, seed: int, fraction: float, tail_length: int) -> None:
    rng = np.random.default_rng(seed)
    vector = rng.integers(-3, 4, size).astype(np.float32)
    cuts = np.sort(rng.integers(0, size + 1, 3)).tolist()
    layers = [slice(start, stop) for start, stop in pairwise([0, *cuts, size])]
    tensors = tensors_of(layers, fraction)
    indices, tail = ternary_entries(vector, tensors), rng.standard_normal(tail_length).astype(np.float32)
    codec = TernaryCodec(tensors)
    message = codec.encode(indices, vector[indices], size, tail)
    read = codec.decode(message.data, size, tail_length)
    np.testing.assert_array_equal(read.indices, indices)
    np.testing.assert_array_equal(read.values, message.values)
    np.testing.assert_array_equal(read.tail, tail)
    assert read.indices.dtype == np.int32
    assert (np.sign(message.values) == np.sign(vector[indices])).all()
    for length in range(message.data.size):
        with pytest.raises(WireError):
            codec.decode(message.data[:length], size, tail_length)


def test_messages_of_others_are_refused() -> None:
    codec = TernaryCodec((Tensor(0, 10, 2),))
    data = codec.encode(np.array([3, 7], np.int32), np.array([1, -1], np.float32), 10).data
    with pytest.raises(WireError, match="1 tensors and 10 coordinates was found, 1 and 11"):
        TernaryCodec().decode(data, 11)
    with pytest.raises(WireError, match="shorter than its header"):
        TernaryCodec((Tensor(0, 5, 1), Tensor(5, 10, 1))).decode(data, 10)
    with pytest.raises(WireError, match="no ternary message begins with"):
        codec.decode(np.zeros(data.size, np.uint8), 10)


def test_expected_lengths_are_those_of_entries_anywhere() -> None:
    rng = np.random.default_rng(0)
    indices = np.sort(rng.choice(200_000, 2_000, replace=False)).astype(np.int32)
    codec = TernaryCodec()
    size = len(codec.encode(indices, np.ones(2_000, np.float32), 200_000).data)
    assert size == pytest.approx(codec.message_bytes(2_000, 200_000), rel=0.01)
    assert size < 0.25 * 8 * 2_000
    assert codec.message_bytes(0, 100) == HEADER_BYTES + 8
    assert codec.message_bytes(100, 100) == HEADER_BYTES + 8 + 13


def test_every_client_counts_alike_on_the_server() -> None:
    one, two = np.array([0], np.int32), np.array([0, 1], np.int32)
    values = (np.array([2.0], np.float32), np.array([4.0, 6.0], np.float32))
    mean = plain_mean(Uploads((one, two), values, np.array([0.9, 0.1]), 3), 1)
    assert mean.indices.tolist() == [0, 1]
    assert mean.values.tolist() == [3.0, 3.0]
    assert mean.used.all()


@pytest.mark.parametrize("options", [{}, {"per_tensor": False}, {"down_fraction": 0.2}])
def test_the_method_keeps_its_accounts(options: dict[str, Any]) -> None:
    check_sparsification(stc(**options))


def test_the_whole_vector_is_one_tensor_where_wished() -> None:
    vector, layers = np.array([1, 2, 3, 9, 8, 7], np.float32), [slice(0, 3), slice(3, 6)]
    own = Choice(0, 0, 0, layers)
    assert _chosen(stc(), vector, own) == [2, 3]
    assert _chosen(stc(per_tensor=False), vector, own) == [3, 4]


def test_another_fraction_comes_down() -> None:
    method, layers = stc(per_tensor=False, down_fraction=0.5), [slice(0, 6)]
    vector = np.array([1, 2, 3, 9, 8, 7], np.float32)
    assert _chosen(method, vector, Choice(0, 0, 4, layers)) == [3, 4]
    assert method.server is not None
    assert method.server.choose(vector, 2, Choice(0, 0, -1, layers)).tolist() == [3, 4, 5]


def test_the_fraction_that_k_was_rounded_from_is_that_of_every_tensor() -> None:
    """1 of 100, where k / D = 4 / 350 would take two; the product is that of float64: 0.07 x 100 is above 7."""
    vector = np.arange(1, 351, dtype=np.float32)
    layers, method = [slice(0, 100), slice(100, 200), slice(200, 350)], stc()
    assert method.codec_at is not None
    assert method.server is not None
    assert len(method.choose(vector, 4, Choice(0, 0, 0, layers))) == 2 + 2 + 2
    for fraction, k, counts in [(0.01, 4, [1, 1, 2]), (0.07, 24, [8, 8, 11])]:
        choice = Choice(0, 0, 0, layers, fraction)
        chosen = method.choose(vector, k, choice)
        assert np.histogram(chosen, [0, 100, 200, 350])[0].tolist() == counts
        assert method.server.choose(vector, k, Choice(0, 0, -1, layers, fraction)).tolist() == chosen.tolist()
        message = method.codec_at(k, choice).encode(chosen, vector[chosen], 350)
        assert message.values[0] == np.mean(vector[100 - counts[0] : 100])


def _chosen(method: SparseMethod, vector: NDArray[np.float32], choice: Choice) -> list[int]:
    return [int(index) for index in method.choose(vector, 2, choice)]


def test_a_fraction_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match=r"down_fraction is 1\.5, allowed are 0 to 1"):
        stc(down_fraction=1.5)


def spoiled(data: NDArray[np.uint8], at: int, value: int) -> NDArray[np.uint8]:
    """With another uint32 at a byte: 8 are the entries of all tensors, 20 and 28 those of the first and second."""
    other = data.copy()
    other[at : at + 4] = np.array([value], "<u4").view(np.uint8)
    return other


def test_messages_that_contradict_themselves_are_refused() -> None:
    codec = TernaryCodec((Tensor(0, 10, 2), Tensor(10, 14, 1)))
    data = codec.encode(np.array([3, 7, 11], np.int32), np.array([1, -1, 2], np.float32), 14).data
    assert codec.decode(data, 14).indices.tolist() == [3, 7, 11]
    with pytest.raises(WireError, match="4 entries were announced, the tensors have 3"):
        codec.decode(spoiled(data, 8, 4), 14)
    with pytest.raises(WireError, match="11 entries were announced of a tensor of 10"):
        codec.decode(spoiled(spoiled(data, 8, 12), 20, 11), 14)
    with pytest.raises(WireError, match="bits of codes were found"):
        codec.decode(np.append(data, np.uint8(0)), 14)


def test_an_entry_beyond_its_tensor_is_refused() -> None:
    """The last one of ten lies nowhere among nine, whose codes are alike."""
    far = TernaryCodec((Tensor(0, 10, 1),)).encode(np.array([9], np.int32), np.ones(1, np.float32), 10).data
    assert low_bits(1, 10) == low_bits(1, 9) == 2
    near = spoiled(far, 12, 9)
    with pytest.raises(WireError, match="entry 9 was found in a tensor of 9"):
        TernaryCodec((Tensor(0, 9, 1),)).decode(near, 9)


@pytest.mark.parametrize("fraction", [0.0, 1.0])
def test_none_or_all_may_come_down(fraction: float) -> None:
    method, layers = stc(per_tensor=False, down_fraction=fraction), [slice(0, 6)]
    assert method.server is not None
    vector = np.array([1, 2, 3, 9, 8, 7], np.float32)
    found = method.server.choose(vector, 2, Choice(0, 0, -1, layers)).tolist()
    assert found == ([0, 1, 2, 3, 4, 5] if fraction else [3, 4])
    with pytest.raises(ValueError, match=r"down_fraction is -0\.1"):
        stc(down_fraction=-0.1)


def test_what_is_not_said_is_layer_by_layer_with_as_many_down() -> None:
    method, layers = stc(), [slice(0, 3), slice(3, 6)]
    assert method.server is not None
    vector = np.array([1, 2, 3, 9, 8, 7], np.float32)
    assert method.server.choose(vector, 2, Choice(0, 0, -1, layers)).tolist() == [2, 3]
    assert method.resends
    assert not method.at_most_k_down
