"""How a message starts over TCP: one more rate that varies by steps, which the transfer cannot exceed.

A sender begins with an initial window of 10 segments (RFC 6928) and doubles it every round-trip time while nothing
is lost (slow start, RFC 5681), on a connection that was idle as on a new one. What is sent in one window arrives
within one round-trip time, hence the cap: window over round-trip time. Each segment of 1448 bytes of a message takes
1500 of the link (IPv4, and TCP with timestamps).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.stepwise import Pieces

SEGMENT_BYTES = 1448
PACKET_BYTES = 1500
INITIAL_SEGMENTS = 10

_NO_CAP_BYTES_PER_S = 1e15
"""Beyond any link: from there on a cap is none."""

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Transport:
    """How messages travel: as a fluid, or (``tcp``) in segments, at first slowly, over a ``new`` connection each or one
    that is kept."""

    tcp: bool = False
    new: bool = False

    @property
    def overhead(self) -> float:
        """Bytes on the link for each byte of a message."""
        return PACKET_BYTES / SEGMENT_BYTES if self.tcp else 1.0

    @property
    def waits(self) -> float:
        """Latencies before the first byte of a message arrives: a new connection takes a round trip first."""
        return 3.0 if self.tcp and self.new else 1.0


FLUID = Transport()


def start_pieces(begin_s: float, round_trip_s: float) -> Pieces:
    """The cap, in bytes on the link per second, of a transfer whose first byte arrives at ``begin_s``."""
    if round_trip_s > 0.0:
        rate, rounds = INITIAL_SEGMENTS * PACKET_BYTES / round_trip_s, 1
        while rate < _NO_CAP_BYTES_PER_S:
            yield rate, begin_s + rounds * round_trip_s
            rate, rounds = 2.0 * rate, rounds + 1
    yield inf, inf
