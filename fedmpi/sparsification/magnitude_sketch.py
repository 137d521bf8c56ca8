"""A sketch of how the energy of a vector lies among its largest entries, small enough to travel with every message.

A controller of k that weighs what k entries are worth must see larger k than the present one. Clients therefore add to
their messages the norm of their c largest entries for counts c on a fixed grid: one float32, the norm of all of them,
and one float16 for every other count, as a fraction of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.topk import stratified_positions

_FEWEST, _MOST = 8, 64
"""Counts of a grid: from the fewest that show the shape, to as many as still move the maximum that they lead to."""
_PARAMETERS_PER_COUNT = 2500
"""2 bytes for so many parameters: 1 % of a message of 8 bytes for each of 1 % of the parameters."""
_MANTISSA_BITS = 4
_SHIFT = 23 - _MANTISSA_BITS
_BINS = 255 << _MANTISSA_BITS
"""Exponents of finite numbers, each in parts by the leading bits."""
_BLOCK = 1 << 16
"""Entries of one pass in cache."""
_LOOKED_AT = 1 << 19
"""Of vectors at least twice as long, so many entries stand for all."""


def _mean_squares() -> NDArray[np.float64]:
    """The mean square (bins,) of magnitudes that lie evenly in each bin; in that of 0 they count as 0."""
    low = (np.arange(_BINS, dtype=np.uint32) << _SHIFT).view(np.float32).astype(np.float64)
    high = np.append(low[1:], 2.0**128)
    squares: NDArray[np.float64] = (low * low + low * high + high * high) / 3.0
    squares[0] = 0.0
    return squares


_MEAN_SQUARES = _mean_squares()


def counts_of(dimension: int, smallest: int) -> NDArray[np.int64]:
    """The grid of counts from ``smallest`` to ``dimension``, int64 rising; the last is ``dimension`` itself.

    Raises ValueError unless 1 <= smallest <= dimension.
    """
    if not 1 <= smallest <= dimension:
        raise ValueError(f"smallest is {smallest}, allowed are numbers from 1 to the dimension, {dimension}")
    points = min(max(dimension // _PARAMETERS_PER_COUNT, _FEWEST), _MOST)
    return np.unique(np.rint(np.geomspace(smallest, dimension, points)).astype(np.int64))


def energies_of(values: NDArray[np.float32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """The sums of squares (P,) of the ``counts`` (P,) largest of ``values`` (n,), finite, counts rising to n at most.

    One pass over the values: they are counted by exponent and leading bits of the mantissa, and those of a bin stand
    for their mean. The result is within 7 % of the exact sums, and within 1 % where many different values lie in every
    bin; magnitudes below 2^-126 tell less, those below 2^-130 count as 0. Of more than a million values half a million
    stand for all, one of every so many at places that meet no period: a few per cent, more where few values make up
    most of the sum. The same bits on every host.
    """
    looked_at = values
    if values.size >= 2 * _LOOKED_AT:
        looked_at = values[stratified_positions(values.size, _LOOKED_AT)]
    found = np.zeros(_BINS, dtype=np.int64)
    for start in range(0, looked_at.size, _BLOCK):
        bits = looked_at[start : start + _BLOCK].view(np.uint32) & np.uint32(0x7FFFFFFF)
        found += np.bincount((bits >> np.uint32(_SHIFT)).astype(np.intp), minlength=_BINS)
    present = np.flatnonzero(found)[::-1]
    stands_for = values.size / looked_at.size
    ends = np.concatenate([[0], np.cumsum(found[present])]) * stands_for
    sums = np.concatenate([[0.0], np.cumsum(found[present] * _MEAN_SQUARES[present])]) * stands_for
    return np.interp(counts, ends, sums)


@dataclass(frozen=True)
class MagnitudeSketch:
    """The sketch of vectors of ``dimension`` entries, at counts from ``smallest`` on.

    ``smallest`` may exceed the dimension; the grid is then the dimension alone. Where either is 0, as in ``NO_SKETCH``
    and of nothing, messages carry no sketch: it has 0 bytes, and neither counts nor contents.
    """

    dimension: int
    smallest: int

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """The counts (P,), int64 rising."""
        return counts_of(self.dimension, min(self.smallest, self.dimension))

    @property
    def bytes(self) -> int:
        """The length of a sketch; 0 without one."""
        return 4 + 2 * (len(self.counts) - 1) if self.smallest and self.dimension else 0

    def encode(self, values: NDArray[np.float32]) -> NDArray[np.uint8]:
        """The sketch of ``values`` (dimension,), finite. A norm beyond float32 is stated as the largest float32."""
        energies = energies_of(values, self.counts)
        whole = np.float32(min(sqrt(energies[-1]), float(np.finfo(np.float32).max)))
        fractions = (
            np.sqrt(energies[:-1] / energies[-1]) if energies[-1] > 0.0 else np.zeros(len(energies) - 1)
        )
        return np.concatenate([np.array([whole]).view(np.uint8), fractions.astype(np.float16).view(np.uint8)])

    def decode(self, data: NDArray[np.uint8]) -> NDArray[np.float64]:
        """The energies (P,) at ``counts`` that a sketch states. Raises ValueError for other bytes."""
        if data.dtype != np.uint8 or data.shape != (self.bytes,):
            raise ValueError(f"a sketch is {self.bytes} bytes, found {data.dtype} of shape {data.shape}")
        whole = float(np.frombuffer(data[:4].tobytes(), np.float32)[0])
        fractions = np.frombuffer(data[4:].tobytes(), np.float16).astype(np.float64)
        if not (0.0 <= whole < np.inf and ((fractions >= 0.0) & (fractions <= 1.0)).all()):
            raise ValueError(
                "a sketch states a norm that is negative or not finite, or a part above the whole"
            )
        return np.append(fractions, 1.0) ** 2 * whole**2


NO_SKETCH = MagnitudeSketch(dimension=0, smallest=0)
"""What messages carry that say nothing of magnitudes."""
