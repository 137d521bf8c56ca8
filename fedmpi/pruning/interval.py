"""How long a mask stays: until what the last reconfiguration cost has been paid back by what it gained.

PruneFL (Jiang et al., IEEE TNNLS 2022) chooses masks by Delta / T, importance per second of a round. A mask of a ratio
greater by the part r makes as much progress in a round of T seconds as the old one in (1 + r) T: it saves r T a round.
"""

from __future__ import annotations

from math import ceil, inf, isfinite

LONGEST_FACTOR = 16
"""An interval is at most so many times the shortest."""


def relative_gain(importance: float, round_s: float, new_importance: float, new_round_s: float) -> float:
    """By which part the ratio of ``importance`` to ``round_s`` grew.

    Infinite where there was none before, as where no update arrived: nothing was learned of either mask then, and the
    next chance is taken.
    Raises ValueError unless importances are finite and not negative, and times are positive.
    """
    numbers = (importance, round_s, new_importance, new_round_s)
    if (
        not all(map(isfinite, numbers))
        or min(importance, new_importance) < 0
        or min(round_s, new_round_s) <= 0
    ):
        raise ValueError(
            f"importance and seconds of two masks are {numbers}, allowed are finite, positive times"
        )
    before, after = importance / round_s, new_importance / new_round_s
    if before == 0.0:
        return inf
    return after / before - 1.0


def payback_rounds(cost_s: float, gain: float, round_s: float) -> float:
    """Rounds of ``round_s`` seconds after which ``cost_s`` seconds are paid back: C / (r T); infinite where never.

    ``gain`` is r, the relative gain in importance per second.
    """
    if cost_s <= 0.0:
        return 0.0
    return cost_s / (gain * round_s) if gain > 0.0 else inf


def next_interval(payback: float, shortest: int) -> int:
    """Rounds to the next reconfiguration: ``payback`` rounded up, from ``shortest`` to LONGEST_FACTOR times that."""
    longest = LONGEST_FACTOR * shortest
    return longest if payback >= longest else max(shortest, ceil(payback))


def next_try(present: int, shortest: int) -> int:
    """Rounds until a better mask is looked for again where the present one stays: twice as many as last time.

    As in ``next_interval`` they are at most LONGEST_FACTOR times the shortest.
    """
    return min(2 * present, LONGEST_FACTOR * shortest)
