"""QSGD: the vectors of a public program, and messages that are read as written in every form."""

from __future__ import annotations

import json
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.compression import Compression
from fedmpi.federation.messages import Action, RoundPlan
from fedmpi.sparsification import Choice
from fedmpi.sparsification.magnitude_sketch import NO_SKETCH
from fedmpi.sparsification.qsgd import (
    QuantizedCodec,
    decoded,
    elias_dense_bits,
    elias_sparse_bits,
    everything,
    level_bits,
    levels_of,
    norms_of,
    qsgd,
)
from fedmpi.sparsification.wire import HEADER_BYTES, WireError
from fedmpi.testing import check_sparsification

VECTORS = np.load(Path(__file__).parents[1] / "golden" / "qsgd.npz")
CASES = json.loads(str(VECTORS["meta"]))


def choice(seed: int = 0) -> Choice:
    return Choice(seed, 0, 0, [])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']}")
def test_levels_are_those_of_the_program(case: dict[str, Any]) -> None:
    name, levels, bucket = case["case"], case["levels"], case["bucket"]
    vector = VECTORS[f"{name}_x"].astype(np.float32)
    norms = norms_of(vector, bucket)
    np.testing.assert_allclose(norms, VECTORS[f"{name}_norm"], rtol=1e-5)
    signed = levels_of(vector, norms, VECTORS[f"{name}_uniform"], levels, bucket)
    np.testing.assert_array_equal(signed, VECTORS[f"{name}_level"])
    np.testing.assert_allclose(
        decoded(signed, norms, levels, bucket), VECTORS[f"{name}_decoded"], rtol=1e-5, atol=0
    )


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"case{case['case']}")
def test_lengths_are_those_of_the_formulas(case: dict[str, Any]) -> None:
    """Elias codes of each bucket for itself, as the formulas have them; the norms are counted beside."""
    signed = VECTORS[f"{case['case']}_level"].astype(np.int64)
    bucket = case["bucket"] or case["n"]
    parts = [signed[start : start + bucket] for start in range(0, case["n"], bucket)]
    assert 32 * len(parts) + level_bits(case["levels"]) * case["n"] == case["bits"]["packed"]
    assert sum(32 + elias_sparse_bits(part) for part in parts) == case["bits"]["elias_sparse"]
    assert sum(32 + elias_dense_bits(part) for part in parts) == case["bits"]["elias_dense"]


def test_levels_by_hand() -> None:
    """Norm 5, four levels: 3 is at 2.4 and 4 at 3.2; a draw below the fraction rounds up, one at it does not."""
    vector = np.array([3.0, -4.0], np.float32)
    norms = norms_of(vector, 0)
    assert norms.tolist() == [5.0]
    for draws, expected in [((0.3, 0.1), [3, -4]), ((0.5, 0.3), [2, -3]), ((0.3, 0.3), [3, -3])]:
        assert levels_of(vector, norms, np.array(draws, np.float32), 4, 0).tolist() == expected
    assert decoded(np.array([3, -4], np.int16), norms, 4, 0).tolist() == [3.75, -5.0]
    half = np.array([2.5, 0.0], np.float32)
    assert levels_of(half, np.float32([5.0]), np.float32([0.0, 0.0]), 1, 0).tolist() == [1, 0]
    assert levels_of(half, np.float32([5.0]), np.float32([0.5, 0.0]), 1, 0).tolist() == [0, 0]


def test_a_bucket_of_zeros_gives_zeros_and_tiny_ones_their_levels() -> None:
    vector = np.array([0, 0, 1e-42, -1e-42], np.float32)
    norms = norms_of(vector, 2)
    signed = levels_of(vector, norms, np.full(4, 0.9, np.float32), 127, 2)
    assert signed[:2].tolist() == [0, 0]
    assert abs(int(signed[2]) - 127 / 2**0.5) < 2
    assert signed[3] == -signed[2]


