"""Messages of clients that lie on several ranks come to the server in client order."""

from __future__ import annotations

from typing import Any

import numpy as np

from fedmpi.federation.exchange import Roster
from fedmpi.federation.gathering import gather_messages
from fedmpi.mpi.collectives import Inbox

DEALT = [np.array([4]), np.array([0, 6]), np.array([2, 5])]
MESSAGES = {0: [1, 2, 3], 2: [], 4: [4], 5: [5, 6], 6: [7, 8]}
CLIENTS = np.array(sorted(MESSAGES))


class Ranks:
    """One of three ranks; ``sent`` is what each sends, and what the server gets together."""

    size = 3

    def __init__(self, rank: int, sent: dict[int, list[int]]) -> None:
        self.rank, self.sent = rank, sent
        self.counts: list[int] = []

    def gather_rows(self, rows: np.ndarray, counts: list[int], inbox: Inbox) -> np.ndarray | None:
        assert rows.dtype == np.uint8
        self.sent[self.rank] = rows.tolist()
        self.counts = counts
        assert len(rows) == counts[self.rank]
        together = [value for rank in range(3) for value in self.sent.get(rank, [])]
        return np.array(together, np.uint8) if self.rank == 0 else None


def roster_of(accepted: list[int]) -> Roster:
    lengths = np.array([len(MESSAGES[client]) for client in CLIENTS.tolist()])
    ones = np.ones(5, np.int64)
    return Roster(CLIENTS, np.isin(CLIENTS, accepted), ones, lengths, 1.0, DEALT, ones == 1)


def gathered(accepted: list[int]) -> tuple[list[list[int]], list[int]]:
    """What the server has in the end, and how much it expects of each rank."""
    sent: dict[int, list[int]] = {}
    roster = roster_of(accepted)
    for rank in (1, 2, 0):
        ranks: Any = Ranks(rank, sent)
        mine = [np.array(MESSAGES[client], np.uint8) for client in roster.accepted_of(rank).tolist()]
        found = gather_messages(ranks, roster, mine, Inbox())
        assert rank == 0 or found == []
    return [message.tolist() for message in found], ranks.counts


def test_messages_are_in_client_order_whoever_sent_them() -> None:
    assert gathered([0, 2, 4, 5, 6]) == ([[1, 2, 3], [], [4], [5, 6], [7, 8]], [1, 5, 2])


def test_messages_of_rejected_clients_are_not_gathered() -> None:
    assert gathered([0, 5]) == ([[1, 2, 3], [5, 6]], [0, 3, 2])


def test_where_nobody_was_accepted_there_are_none() -> None:
    assert gathered([]) == ([], [0, 0, 0])
