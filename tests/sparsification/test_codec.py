"""Messages of many clients at once are those of each alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.sparsification.codec import DENSE, Codec, WireCodec, decode_many, encode_many
from fedmpi.sparsification.stc import TernaryCodec

CODECS: dict[str, Codec] = {
    "coo": WireCodec("coo"),
    "bitmap": WireCodec("bitmap"),
    "auto": WireCodec("auto"),
    "dense": DENSE,
    "float16": WireCodec("coo", "float16"),
    "ternary": TernaryCodec(),
}


@pytest.mark.parametrize("name", CODECS)
@given(st.integers(1, 5), st.integers(1, 40), st.integers(0, 2**32 - 1), st.data())
def test_many_messages_are_those_of_each_alone(
    name: str, clients: int, dimension: int, seed: int, data: st.DataObject
) -> None:
    codec, rng = CODECS[name], np.random.default_rng(seed)
    k = data.draw(st.integers(1, dimension))
    indices = np.sort(rng.permuted(np.tile(np.arange(dimension), (clients, 1)), axis=1)[:, :k], axis=1)
    indices, values = indices.astype(np.int32), rng.standard_normal((clients, k)).astype(np.float32)
    together = encode_many(codec, indices, values, dimension)
    assert len(together) == clients
    alone = [codec.encode(*each, dimension) for each in zip(indices, values, strict=True)]
    for one, other in zip(together, alone, strict=True):
        assert one.data.tolist() == other.data.tolist()
        assert one.values.tolist() == other.values.tolist()
    read = decode_many(codec, [each.data for each in alone], dimension, 0, None)
    assert len(read) == clients
    for row, (found, own) in enumerate(zip(read, alone, strict=True)):
        arrived = np.zeros(dimension)
        arrived[found.indices] = found.values
        expected = np.zeros(dimension)
        expected[indices[row]] = own.values
        assert arrived.tolist() == expected.tolist()


def test_values_at_shared_positions_are_read_one_by_one() -> None:
    codec, at = WireCodec("values"), np.array([1, 4], np.int32)
    values = np.array([[1.0, 2.0], [3.0, 4.0]], np.float32)
    messages = [each.data for each in encode_many(codec, np.stack([at, at]), values, 6)]
    read = decode_many(codec, messages, 6, 0, at)
    assert [each.indices.tolist() for each in read] == [[1, 4]] * 2
    assert [each.values.tolist() for each in read] == values.tolist()


@pytest.mark.parametrize("lengths", [(), (2, 3), (0, 5, 0)])
def test_messages_of_other_numbers_or_lengths_are_read_too(lengths: tuple[int, ...]) -> None:
    codec, at = WireCodec("coo"), np.arange(5, dtype=np.int32)
    messages = [codec.encode(at[:n], np.float32(0.5) * at[:n], 9).data for n in lengths]
    read = decode_many(codec, messages, 9, 0, None)
    assert [each.indices.tolist() for each in read] == [list(range(n)) for n in lengths]
    assert [each.values.tolist() for each in read] == [[0.5 * i for i in range(n)] for n in lengths]
