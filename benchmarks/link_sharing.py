"""Time of one max-min sharing of a server link, beside water filling anew at every event.

    python benchmarks/link_sharing.py

Prints both times and their ratio for 10, 100 and 1000 concurrent uploads, for a server link that never binds,
binds for all at once (downloads), or for uploads that begin one after another.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf

import numpy as np

from fedmpi.emulation.link_sharing import finish_times


def naive_finish_times(
    begin: list[float], size: list[float], own: list[float], capacity: float
) -> list[float]:
    """The same model as plainly as it can be written: every event looks at every transfer."""
    count = len(begin)
    by_rate = sorted(range(count), key=own.__getitem__)
    left = list(size)
    finish = [inf] * count
    now = min(begin)
    while inf in finish:
        moving = [i for i in by_rate if begin[i] <= now and finish[i] == inf]
        rates, free = {}, capacity
        for position, i in enumerate(moving):
            rates[i] = min(own[i], free / (len(moving) - position))
            free -= rates[i]
        then = min((begin[i] for i in range(count) if begin[i] > now), default=inf)
        if moving:
            first = min(moving, key=lambda i: left[i] / rates[i])
            end = now + left[first] / rates[first]
            if end <= then:
                then = finish[first] = end
        for i in moving:
            left[i] -= rates[i] * (then - now)
        now = then
    return finish


def best_seconds(call: Callable[[], object], budget_s: float = 1.0) -> float:
    """The shortest of as many calls as fit into the budget, at least one."""
    best, end = inf, time.perf_counter() + budget_s
    while True:
        begin = time.perf_counter()
        call()
        done = time.perf_counter()
        best = min(best, done - begin)
        if done >= end:
            return best


def main() -> None:
    rng = np.random.default_rng(1)
    print(f"{'transfers':>9}  {'case':<22} {'fedmpi ms':>10} {'naive ms':>10} {'ratio':>7}")
    for count in (10, 100, 1000):
        own = rng.lognormal(13.8, 0.7, count)
        size = rng.uniform(1e5, 1e7, count)
        staggered = np.sort(rng.uniform(0.0, 20.0, count))
        for case, begin, capacity in (
            ("never binding", staggered, float(own.sum() * 1.01)),
            ("all at once, half rate", np.zeros(count), float(own.sum() / 2)),
            ("staggered, half rate", staggered, float(own.sum() / 2)),
            ("staggered, tenth rate", staggered, float(own.sum() / 10)),
        ):
            lists = (begin.tolist(), size.tolist(), own.tolist(), capacity)
            np.testing.assert_allclose(
                finish_times(begin, 0.0, size, own, capacity), naive_finish_times(*lists), rtol=1e-9
            )
            ours = best_seconds(lambda b=begin, s=size, o=own, c=capacity: finish_times(b, 0.0, s, o, c))  # type: ignore[misc]
            naive = best_seconds(lambda a=lists: naive_finish_times(*a))  # type: ignore[misc]
            print(f"{count:>9}  {case:<22} {ours * 1e3:>10.3f} {naive * 1e3:>10.3f} {naive / ours:>7.1f}")


if __name__ == "__main__":
    main()
