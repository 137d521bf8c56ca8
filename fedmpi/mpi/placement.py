"""Where clients live: contiguous home blocks on ranks, and who trains whom in a round.

Nothing in the results depends on what is decided here; only the trace's ``rank`` column shows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from fedmpi.config import ConfigError
from fedmpi.config.errors import shortened

SHARING_VARIABLE = "FEDMPI_SHARED_MEMORY"

_MOST_DIGITS = 9


def most_sharing(environment: Mapping[str, str]) -> int | None:
    """How many ranks of a node may have memory in common, by FEDMPI_SHARED_MEMORY; None: all of them.

    0 is a switch for machines on which sharing memory is broken. Raises ConfigError for what is no number.
    """
    text = environment.get(SHARING_VARIABLE, "").strip()
    if not text:
        return None
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        allowed = (
            "0 (no ranks share memory), n below 10^9 (at most n of a node do), or nothing (all of a node do)"
        )
        raise ConfigError(SHARING_VARIABLE, f"found {shortened(repr(text))}", allowed)
    return max(1, int(text))


def home_blocks(clients: int, ranks: int, server_trains: bool) -> list[range]:
    """The contiguous block of clients of each rank, as even as possible, lower ranks taking the remainder.

    Rank 0 has none unless it is alone or ``server_trains``. Raises ValueError when a rank would be left
    without a client.
    """
    first = 0 if ranks == 1 or server_trains else 1
    hosts = ranks - first
    if hosts > clients:
        raise ValueError(
            f"{ranks} ranks were started for {clients} clients: at most {clients + first} can be used"
        )
    size, larger = divmod(clients, hosts)
    blocks = [range(0)] * first
    start = 0
    for host in range(hosts):
        stop = start + size + (host < larger)
        blocks.append(range(start, stop))
        start = stop
    return blocks


@dataclass(frozen=True)
class Placement:
    """Home blocks, and the groups of ranks that see the same memory.

    ``groups`` lists the ranks of each group in rising order. Ranks of one group can train each other's clients,
    as the clients' data and state lie in memory that they share.
    """

    clients: int
    blocks: tuple[range, ...]
    groups: tuple[tuple[int, ...], ...]

    @property
    def ranks(self) -> int:
        return len(self.blocks)

    def group_of(self, rank: int) -> int:
        """The number of the group that ``rank`` belongs to."""
        return next(number for number, members in enumerate(self.groups) if rank in members)

    def clients_of_group(self, group: int) -> np.ndarray:
        """The clients at home in a group, int64, rising."""
        blocks = [np.arange(self.blocks[r].start, self.blocks[r].stop) for r in self.groups[group]]
        return np.sort(np.concatenate(blocks))

    def deal(self, participants: np.ndarray) -> list[np.ndarray]:
        """Deal the participants (rising ids) of a round to the ranks: each group deals its own evenly.

        Returns one rising array of client ids for each rank. Contiguous blocks alone would leave ranks idle
        when the draw of a round falls unevenly on them.
        """
        dealt = [participants[:0]] * self.ranks
        home = self._home_group[participants]
        for number, members in enumerate(self.groups):
            hosts = [rank for rank in members if len(self.blocks[rank])]
            if hosts:
                shares = np.array_split(participants[home == number], len(hosts))
                for rank, share in zip(hosts, shares, strict=True):
                    dealt[rank] = share
        return dealt

    @cached_property
    def _home_group(self) -> np.ndarray:
        group = np.zeros(self.clients, dtype=np.int64)
        for number, members in enumerate(self.groups):
            for rank in members:
                group[self.blocks[rank].start : self.blocks[rank].stop] = number
        return group
