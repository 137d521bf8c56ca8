"""What stands for the updates of a round: their mean, or one that extreme values cannot move far."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from fedmpi.aggregation.interface import Aggregator

_BLOCK_VALUES = 1 << 16
"""Values of one block of coordinates, of all clients: it stays in the second-level cache."""

MEAN = Aggregator(
    summary="The mean of the updates, weighted by samples.",
    source='McMahan et al., "Communication-efficient learning of deep networks from decentralized data", AISTATS 2017',
)


def trimmed_mean(trim: float = 0.1) -> Aggregator:
    """The coordinate-wise trimmed mean: of n values, the floor(trim x n) smallest and largest are left out.

    Every client counts alike, whatever its number of samples, which a client could lie about. With fewer than 1 / trim
    clients nothing is left out. Raises ValueError unless 0 <= trim < 0.5.
    """
    if not 0 <= trim < 0.5:
        raise ValueError(f"trim is {trim}; allowed: a number from 0 to below 0.5")

    def combine(updates: NDArray[np.float32], samples: NDArray[np.int64]) -> NDArray[np.float32]:
        del samples
        return mean_without_extremes(updates, left_out(trim, len(updates)))

    return Aggregator(
        summary="The mean of each coordinate without its smallest and largest values, unweighted.",
        source='Yin et al., "Byzantine-robust distributed learning: towards optimal statistical rates", ICML 2018',
        combine=combine,
        sparse_refused="which compares the values of all clients in every coordinate",
    )


def left_out(trim: float, clients: int) -> int:
    """floor(trim x clients) of ``trim`` as it is written in decimals: 0.29 of 100 are 29, not 28."""
    return int(Fraction(str(trim)) * clients)


def mean_without_extremes(updates: NDArray[np.float32], cut: int) -> NDArray[np.float32]:
    """The mean over rows, float32 (d,), of each column of ``updates`` (n, d) without its ``cut`` least and largest.

    Values are added in rising order, so that the order of rows does not show.
    """
    clients, dimension = updates.shape
    mean = np.empty(dimension, np.float32)
    width = -(-_BLOCK_VALUES // clients)
    for start in range(0, dimension, width):
        part = slice(start, start + width)
        kept = np.sort(updates[:, part], axis=0)[cut : clients - cut]
        # From 0 on, so that a sum of zeros is 0 whichever of 0 and -0, which are equal, were kept.
        mean[part] = kept.sum(axis=0, dtype=np.float64, initial=0.0) / len(kept)
    return mean
