"""Messages of the devices on their way through MPI: bytes of any length, from and to the server."""

from __future__ import annotations

import numpy as np

from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Ranks


def gather_messages(ranks: Ranks, roster: Roster, mine: list[np.ndarray]) -> list[np.ndarray]:
    """Bring the messages (uint8) of all accepted participants to the server: views in client order there.

    ``mine`` are those of this rank's, in client order. One Gatherv of bytes; the roster has their lengths. Empty
    on other ranks, and where nobody was accepted.
    """
    by_rank = [roster.accepted_of(rank).tolist() for rank in range(ranks.size)]
    lengths = dict(zip(roster.clients.tolist(), roster.message_bytes.tolist(), strict=True))
    counts = [sum(lengths[client] for client in clients) for clients in by_rank]
    rows = np.concatenate(mine) if mine else np.empty(0, np.uint8)
    gathered = ranks.gather_rows(rows, counts)
    if gathered is None:
        return []
    messages = {}
    start = 0
    for clients in by_rank:
        for client in clients:
            messages[client] = gathered[start : start + lengths[client]]
            start += lengths[client]
    return [messages[client] for client in sorted(messages)]


def broadcast_bytes(ranks: Ranks, data: np.ndarray | None) -> np.ndarray:
    """The server's bytes (uint8; None: nothing) on every rank, their length before them."""
    length = np.array([0 if data is None else len(data)], dtype=np.int64)
    ranks.broadcast(length)
    copy = np.empty(int(length[0]), np.uint8) if data is None else data
    if len(copy):
        ranks.broadcast(copy)
    return copy
