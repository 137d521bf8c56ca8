"""What a round cost on the devices: bytes and times, of the round itself and of the probe that may follow it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.jitter import draw_jitter
from fedmpi.emulation.timeline import Timeline, round_timeline
from fedmpi.sparsification.wire import HEADER_BYTES

LOSS_REPORT_BYTES = HEADER_BYTES + 3 * 4
"""A participant's answer to a probe: three float32 losses in one message."""


@dataclass(frozen=True)
class Charges:
    """One round's durations (emulated seconds) and bytes, arrays (participants,) in client order."""

    download_s: np.ndarray
    compute_s: np.ndarray
    upload_s: np.ndarray
    wait_s: np.ndarray
    bytes_down: np.ndarray
    bytes_up: np.ndarray
    start_s: float
    duration_s: float

    @property
    def end_s(self) -> float:
        return self.start_s + self.duration_s

    @property
    def arrival_s(self) -> np.ndarray:
        """The emulated moments at which the uploads are complete."""
        return self.start_s + (self.download_s + self.compute_s + self.upload_s)


class Accountant:
    """Charges rounds to the devices and links of a fleet. Pure: the same arguments give the same charges."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.seed = seed

    def round(
        self,
        round_index: int,
        start_s: float,
        participants: np.ndarray,
        bytes_down: np.ndarray,
        compute_s: np.ndarray,
        bytes_up: np.ndarray,
    ) -> Charges:
        """Download, training and upload, all participants beginning at ``start_s``."""
        jitter = self._jitter(round_index, participants)[:, :2]
        timeline = round_timeline(start_s, self.fleet, participants, bytes_down, compute_s, bytes_up, jitter)
        return _charges(timeline, bytes_down, bytes_up)

    def probe(
        self,
        charges: Charges,
        round_index: int,
        participants: np.ndarray,
        bytes_down: int,
        compute_s: np.ndarray,
    ) -> Charges:
        """The same round prolonged by a probe: the update comes down at once, three losses go up."""
        down = np.full(len(participants), bytes_down, dtype=np.int64)
        up = np.full(len(participants), LOSS_REPORT_BYTES, dtype=np.int64)
        jitter = self._jitter(round_index, participants)[:, 2:]
        after = _charges(
            round_timeline(charges.end_s, self.fleet, participants, down, compute_s, up, jitter), down, up
        )
        return Charges(
            download_s=charges.download_s + after.download_s,
            compute_s=charges.compute_s + after.compute_s,
            upload_s=charges.upload_s + after.upload_s,
            wait_s=charges.wait_s + after.wait_s,
            bytes_down=charges.bytes_down + down,
            bytes_up=charges.bytes_up + up,
            start_s=charges.start_s,
            duration_s=charges.duration_s + after.duration_s,
        )

    def _jitter(self, round_index: int, participants: np.ndarray) -> np.ndarray:
        return draw_jitter(self.seed, round_index, participants, self.fleet.jitter_s)


def _charges(timeline: Timeline, bytes_down: np.ndarray, bytes_up: np.ndarray) -> Charges:
    return Charges(
        download_s=timeline.download_s,
        compute_s=timeline.compute_s,
        upload_s=timeline.upload_s,
        wait_s=timeline.wait_s,
        bytes_down=bytes_down,
        bytes_up=bytes_up,
        start_s=timeline.start_s,
        duration_s=timeline.duration_s,
    )
