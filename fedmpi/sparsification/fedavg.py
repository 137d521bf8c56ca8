"""Federated averaging at the traffic of sparse messages (Han, Wang, Leung, ICDCS 2020, section V)."""

from __future__ import annotations


def matched_period(dimension: int, k: int) -> int:
    """Rounds from one exchange of all ``dimension`` parameters to the next: ceil(dimension / (2 k)).

    On average that is the traffic of ``k`` pairs of index and value in every round. In the paper a round is one
    local step; where it is several, the other methods send their pairs once a round, and so rounds count here.
    Raises ValueError unless 1 <= k <= dimension.
    """
    if not 1 <= k <= dimension:
        raise ValueError(f"k is {k}, allowed are 1 to {dimension}")
    return -(-dimension // (2 * k))
