"""An aggregation rule of one's own: the coordinate-wise median of the updates, which few faulty clients cannot move.

cd examples; python own_aggregation.py [section.key=value ...]
"""

from __future__ import annotations

import sys

import numpy as np

import fedmpi
from fedmpi.aggregation import Aggregator


def coordinate_median(updates: np.ndarray, samples: np.ndarray) -> np.ndarray:
    """The median (d,) of ``updates`` (n, d), every client counting alike."""
    del samples
    return np.median(updates, axis=0).astype(np.float32)


MEDIAN = Aggregator(
    summary="the coordinate-wise median, unweighted",
    source="Yin et al., ICML 2018",
    combine=coordinate_median,
    sparse_refused="which compares the values of all clients in every coordinate",
)


def main(overrides: list[str]) -> None:
    """Run the quickstart with the mean and with the median, everything sent in every round."""
    for aggregator in ("mean", "own_aggregation:MEDIAN"):
        trace = fedmpi.run(
            "quickstart",
            f"experiment.name={aggregator.partition(':')[0]}",
            f"federation.aggregator={aggregator}",
            "sparsification.method=dense",
            "k_control.method=fixed",
            *overrides,
            overwrite=True,
            quiet=True,
        )
        accuracy = trace.rounds.test_accuracy.dropna().iloc[-1]
        print(f"{aggregator:24} accuracy {accuracy:.3f} after {trace.rounds.end_s.iloc[-1]:.0f} emulated s")


if __name__ == "__main__":
    main(sys.argv[1:])