def test_the_mean_of_many_draws_is_the_vector() -> None:
    vector = np.random.default_rng(0).standard_normal(200).astype(np.float32)
    indices, total = np.arange(200, dtype=np.int32), np.zeros(200)
    for round_index in range(400):
        codec = QuantizedCodec(3, 64, choice=Choice(1, round_index, 0, []))
        total += codec.encode(indices, vector, 200).values
    step = float(norms_of(vector, 64).max()) / 3
    assert np.abs(total / 400 - vector).max() < 5 * 0.5 * step / 400**0.5


def test_draws_belong_to_round_and_client() -> None:
    vector, indices = np.linspace(-1, 1, 50, dtype=np.float32), np.arange(50, dtype=np.int32)
    messages = {
        QuantizedCodec(3, 0, choice=Choice(0, round_index, client, []))
        .encode(indices, vector, 50)
        .data.tobytes()
        for round_index in range(3)
        for client in range(3)
    }
    assert len(messages) == 9
    again = [QuantizedCodec(3, 0, choice=choice(4)).encode(indices, vector, 50).data for _ in range(2)]
    np.testing.assert_array_equal(*again)


@given(
    st.integers(0, 300),
    st.integers(0, 2**32 - 1),
    st.integers(1, 127),
    st.sampled_from([0, 1, 7, 128]),
    st.booleans(),
    st.integers(0, 3),
)
def test_messages_are_read_as_written(
    size: int, seed: int, levels: int, bucket: int, elias: bool, tail_length: int
) -> None:
    rng = np.random.default_rng(seed)
    vector = (rng.standard_normal(size) * (rng.random(size) < 0.3)).astype(np.float32)
    tail = rng.standard_normal(tail_length).astype(np.float32)
    codec = QuantizedCodec(levels, bucket, elias, choice(seed % 1000))
    message = codec.encode(np.arange(size, dtype=np.int32), vector, size, tail)
    reader = QuantizedCodec(levels, bucket, elias)
    read = reader.decode(message.data, size, tail_length)
    np.testing.assert_array_equal(read.indices, np.arange(size))
    np.testing.assert_array_equal(read.values, message.values)
    np.testing.assert_array_equal(read.tail, tail)
    assert (message.values[vector == 0] == 0).all()
    assert (np.sign(message.values) * np.sign(vector) >= 0).all()
    if not elias:
        assert message.data.size == codec.message_bytes(size, size) + 4 * tail_length
    for length in range(message.data.size):
        with pytest.raises(WireError):
            reader.decode(message.data[:length], size, tail_length)


def test_lengths_of_messages() -> None:
    codec = QuantizedCodec(7, 128)
    assert codec.message_bytes(0, 1000) == HEADER_BYTES + 4 * 8 + ceil(4 * 1000 / 8)
    fixed, each = codec.bytes_by_dimension(0, 1280)
    assert fixed + 1280 * each == codec.message_bytes(1280, 1280)
    assert [level_bits(levels) for levels in (1, 7, 127)] == [2, 4, 8]


def test_the_shorter_elias_form_is_taken() -> None:
    indices = np.arange(1000, dtype=np.int32)
    rare = np.zeros(1000, np.float32)
    rare[500] = 1.0
    often = np.tile(np.array([1, 0, 0, 0], np.float32), 250)
    for vector, length in [(rare, elias_sparse_bits), (often, elias_dense_bits)]:
        codec = QuantizedCodec(100, 0, True, choice())
        message = codec.encode(indices, vector, 1000)
        unit = np.float32(np.linalg.norm(vector)) / 100
        signed = np.rint(message.values / unit).astype(np.int64)
        assert message.data.size == HEADER_BYTES + 4 + ceil(length(signed) / 8)


def test_other_messages_are_refused() -> None:
    indices, codec = np.arange(4, dtype=np.int32), QuantizedCodec(7, 0, choice=choice())
    data = codec.encode(indices, np.ones(4, np.float32), 4).data
    with pytest.raises(WireError, match="7 levels of 4 coordinates were found, 3 of 4"):
        QuantizedCodec(3, 0).decode(data, 4)
    with pytest.raises(WireError, match="no message in levels begins with"):
        codec.decode(np.zeros(data.size, np.uint8), 4)
    with pytest.raises(ValueError, match="3 entries of 4"):
        codec.encode(indices[:3], np.ones(3, np.float32), 4)
    with pytest.raises(ValueError, match="no choice"):
        QuantizedCodec(7, 0).encode(indices, np.ones(4, np.float32), 4)


