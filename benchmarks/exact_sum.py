"""Exact weighted means of updates beside plain float32 sums: python benchmarks/exact_sum.py [--values 444062]

One thread, in turn, medians: the exact mean of m updates (fedmpi.numerics.exact_sum), what ranks do of it before they
have heard of others (``accumulate``), and the loop that adds up update times weight in float32, in torch. What a mean
takes on several ranks shows `fedmpi bench collectives`.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from fedmpi.numerics.exact_sum import accumulate, mean, scale_exponent

UPDATES = (1, 2, 8, 16)


def seconds(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def float32_loop(updates: list[torch.Tensor], shares: list[float], out: torch.Tensor) -> None:
    torch.mul(updates[0], shares[0], out=out)
    for update, share in zip(updates[1:], shares[1:], strict=True):
        out.add_(update, alpha=share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--values", type=int, default=444_062)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    draw = np.random.default_rng(0)
    for count in UPDATES:
        updates = [draw.standard_normal(arguments.values).astype(np.float32) for _ in range(count)]
        weights = draw.integers(10, 60, count)
        total = int(weights.sum())
        exponent = scale_exponent(max(float(np.abs(update).max()) for update in updates), total)
        tensors = [torch.from_numpy(update) for update in updates]
        plain, sums = torch.empty(arguments.values), np.empty(arguments.values)
        exact = np.empty(arguments.values, np.float32)
        shares = (weights / total).tolist()
        ways: dict[str, Callable[[], object]] = {
            "float32": partial(float32_loop, tensors, shares, plain),
            "accumulate": partial(accumulate, updates, weights, exponent, sums),
            "mean": partial(mean, updates, weights, [], exponent, total, exact),
        }
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(arguments.repeats):
            for name, run in ways.items():
                times[name].append(seconds(run))
        middle = {name: float(np.median(each)) * 1e3 for name, each in times.items()}
        off = float(np.abs(plain.numpy() - exact).max())
        print(
            f"{count} updates of {arguments.values:,}: float32 loop {middle['float32']:.2f} ms, exact mean "
            f"{middle['mean']:.2f} ms ({middle['mean'] / middle['float32']:.1f}x), accumulate "
            f"{middle['accumulate']:.2f} ms; they differ by up to {off:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
