"""The normalized cost model of FAB-top-k: training takes 1, and all parameters up and down take beta.

Han, Wang, Leung, "Adaptive gradient sparsification for efficient federated learning: an online learning approach",
ICDCS 2020, section V. An index costs as much as a value, so k pairs up and k pairs down of D parameters take
beta / (2 D) * (2 k + 2 k). All clients are alike, and bytes play no role.
"""

from __future__ import annotations


def transfer_seconds(beta: float, dimension: int, entries: int, *, positions_sent: bool) -> float:
    """Emulated time in which ``entries`` of ``dimension`` values travel one way.

    ``positions_sent``: every entry costs twice as much as a value of a message of all D (which costs beta / 2).
    """
    return beta / (2 * dimension) * ((2 if positions_sent else 1) * entries)


def training_seconds(batch_size: int, *, probe: bool) -> float:
    """Emulated time of a round's training: 1, and 1 / batch_size for the losses of a probe."""
    return 1.0 + 1.0 / batch_size if probe else 1.0
