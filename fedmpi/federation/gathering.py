"""Bringing the messages of devices to the server."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.federation.exchange import Roster
from fedmpi.mpi.collectives import Inbox, Ranks


def gather_messages(
    ranks: Ranks, roster: Roster, mine: list[NDArray[np.uint8]], inbox: Inbox
) -> list[NDArray[np.uint8]]:
    """Bring the messages of all accepted participants to the server: views of ``inbox`` in client order there.

    ``mine`` are those of this rank's, in client order. One Gatherv of bytes; the roster has their lengths. Empty
    on other ranks, and where nobody was accepted.
    """
    by_rank = [roster.accepted_of(rank).tolist() for rank in range(ranks.size)]
    lengths = dict(zip(roster.clients.tolist(), roster.message_bytes.tolist(), strict=True))
    counts = [sum(lengths[client] for client in clients) for clients in by_rank]
    rows = np.concatenate(mine) if mine else np.empty(0, np.uint8)
    gathered = ranks.gather_rows(rows, counts, inbox)
    if gathered is None:
        return []
    messages = {}
    start = 0
    for clients in by_rank:
        for client in clients:
            messages[client] = gathered[start : start + lengths[client]]
            start += lengths[client]
    return [messages[client] for client in sorted(messages)]
