"""A PruneFL reconfiguration beside one that sorts all candidates; one thread, interleaved, medians.

python benchmarks/reconfiguration.py [--repetitions 7] [--memory]
"""

from __future__ import annotations

import argparse
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import reconfigure


@dataclass(frozen=True)
class Slice:
    """A layer of the measured model."""

    start: int
    stop: int
    prunable: bool


@dataclass(frozen=True)
class Case:
    """The arguments of one reconfiguration."""

    weights: NDArray[np.float32]
    importance: NDArray[np.float32]
    mask: Mask
    layers: tuple[Slice, ...]
    seconds_per_parameter: NDArray[np.float64]
    constant_s: float
    decrease_fraction: float
    max_density: float


# Conv2 on FEMNIST with the Raspberry Pi 4 coefficients of PruneFL at five local steps.
SIZES = (800, 32, 51_200, 64, 6_422_528, 2_048, 126_976, 62)
SECONDS = 5 * np.array([0.0, 7.098850e-6, 1.927325e-7, 1.782308e-7]) + 5.561621e-6
CONSTANT_S = 5 * 1.2492789765


def cases() -> dict[str, Case]:
    """Situations of a run, by how many parameters are active and how many are worth returning."""
    bounds = np.cumsum((0, *SIZES)).tolist()
    layers = tuple(Slice(bounds[i], bounds[i + 1], i % 2 == 0) for i in range(len(SIZES)))
    rng = np.random.default_rng(0)
    total = bounds[-1]
    weights = rng.standard_normal(total, dtype=np.float32)
    heavy = np.exp(3 * rng.standard_normal(total)).astype(np.float32)
    even = (1 + 0.1 * rng.random(total)).astype(np.float32)
    tied = rng.integers(0, 4, total).astype(np.float32)
    tenth = rng.random(total) < 0.1
    half = rng.random(total) < 0.5
    for layer in layers:
        if not layer.prunable:
            tenth[layer.start : layer.stop] = half[layer.start : layer.stop] = True
    zeros = np.where(half, weights, np.float32(0))
    full, sparse, middle = Mask(total), Mask.of(tenth), Mask.of(half)

    def case(
        importance: NDArray[np.float32], mask: Mask, constant_s: float, weights: NDArray[np.float32] = weights
    ) -> Case:
        return Case(weights, importance, mask, layers, SECONDS, constant_s, 0.3, 1.0)

    by_name = {
        "full, little put back": case(heavy, full, 1e-3),
        "full, much put back": case(even, full, CONSTANT_S),
        "density 0.1, little put back": case(heavy, sparse, 1e-3),
        "density 0.1, some put back": case(heavy, sparse, CONSTANT_S),
        "density 0.1, almost all put back": case(even, sparse, 1e3),
        "density 0.5, tied importance": case(tied, middle, CONSTANT_S),
        "half the weights zero": case(even, full, 1e-3, zeros),
    }
    limited = case(even, sparse, 1e3)
    by_name["density 0.1, limited to 0.5"] = Case(**{**limited.__dict__, "max_density": 0.5})
    return by_name


def by_full_sort(case: Case) -> tuple[Mask, int]:
    """The rule as it is written: sort the weights of a layer, then all candidates, and go through them."""
    active = np.array(case.mask.flags())
    prunable = [layer for layer in case.layers if layer.prunable]
    seconds = np.zeros(case.mask.dimension)
    limit = int(case.max_density * sum(layer.stop - layer.start for layer in prunable))
    candidate = np.zeros(case.mask.dimension, np.bool_)
    for layer, per_parameter in zip(prunable, case.seconds_per_parameter, strict=True):
        inside = active[layer.start : layer.stop]
        sizes = np.abs(case.weights[layer.start : layer.stop])
        ordered = np.sort(sizes[inside])
        inside &= sizes >= ordered[int(case.decrease_fraction * ordered.size)]
        seconds[layer.start : layer.stop] = per_parameter
        candidate[layer.start : layer.stop] = ~inside
    gain = case.importance[active].sum(dtype=np.float64)
    round_s = case.constant_s + seconds[active].sum()
    kept = sum(int(active[layer.start : layer.stop].sum()) for layer in prunable)
    at = np.flatnonzero(candidate)
    importance = case.importance[at].astype(np.float64)
    ratio = importance / seconds[at]
    order = np.argsort(-ratio, kind="stable")
    gains = gain + np.concatenate(([0.0], np.cumsum(importance[order])[:-1]))
    times = round_s + np.concatenate(([0.0], np.cumsum(seconds[at][order])[:-1]))
    fails = ratio[order] <= gains / times
    stop = int(fails.argmax()) if fails.any() else at.size
    stop = min(stop, limit - kept)
    active[at[order[:stop]]] = True
    return Mask.of(active), stop


def by_fedmpi(case: Case) -> tuple[Mask, int]:
    """What is measured."""
    result = reconfigure(**case.__dict__)
    return result.mask, int(result.put_back.sum())


def peak_bytes(run: Callable[[Case], object], case: Case) -> int:
    """The most memory that was allocated during a run, beyond its arguments."""
    tracemalloc.start()
    run(case)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def main() -> None:
    """Measure and print one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--memory", action="store_true", help="also print the peak memory over the weights'")
    arguments = parser.parse_args()
    for name, case in cases().items():
        own: list[float] = []
        sorting: list[float] = []
        for _ in range(arguments.repetitions + 1):
            start = perf_counter()
            mask, put_back = by_fedmpi(case)
            between = perf_counter()
            expected, expected_count = by_full_sort(case)
            sorting.append(perf_counter() - between)
            own.append(between - start)
        differing = int(np.count_nonzero(mask.flags() != expected.flags()))
        fast, slow = median(own[1:]), median(sorting[1:])
        line = (
            f"{name}: {put_back} put back (full sort {expected_count}, {differing} bits differ), "
            f"fedmpi {fast * 1e3:.1f} ms, full sort {slow * 1e3:.1f} ms ({slow / fast:.1f}x)"
        )
        if arguments.memory:
            line += (
                f", memory {peak_bytes(by_fedmpi, case) / case.weights.nbytes:.1f}x the weights "
                f"(full sort {peak_bytes(by_full_sort, case) / case.weights.nbytes:.1f}x)"
            )
        print(line)


if __name__ == "__main__":
    main()
