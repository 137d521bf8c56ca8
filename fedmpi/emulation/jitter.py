"""Jitter: what a transfer's latency exceeds the link's own by, drawn for each client and round."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.streams import Purpose, generator

TRANSFERS = ("download", "upload", "feedback_download", "feedback_upload")
"""The columns of ``draw_jitter``: the round's own transfers, then those of a probe phase after it."""


def draw_jitter(
    seed: int, round_index: int, participants: NDArray[np.integer], jitter_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Extra latencies, float64 (n, 4), seconds, uniform in [0, ``jitter_s``]; columns are ``TRANSFERS``.

    ``jitter_s`` (N,) is that of every client, of which ``participants`` (n,) are some. Row i depends on (seed, round,
    client) alone, not on who else takes part.
    """
    jitter = np.zeros((len(participants), len(TRANSFERS)))
    for row, client in zip(jitter, np.asarray(participants).tolist(), strict=True):
        if jitter_s[client] > 0.0:
            row[:] = generator(seed, Purpose.JITTER, round_index, client).random(len(TRANSFERS))
            row *= jitter_s[client]
    return jitter
