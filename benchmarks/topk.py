"""Exact top-k beside torch.topk, np.argpartition and np.partition; one thread, interleaved, medians.

python benchmarks/topk.py [--repetitions 15] [--fraction 0.01] [--sizes 444062,6603710]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.numerics.topk import top_k

Values = NDArray[np.float32]


def data_sets(size: int) -> dict[str, Values]:
    """Vectors of the kinds that occur: noise, one scale for each layer, constant, mostly zero."""
    rng = np.random.default_rng(0)
    normal = rng.standard_normal(size, dtype=np.float32)
    scales = np.repeat(np.logspace(-3, 1, 8, dtype=np.float32), -(-size // 8))[:size]
    sparse = np.where(rng.random(size) < 0.005, normal, np.float32(0))
    return {
        "normal": normal,
        "layered": normal * scales,
        "constant": np.ones_like(normal),
        "mostly zero": sparse,
    }


def by_torch(values: Values, k: int) -> None:
    """The plain way in torch."""
    torch.topk(torch.from_numpy(values).abs(), k)


def by_argpartition(values: Values, k: int) -> None:
    """The plain way in numpy; equal magnitudes fall as they may."""
    np.sort(np.argpartition(np.abs(values), values.size - k)[values.size - k :])


def by_partition(values: Values, k: int) -> None:
    """The k-th magnitude by np.partition, then everything from it on."""
    magnitudes = np.abs(values)
    np.flatnonzero(magnitudes >= np.partition(magnitudes, values.size - k)[values.size - k])


def by_fedmpi(values: Values, k: int) -> None:
    """What is measured."""
    top_k(values, k)


WAYS: dict[str, Callable[[Values, int], None]] = {
    "fedmpi": by_fedmpi,
    "torch.topk": by_torch,
    "argpartition": by_argpartition,
    "partition": by_partition,
}


def main() -> None:
    """Measure and print one line for each vector."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=15)
    parser.add_argument("--fraction", type=float, default=0.01)
    parser.add_argument("--sizes", default="444062,6603710")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for size in map(int, arguments.sizes.split(",")):
        k = max(1, int(size * arguments.fraction))
        for kind, values in data_sets(size).items():
            gradient = np.zeros_like(values)
            seconds: dict[str, list[float]] = {way: [] for way in WAYS}
            for _ in range(arguments.repetitions + 1):
                for way, select in WAYS.items():
                    values += (
                        gradient  # a client adds its gradient, then selects: the vector has just been read
                    )
                    start = perf_counter()
                    select(values, k)
                    seconds[way].append(perf_counter() - start)
            medians = {way: median(times[1:]) for way, times in seconds.items()}
            own = medians["fedmpi"]
            others = ", ".join(
                f"{way} {medians[way] * 1e3:.2f} ms ({medians[way] / own:.1f}x)"
                for way in WAYS
                if way != "fedmpi"
            )
            print(f"D = {size}, k = {k}, {kind}: fedmpi {own * 1e3:.3f} ms, {others}")


if __name__ == "__main__":
    main()
