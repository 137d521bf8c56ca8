"""Codes of variable length are read as they were written, and are as long as their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.sparsification import bits
from fedmpi.sparsification.wire import WireError

numbers = st.lists(st.integers(1, 2**30), max_size=40)


@given(numbers, st.integers(0, 12), st.integers(0, 9), st.data())
def test_golomb_codes_are_read_as_written(
    distances: list[int], low_bits: int, before: int, data: st.DataObject
) -> None:
    few = np.array([1 + d % (1000 << low_bits) for d in distances], np.int64)
    negative = np.array(data.draw(st.lists(st.booleans(), min_size=few.size, max_size=few.size)), np.bool_)
    code = bits.golomb_code(few, negative, low_bits)
    assert code.size == sum(-(-d // 2**low_bits) + low_bits + 1 for d in few.tolist())
    stream = np.concatenate((np.ones(before, np.uint8), code, np.zeros(3, np.uint8)))
    zeros = np.flatnonzero(stream == 0)
    read, signs, end = bits.read_golomb_code(stream, zeros, before, few.size, low_bits)
    assert read.tolist() == few.tolist()
    assert signs.tolist() == negative.tolist()
    assert end == before + code.size


def test_a_golomb_code_by_hand() -> None:
    """5: one group of 4 beyond 1, rest 0; 1: nothing beyond; 3: rest 2. Then the sign."""
    code = bits.golomb_code(np.array([5, 1, 3]), np.array([True, False, True]), 2)
    assert "".join(map(str, code)) == "10001" + "0000" + "0101"


def test_a_golomb_stream_that_ends_early_is_refused() -> None:
    code = bits.golomb_code(np.array([5, 1, 3]), np.array([True, False, True]), 2)
    for length in range(code.size):
        stream = code[:length]
        with pytest.raises(WireError):
            bits.read_golomb_code(stream, np.flatnonzero(stream == 0), 0, 3, 2)


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (1, "0"),
        (2, "100"),
        (3, "110"),
        (4, "101000"),
        (8, "1110000"),
        (16, "10100100000"),
        (100, "1011011001000"),
    ],
)
def test_omega_codes_by_hand(number: int, code: str) -> None:
    """The table of Elias's omega code."""
    stream = np.zeros(len(code), np.uint8)
    bits.write_omega(stream, np.array([0]), np.array([number]))
    assert "".join(map(str, stream)) == code
    assert bits.omega_lengths(np.array([number])).tolist() == [len(code)]


@given(numbers)
def test_omega_codes_are_read_as_written(written: list[int]) -> None:
    values = np.array(written, np.int64)
    lengths = bits.omega_lengths(values)
    starts = np.cumsum(lengths) - lengths
    stream = np.zeros(int(lengths.sum()), np.uint8)
    bits.write_omega(stream, starts, values)
    found, long = bits.read_omega_everywhere(stream)
    assert found[starts].tolist() == written
    assert long[starts].tolist() == lengths.tolist()
    assert bits.walk_codes(long, values.size).tolist() == starts.tolist()


def test_an_omega_stream_that_ends_early_is_refused() -> None:
    stream = np.zeros(7, np.uint8)
    bits.write_omega(stream, np.array([0]), np.array([8]))
    for length in range(1, 7):
        found, _ = bits.read_omega_everywhere(stream[:length])
        assert found[0] == 0
    with pytest.raises(WireError, match="announced"):
        bits.walk_codes(bits.read_omega_everywhere(stream)[1], 2)


def test_random_bits_are_read_or_refused() -> None:
    rng = np.random.default_rng(3)
    for _ in range(200):
        stream = rng.integers(0, 2, int(rng.integers(1, 80))).astype(np.uint8)
        found, long = bits.read_omega_everywhere(stream)
        for place, (number, length) in enumerate(zip(found.tolist(), long.tolist(), strict=True)):
            if number:
                again = np.zeros(length, np.uint8)
                bits.write_omega(again, np.array([0]), np.array([number]))
                assert again.tolist() == stream[place : place + length].tolist()


def test_the_longest_omega_codes() -> None:
    """Up to 31 binary digits; what says of itself that it is longer is no code."""
    most = np.array([2**30, 2**31 - 1, 2**31], np.int64)
    lengths = bits.omega_lengths(most)
    assert lengths.tolist() == [2 + 3 + 5 + 31 + 1, 2 + 3 + 5 + 31 + 1, 2 + 3 + 5 + 32 + 1]
    starts = np.cumsum(lengths) - lengths
    stream = np.zeros(int(lengths.sum()), np.uint8)
    bits.write_omega(stream, starts, most)
    found, long = bits.read_omega_everywhere(stream)
    assert found[starts].tolist() == [2**30, 2**31 - 1, 0]
    assert long[starts].tolist() == [42, 42, 1]
