"""One round in emulated time: downloads, local training, uploads, and the wait for the slowest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.devices import Fleet

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Timeline:
    """When what happened, and what travelled: arrays are (n,), one entry for each participant, in their order.

    ``start_s`` is an emulated moment; the arrays of seconds, float64, and ``duration_s`` of the whole round, are
    durations. Of each participant, ``download_s + compute_s + upload_s + wait_s`` is the whole round, up to rounding.
    ``bytes_down`` and ``bytes_up`` are the lengths of its messages.
    """

    start_s: float
    download_s: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    wait_s: FloatArray
    bytes_down: NDArray[np.integer]
    bytes_up: NDArray[np.integer]
    duration_s: float

    @property
    def end_s(self) -> float:
        """The emulated moment at which the round is over."""
        return self.start_s + self.duration_s

    @property
    def arrival_s(self) -> FloatArray:
        """The emulated moment at which the server had everything of each participant."""
        return self.start_s + (self.download_s + self.compute_s + self.upload_s)

    def followed_by(self, after: Timeline) -> Timeline:
        """This and what the same participants do ``after`` its end, as one."""
        return Timeline(
            start_s=self.start_s,
            download_s=self.download_s + after.download_s,
            compute_s=self.compute_s + after.compute_s,
            upload_s=self.upload_s + after.upload_s,
            wait_s=self.wait_s + after.wait_s,
            bytes_down=self.bytes_down + after.bytes_down,
            bytes_up=self.bytes_up + after.bytes_up,
            duration_s=self.duration_s + after.duration_s,
        )


def round_timeline(
    start_s: float,
    fleet: Fleet,
    participants: NDArray[np.integer],
    bytes_down: ArrayLike,
    compute_s: ArrayLike,
    bytes_up: ArrayLike,
    jitter_s: FloatArray | None = None,
) -> Timeline:
    """The round in which all ``participants`` (n,) download at once, train, and upload when they are done.

    ``bytes_down``, ``compute_s`` and ``bytes_up`` are (n,) or scalars; ``jitter_s`` (n, 2) is added to the
    latency of the download and of the upload. A message of 0 bytes is none, and takes no time. Downloads share
    the server's egress, uploads its ingress. The round ends with the last upload; without participants, when it starts.

    Pure: call it again with other bytes for the time that another k would have taken, or with the bytes of
    a probe's feedback for the phase after the round. Durations depend on ``start_s`` where links vary, and only
    there. Raises EmulationError for bytes that are negative or not finite.
    """
    clients = np.asarray(participants)
    latency = fleet.latency_s[clients]
    extra = np.zeros((clients.size, 2)) if jitter_s is None else jitter_s
    count = clients.shape
    down = np.broadcast_to(np.asarray(bytes_down, dtype=np.float64), count)
    up = np.broadcast_to(np.asarray(bytes_up, dtype=np.float64), count)
    downloaded = fleet.downlink.finish_times(
        start_s, clients, np.zeros(count), np.where(down == 0.0, 0.0, latency + extra[:, 0]), down
    )
    computing = np.array(np.broadcast_to(np.asarray(compute_s, dtype=np.float64), count))
    ready = downloaded + computing
    done = fleet.uplink.finish_times(
        start_s, clients, ready, np.where(up == 0.0, 0.0, latency + extra[:, 1]), up
    )
    end = float(done.max(initial=0.0))
    return Timeline(
        start_s=start_s,
        download_s=downloaded,
        compute_s=computing,
        upload_s=done - ready,
        wait_s=end - done,
        bytes_down=np.broadcast_to(np.asarray(bytes_down), count),
        bytes_up=np.broadcast_to(np.asarray(bytes_up), count),
        duration_s=end,
    )
