"""Time of one max-min sharing of a server link, beside water filling anew at every event.

    python benchmarks/link_sharing.py

Prints both times (of the processor) and their ratio for 10, 100 and 1000 concurrent uploads, for a server link that
never binds, binds for all at once (downloads), or for uploads that begin one after another. Then the same uploads on
links whose rates step, each at its own moments (by a factor with 0.5 as standard deviation of its logarithm), beside
constant rates of the same means, by how many steps an upload has.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from math import inf

import numpy as np

from fedmpi.emulation.link_sharing import FloatArray, finish_times
from fedmpi.emulation.links import Links
from fedmpi.emulation.stepwise import StepwiseRate


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
    """The shortest of as many calls as fit into the budget, at least two, in seconds of the processor."""
    best, end, calls = inf, time.perf_counter() + budget_s, 0
    while calls < 2 or time.perf_counter() < end:
        begin = time.process_time()
        call()
        best, calls = min(best, time.process_time() - begin), calls + 1
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
    _varying(rng)


def _varying(rng: np.random.Generator) -> None:
    print(
        f"\n{'transfers':>9}  {'case':<22} {'steps each':>10} {'constant ms':>11} {'varying ms':>10} {'ratio':>7}"
    )
    count, steps = 1000, 256
    own, size = rng.lognormal(13.8, 0.7, count), rng.uniform(1e5, 1e7, count)
    shift = rng.uniform(0.0, 1e5, count)
    clients, staggered = np.arange(count), np.sort(rng.uniform(0.0, 20.0, count))
    for case, begin, share in (
        ("never binding", staggered, 0.0),
        ("all at once, half rate", np.zeros(count), 2.0),
        ("staggered, half rate", staggered, 2.0),
        ("staggered, tenth rate", staggered, 10.0),
    ):
        capacity = float(own.sum() / share) if share else inf
        ends = finish_times(begin, 0.0, size, own, capacity)
        constant = best_seconds(partial(finish_times, begin, 0.0, size, own, capacity))
        for each in (0.5, 2.0, 8.0):
            starts: FloatArray = np.linspace(
                0.0, steps * float((ends - begin).mean()) / each, steps, endpoint=False
            )
            factors = rng.lognormal(-0.125, 0.5, (count, steps))
            loop_s = float(starts[1]) * steps
            traces = tuple(StepwiseRate(starts, rates, loop_s) for rates in own[:, None] * factors)
            means = np.array([trace.mean_bytes_per_s for trace in traces])
            links = Links(means, capacity, traces=traces, trace_of=clients, shift_s=shift)
            solve = partial(links.finish_times, 0.0, clients, begin, np.zeros(count), size)
            varying = best_seconds(solve)
            print(
                f"{count:>9}  {case:<22} {each:>10g} {constant * 1e3:>11.3f} {varying * 1e3:>10.3f} "
                f"{varying / constant:>7.1f}"
            )


if __name__ == "__main__":
    main()
