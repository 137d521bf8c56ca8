"""Codes of variable length, as arrays of bits: Golomb codes of distances, Elias omega codes of positive integers.

A stream is a uint8 array of zeros and ones, the first bit of a byte being the highest. A code can only be found by
reading those before it; so all positions are read at once, and what remains is a walk from one code to the next.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.sparsification.wire import WireError

Bits = NDArray[np.uint8]
Integers = NDArray[np.int64]

_MOST_GROUPS = 5
"""Groups of an Elias omega code of a number below 2**31, the last one bit being no group."""
_LONGEST_NUMBER = 31


def write(bits: Bits, starts: Integers, numbers: Integers, widths: Integers) -> None:
    """Write ``numbers`` (n,) with ``widths`` (n,) bits each, the highest first, from ``starts`` (n,) on, in place."""
    for place in range(int(widths.max(initial=0))):
        inside = np.flatnonzero(widths > place)
        shifts = widths[inside] - 1 - place
        bits[starts[inside] + place] = (numbers[inside] >> shifts) & 1


def read(bits: Bits, starts: Integers, width: int) -> Integers:
    """The numbers (n,) of ``width`` bits that begin at ``starts`` (n,); all of them lie in ``bits``."""
    numbers = np.zeros(len(starts), np.int64)
    for place in range(width):
        numbers <<= 1
        numbers |= bits[starts + place]
    return numbers


def golomb_code(distances: Integers, negative: NDArray[np.bool_], low_bits: int) -> Bits:
    """``distances`` (n,), from 1 on, each with a sign: unary (d - 1) >> b, b low bits, one bit set if ``negative``."""
    beyond = distances - 1
    unary = beyond >> low_bits
    ends = np.cumsum(unary + low_bits + 2)
    starts = ends - (unary + low_bits + 2)
    steps = np.zeros((int(ends[-1]) if ends.size else 0) + 1, np.int8)
    steps[starts] += 1
    steps[starts + unary] -= 1
    bits = np.cumsum(steps[:-1], dtype=np.int8).view(np.uint8)
    low = beyond & ((1 << low_bits) - 1)
    write(bits, starts + unary + 1, low, np.full(len(distances), low_bits))
    bits[ends - 1] = negative
    return bits


def read_golomb_code(
    bits: Bits, zeros: Integers, start: int, count: int, low_bits: int
) -> tuple[Integers, NDArray[np.bool_], int]:
    """The inverse for ``count`` distances from bit ``start`` on: distances, signs, and the bit after the last.

    ``zeros``: the positions of all zeros of the stream, rising. Raises WireError where the stream ends too early.
    """
    if not count:
        return np.empty(0, np.int64), np.empty(0, np.bool_), start
    first = int(np.searchsorted(zeros, start))
    places = zeros[first:]
    following = np.searchsorted(places, places + low_bits + 2)
    stops = places[_walk(following, count)]
    if stops[-1] + low_bits + 1 >= bits.size:
        raise WireError(f"a stream of {bits.size} bits ends within its last code")
    starts = np.concatenate(([start], stops[:-1] + low_bits + 2))
    distances = ((stops - starts) << low_bits) + read(bits, stops + 1, low_bits) + 1
    negative = bits[stops + low_bits + 1].view(np.bool_)
    return distances, negative, int(stops[-1]) + low_bits + 2


def omega_lengths(numbers: Integers) -> Integers:
    """The bits of the Elias omega code of each of ``numbers`` (n,), from 1 on."""
    lengths, rest = np.ones(len(numbers), np.int64), numbers.copy()
    while (more := rest > 1).any():
        widths = _widths(rest)
        lengths += np.where(more, widths, 0)
        rest = np.where(more, widths - 1, rest)
    return lengths


def write_omega(bits: Bits, starts: Integers, numbers: Integers) -> None:
    """Write the Elias omega codes of ``numbers`` (n,), from 1 on, at ``starts`` (n,) into zeros, in place."""
    ends = starts + omega_lengths(numbers) - 1  # the last bit is a zero
    rest = numbers.copy()
    while (more := np.flatnonzero(rest > 1)).size:
        widths = _widths(rest[more])
        ends[more] -= widths
        write(bits, ends[more], rest[more], widths)
        rest[more] = widths - 1


def read_omega_everywhere(bits: Bits) -> tuple[Integers, Integers]:
    """What an Elias omega code says that begins at each bit (n,), and how long it is; 0 and 1 where none can begin."""
    size = bits.size
    padded = np.concatenate((bits, np.zeros(_LONGEST_NUMBER + 1, np.uint8)))
    numbers, at = np.ones(size, np.int64), np.arange(size)
    open_at = np.arange(size)
    for _ in range(_MOST_GROUPS):
        open_at = open_at[at[open_at] < size]
        open_at = open_at[padded[at[open_at]] == 1]
        widths = numbers[open_at] + 1
        possible = (widths <= _LONGEST_NUMBER) & (at[open_at] + widths <= size)
        numbers[open_at[~possible]] = 0
        open_at, widths = open_at[possible], widths[possible]
        grown = np.zeros(len(open_at), np.int64)
        for place in range(int(widths.max(initial=0))):
            inside = widths > place
            grown[inside] = grown[inside] << 1 | padded[at[open_at[inside]] + place]
        numbers[open_at] = grown
        at[open_at] += widths
    closed = (at < size) & (padded[np.minimum(at, size)] == 0) & (numbers > 0)
    return np.where(closed, numbers, 0), np.where(closed, at - np.arange(size) + 1, 1)


def walk_codes(lengths: Integers, count: int) -> Integers:
    """Where ``count`` codes begin that follow each other from the first bit on, one at bit i being ``lengths[i]`` long.

    Raises WireError where the stream ends too early.
    """
    following = np.arange(lengths.size) + lengths
    starts = _walk(following, count) if count else np.empty(0, np.int64)
    if count and following[starts[-1]] > lengths.size:
        raise WireError(f"a stream of {lengths.size} bits ends within its last code")
    return starts


def _walk(following: Integers, count: int) -> Integers:
    """The first ``count`` of the positions 0, following[0], ..."""
    steps, position = following.tolist(), 0
    visited: list[int] = []
    for _ in range(count):
        if position >= len(steps):
            raise WireError(f"{count} codes were announced, and the stream ends after {len(visited)}")
        visited.append(position)
        position = steps[position]
    return np.array(visited, np.int64)


def _widths(numbers: Integers) -> Integers:
    """The binary digits of each number from 1 on."""
    return np.frexp(numbers.astype(np.float64))[1].astype(np.int64)
