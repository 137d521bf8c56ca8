"""Everything that clients have learned travels: averaging in every round, or in every so many."""

from __future__ import annotations

from fedmpi.sparsification.interface import DenseMethod


def matched_period(dimension: int, k: int) -> int:
    """Rounds from one exchange of all ``dimension`` parameters to the next: ceil(dimension / (2 k)).

    On average that is the traffic of ``k`` pairs of index and value in every round (Han, Wang, Leung, ICDCS 2020,
    section V). In the paper a round is one local step; where it is several, the other methods send their pairs once a
    round, and so rounds count here. Raises ValueError unless 1 <= k <= dimension.
    """
    if not 1 <= k <= dimension:
        raise ValueError(f"k is {k}, allowed are 1 to {dimension}")
    return -(-dimension // (2 * k))


DENSE = DenseMethod(
    summary="every participant sends its whole update in every round",
    source="McMahan et al., AISTATS 2017",
    one_k="which has no k to choose",
)

FEDAVG = DenseMethod(
    summary="everything, every ceil(D / 2k) rounds: the traffic of k pairs of index and value",
    source="Han, Wang, Leung, ICDCS 2020 (arXiv 2001.04756)",
    one_k="whose k sets how many rounds lie between two exchanges of everything",
    period=matched_period,
)
