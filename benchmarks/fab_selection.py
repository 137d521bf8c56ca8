"""The server's selection, and fab beside a plain rendering of its paper; one core, interleaved, medians.

python benchmarks/fab_selection.py [--clients 100] [--k 4440] [--dimension 444062] [--repetitions 9]
"""

from __future__ import annotations

import argparse
from statistics import median
from time import perf_counter

import numpy as np
import torch
from numpy.typing import NDArray

from fedmpi.numerics.topk import top_k
from fedmpi.sparsification import SELECTORS, Uploads


def one_round(clients: int, k: int, dimension: int) -> Uploads:
    """Clients whose gradients agree in part."""
    rng = np.random.default_rng(0)
    common = rng.standard_normal(dimension, dtype=np.float32) * np.float32(0.5)
    indices: list[NDArray[np.int32]] = []
    values: list[NDArray[np.float32]] = []
    for _ in range(clients):
        gradient = common + rng.standard_normal(dimension, dtype=np.float32)
        indices.append(top_k(gradient, k))
        values.append(gradient[indices[-1]])
    offsets = np.arange(clients + 1, dtype=np.int64) * k
    sizes = rng.integers(20, 400, clients).astype(np.float64)
    return Uploads(offsets, np.concatenate(indices), np.concatenate(values), sizes / sizes.sum(), dimension)


def plain_fab(uploads: Uploads, k: int) -> list[int]:
    """The paper's description: widen a set by kappa, one rank at a time."""
    ranked = []
    for start, stop in zip(uploads.offsets[:-1], uploads.offsets[1:], strict=True):
        entries = zip(uploads.indices[start:stop].tolist(), uploads.values[start:stop].tolist(), strict=True)
        ranked.append(sorted(entries, key=lambda entry: -abs(entry[1])))
    chosen: set[int] = set()
    for rank in zip(*ranked, strict=False):
        wider = chosen | {index for index, _ in rank}
        if len(wider) > k:
            peaks: dict[int, float] = {}
            for index, value in rank:
                if index not in chosen:
                    peaks[index] = max(abs(value), peaks.get(index, 0.0))
            filling = sorted(peaks, key=lambda index: -peaks[index])
            chosen.update(filling[: k - len(chosen)])
            break
        chosen = wider
    sums = dict.fromkeys(sorted(chosen), 0.0)
    bounds = zip(uploads.offsets[:-1], uploads.offsets[1:], uploads.weights.tolist(), strict=True)
    for start, stop, weight in bounds:
        entries = zip(uploads.indices[start:stop].tolist(), uploads.values[start:stop].tolist(), strict=True)
        for index, value in entries:
            if index in sums:
                sums[index] += weight * value
    return list(sums)


def main() -> None:
    """Measure, check that both agree, and print one line for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clients", type=int, default=100)
    parser.add_argument("--k", type=int, default=4440)
    parser.add_argument("--dimension", type=int, default=444_062)
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    uploads = one_round(arguments.clients, arguments.k, arguments.dimension)
    seconds: dict[str, list[float]] = {way: [] for way in ("plain fab", *SELECTORS)}
    for repetition in range(arguments.repetitions + 1):
        for method, select in SELECTORS.items():
            start = perf_counter()
            selection = select(uploads, arguments.k)
            seconds[method].append(perf_counter() - start)
            if method == "fab" and repetition % 3 == 0:
                start = perf_counter()
                expected = plain_fab(uploads, arguments.k)
                seconds["plain fab"].append(perf_counter() - start)
                if selection.indices.tolist() != expected:
                    raise SystemExit("fab and the plain way disagree")
    medians = {way: median(times[1:] if len(times) > 1 else times) for way, times in seconds.items()}
    plain = medians.pop("plain fab")
    print(f"{arguments.clients} clients, k = {arguments.k}, D = {arguments.dimension}")
    for method, own in medians.items():
        compared = f", plain {plain * 1e3:.0f} ms ({plain / own:.0f}x)" if method == "fab" else ""
        print(f"{method}: {own * 1e3:.1f} ms{compared}")


if __name__ == "__main__":
    main()
