"""One round in emulated time: downloads, local training, uploads, and the wait for the slowest."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fedmpi.emulation.devices import Fleet

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Timeline:
    """When what happened, and what travelled: arrays are (n,), one entry for each participant, in their order.

    ``start_s`` is an emulated moment; the arrays of seconds, float64, and ``duration_s`` of the whole round, are
    durations. Of each participant, ``download_s + compute_s + upload_s + wait_s`` is the whole round, up to rounding,
    unless it stopped before the end. ``bytes_down`` and ``bytes_up``, int64, are the bytes of its messages, up to where
    it stopped. ``downloaded``, ``trained`` and ``arrived``, bool: what it had done by then.
    """

    start_s: float
    download_s: FloatArray
    compute_s: FloatArray
    upload_s: FloatArray
    wait_s: FloatArray
    bytes_down: NDArray[np.integer]
    bytes_up: NDArray[np.integer]
    duration_s: float
    downloaded: BoolArray
    trained: BoolArray
    arrived: BoolArray

    @property
    def end_s(self) -> float:
        """The emulated moment at which the round is over."""
        return self.start_s + self.duration_s

    @property
    def work_s(self) -> FloatArray:
        """From the start to the arrival of the upload, or to where the participant stopped."""
        return self.download_s + self.compute_s + self.upload_s

    def followed_by(self, after: Timeline, who: BoolArray) -> Timeline:
        """This and what those participants of it ``who`` (n,) bool do ``after`` its end, as one."""

        def added(name: str) -> NDArray[Any]:
            total = np.array(getattr(self, name))
            total[who] += getattr(after, name)
            return total

        names = ("download_s", "compute_s", "upload_s", "wait_s", "bytes_down", "bytes_up")
        sums: dict[str, Any] = {name: added(name) for name in names}
        return replace(self, duration_s=self.duration_s + after.duration_s, **sums)

    @property
    def arrival_s(self) -> FloatArray:
        """The emulated moment at which the server had everything of each participant."""
        return self.start_s + self.work_s


def round_timeline(
    start_s: float,
    fleet: Fleet,
    participants: NDArray[np.integer],
    bytes_down: ArrayLike,
    compute_s: ArrayLike,
    bytes_up: ArrayLike,
    jitter_s: FloatArray | None = None,
    stop_s: FloatArray | None = None,
) -> Timeline:
    """The round in which all ``participants`` (n,) download at once, train, and upload when they are done.

    ``bytes_down``, ``compute_s`` and ``bytes_up`` are (n,) or scalars; ``jitter_s`` (n, 2) is added to the
    latency of the download and of the upload. A message of 0 bytes is none, and takes no time. Downloads share
    the server's egress, uploads its ingress. The round ends with the last upload; without participants, when it starts.

    ``stop_s`` (n,): so many seconds after the start a participant stops, whatever it is doing (inf: it does not); what
    it was moving leaves its share of the server's link to others, and the round goes on until all have arrived or
    stopped.

    Pure: call it again with other bytes for the time that another k would have taken, or with the bytes of
    a probe's feedback for the phase after the round. Durations depend on ``start_s`` where links vary, and only
    there. Raises EmulationError for bytes that are negative or not finite.
    """
    clients = np.asarray(participants)
    count = clients.shape
    latency = fleet.latency_s[clients]
    extra = np.zeros((clients.size, 2)) if jitter_s is None else jitter_s
    down, up, computing = (_for_each(value, count) for value in (bytes_down, bytes_up, compute_s))
    computing = computing.astype(np.float64)
    whole_down, whole_up = down.astype(np.float64), up.astype(np.float64)
    wait_down = np.where(whole_down == 0.0, 0.0, latency + extra[:, 0])
    wait_up = np.where(whole_up == 0.0, 0.0, latency + extra[:, 1])
    everyone = np.ones(count, np.bool_)
    if stop_s is None or not (stop_s < inf).any():
        downloaded_s = fleet.downlink.finish_times(start_s, clients, np.zeros(count), wait_down, whole_down)
        ready_s = downloaded_s + computing
        done_s = fleet.uplink.finish_times(start_s, clients, ready_s, wait_up, whole_up)
        end_s = float(done_s.max(initial=0.0))
        return Timeline(
            start_s=start_s,
            download_s=downloaded_s,
            compute_s=computing,
            upload_s=done_s - ready_s,
            wait_s=end_s - done_s,
            bytes_down=down,
            bytes_up=up,
            duration_s=end_s,
            downloaded=everyone,
            trained=everyone,
            arrived=everyone,
        )
    downloaded_s, moved_down = fleet.downlink.until(
        start_s, clients, np.zeros(count), wait_down, whole_down, stop_s
    )
    downloaded = downloaded_s <= stop_s
    ready_s = downloaded_s + computing
    trained = downloaded & (ready_s <= stop_s)
    done_s, moved_up = np.full(count, inf), np.zeros(count)
    done_s[trained], moved_up[trained] = fleet.uplink.until(
        start_s, clients[trained], ready_s[trained], wait_up[trained], whole_up[trained], stop_s[trained]
    )
    arrived = done_s <= stop_s
    leaves_s = np.where(arrived, done_s, stop_s)
    download_end_s = np.where(downloaded, downloaded_s, stop_s)
    compute_end_s = np.where(trained, ready_s, stop_s)
    end_s = float(leaves_s.max(initial=0.0))
    return Timeline(
        start_s=start_s,
        download_s=download_end_s,
        compute_s=np.where(trained, computing, compute_end_s - download_end_s),
        upload_s=leaves_s - compute_end_s,
        wait_s=np.where(arrived, end_s - leaves_s, 0.0),
        bytes_down=np.where(downloaded, down, np.floor(moved_down)).astype(np.int64),
        bytes_up=np.where(arrived, up, np.floor(moved_up)).astype(np.int64),
        duration_s=end_s,
        downloaded=downloaded,
        trained=trained,
        arrived=arrived,
    )


def _for_each(value: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """An array of ``shape``, of numbers that may be one for all."""
    array = np.asarray(value)
    return array if array.shape == shape else np.broadcast_to(array, shape)