@pytest.mark.parametrize("options", [{}, {"levels": 1, "bucket": 0}, {"levels": 127, "elias": True}])
def test_the_method_keeps_its_accounts(options: dict[str, Any]) -> None:
    check_sparsification(qsgd(**options))


@pytest.mark.parametrize(
    ("options", "problem"),
    [({"levels": 0}, "levels is 0, allowed are 1 to 127"), ({"bucket": -1}, "bucket is -1")],
)
def test_options_out_of_range_are_refused(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        qsgd(**options)


def test_what_is_not_said_is_seven_levels_in_buckets_of_128() -> None:
    method = qsgd()
    assert method.codec == QuantizedCodec(7, 128, elias=False)
    assert (method.memory, method.all_entries, method.at_most_k_down) == ("none", True, False)
    with pytest.raises(ValueError, match="levels is 128, allowed are 1 to 127"):
        qsgd(levels=128)


def test_a_vector_in_one_bucket_has_one_norm() -> None:
    fixed, each = QuantizedCodec(7, 0).bytes_by_dimension(0, 1280)
    assert (fixed, each) == (HEADER_BYTES + 4, 0.5)


@pytest.mark.parametrize("elias", [False, True])
def test_a_norm_beyond_float32_leaves_nothing_of_its_bucket(elias: bool) -> None:
    """Whoever sends it is rejected, as one whose update is not finite."""
    vector = np.array([3e38, 3e38, 3e38, 0.5], np.float32)
    arriving = QuantizedCodec(7, 2, elias, choice()).encode(np.arange(4, dtype=np.int32), vector, 4).values
    assert np.isnan(arriving[:2]).all()
    assert np.isfinite(arriving[2:]).all()
    given = Compression(qsgd(7, 2, elias), QuantizedCodec(7, 2, elias), NO_SKETCH, [Whole()], 4, seed=0)
    plan = RoundPlan(0, Action.NONE, 4, 0, 1.0, 0.0, np.arange(1))
    rows = np.stack([vector, vector / 2])
    many = given.of_many(rows, np.arange(2), plan)
    assert [each is None for each in many] == [True, False]
    assert given.of(vector, 0, plan, np.empty(0, np.float32)) is None


class Whole:
    start, stop, prunable = 0, 4, True


def test_buckets_longer_than_any_vector_are_refused() -> None:
    qsgd(bucket=2**31 - 1)
    with pytest.raises(ValueError, match="bucket is 2147483648, allowed are 0 to 2147483647"):
        qsgd(bucket=2**31)
    with pytest.raises(ValueError, match="bucket is -1, allowed are 0 to 2147483647"):
        qsgd(bucket=-1)


def test_headers_that_do_not_fit_their_levels_are_refused() -> None:
    """Byte 4 is the form, of which there are three; bytes 8 to 11 are the number of levels that are not 0."""
    vector = np.array([1.0, 0.0, 0.0, 0.0], np.float32)
    for elias in (False, True):
        codec = QuantizedCodec(7, 0, elias, choice())
        data = codec.encode(np.arange(4, dtype=np.int32), vector, 4).data
        form = data.copy()
        form[4] = 3
        with pytest.raises(WireError, match="no message in levels begins with"):
            codec.decode(form, 4)
        more = np.append(data, np.uint8(0))
        with pytest.raises(WireError, match="do not fit its header"):
            codec.decode(more, 4)
    packed = QuantizedCodec(7, 0, choice=choice()).encode(np.arange(4, dtype=np.int32), vector, 4).data
    packed[8] += 1
    with pytest.raises(WireError, match="in form packed do not fit its header"):
        QuantizedCodec(7, 0).decode(packed, 4)


def test_all_coordinates_are_shared_and_not_written_to() -> None:
    with pytest.raises(ValueError, match="read-only"):
        everything(5)[0] = 1
