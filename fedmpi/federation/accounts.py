"""What a round cost on the devices: bytes and times, of the round itself and of the probe that may follow it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from fedmpi.config.schema import Config
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.jitter import draw_jitter
from fedmpi.emulation.normalized import training_seconds, transfer_seconds
from fedmpi.emulation.timeline import Timeline, round_timeline
from fedmpi.federation.plan import Action, RoundPlan
from fedmpi.pruning.round_time import RoundTime
from fedmpi.sparsification import DENSE_METHODS
from fedmpi.sparsification.wire import HEADER_BYTES


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


@dataclass(frozen=True)
class Work:
    """What each participant does up to the end of its upload, arrays (participants,) in client order.

    ``compute_s``: emulated seconds of its training; ``entries``: how many values it sends in ``bytes_up``. A
    message of 0 bytes is none.
    """

    bytes_down: np.ndarray
    compute_s: np.ndarray
    entries: np.ndarray
    bytes_up: np.ndarray


@dataclass(frozen=True)
class Feedback:
    """What follows where losses are measured: the update comes down at once, each participant tries it on a sample
    (``compute_s``, participants) and sends its losses."""

    bytes_down: int
    compute_s: np.ndarray
    bytes_up: int


def loss_report_bytes(losses: int) -> int:
    """A participant's message of so many losses, float32."""
    return HEADER_BYTES + 4 * losses


def feedback_arrival_s(before: Charges, whole: Charges) -> np.ndarray:
    """The emulated moments (participants,) at which losses have arrived, from charges without and with feedback.

    After its losses a participant only waits for those of the others.
    """
    return whole.end_s - (whole.wait_s - before.wait_s)


class Accountant(Protocol):
    """Charges rounds. Pure: the same arguments give the same charges."""

    fleet: Fleet

    def round(self, plan: RoundPlan, work: Work) -> Charges:
        """Up to the arrival of the uploads."""

    def close(self, plan: RoundPlan, charges: Charges, k_down: int, feedback: Feedback | None) -> Charges:
        """The whole round, in which the server sends ``k_down`` values and may ask for losses."""


class DeviceAccountant:
    """Charges rounds to the devices and links of a fleet: downloads, training, uploads, perhaps feedback.

    What the server sends without asking for losses is charged to the round in which it is downloaded.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.seed = seed

    def round(self, plan: RoundPlan, work: Work) -> Charges:
        jitter = self._jitter(plan)[:, :2]
        timeline = round_timeline(
            plan.start_s,
            self.fleet,
            plan.participants,
            work.bytes_down,
            work.compute_s,
            work.bytes_up,
            jitter,
        )
        return _charges(timeline, work.bytes_down, work.bytes_up)

    def close(self, plan: RoundPlan, charges: Charges, k_down: int, feedback: Feedback | None) -> Charges:
        if feedback is None:
            return charges
        down = np.full(len(plan.participants), feedback.bytes_down, dtype=np.int64)
        up = np.full(len(plan.participants), feedback.bytes_up, dtype=np.int64)
        jitter = self._jitter(plan)[:, 2:]
        after = round_timeline(
            charges.end_s, self.fleet, plan.participants, down, feedback.compute_s, up, jitter
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

    def _jitter(self, plan: RoundPlan) -> np.ndarray:
        return draw_jitter(self.seed, plan.round_index, plan.participants, self.fleet.jitter_s)


class NormalizedAccountant:
    """Charges rounds by the formula of FAB-top-k (``emulation.normalized``); bytes are counted all the same.

    A round is training, upload and the download of its own result, which therefore is the last to be known. A
    probe lengthens training; its messages take no time.
    """

    def __init__(self, fleet: Fleet, config: Config, dimension: int) -> None:
        self.fleet = fleet
        self.beta = config.emulation.compute.beta
        self.batch_size = config.training.batch_size
        self.dimension = dimension
        self.positions_sent = config.sparsification.method not in DENSE_METHODS

    def round(self, plan: RoundPlan, work: Work) -> Charges:
        probe = plan.k_probe > 0 or Action.TRY_MASK in plan.action
        compute_s = work.compute_s * training_seconds(self.batch_size, probe=probe)
        upload_s = np.array([self._transfer_s(int(entries)) for entries in work.entries])
        duration_s = float((compute_s + upload_s).max(initial=0.0))
        return Charges(
            download_s=np.zeros(len(plan.participants)),
            compute_s=compute_s,
            upload_s=upload_s,
            wait_s=duration_s - (compute_s + upload_s),
            bytes_down=work.bytes_down,
            bytes_up=work.bytes_up,
            start_s=plan.start_s,
            duration_s=duration_s,
        )

    def close(self, plan: RoundPlan, charges: Charges, k_down: int, feedback: Feedback | None) -> Charges:
        download_s = self._transfer_s(k_down)
        down, up = (0, 0) if feedback is None else (feedback.bytes_down, feedback.bytes_up)
        return replace(
            charges,
            download_s=charges.download_s + download_s,
            duration_s=charges.duration_s + download_s,
            bytes_down=charges.bytes_down + down,
            bytes_up=charges.bytes_up + up,
        )

    def round_time(
        self, k_up: int, k_down: int, never_pruned: int, prunable_layers: int, period: int
    ) -> RoundTime:
        """T(M) of a round without a probe, in which ``k_up`` values of a sparse method go up and ``k_down`` come down.

        A method that sends everything sends those of ``never_pruned`` and of active prunable parameters, every
        ``period`` rounds.
        """
        training_s = training_seconds(self.batch_size, probe=False)
        if self.positions_sent:
            constant_s = training_s + self._transfer_s(k_up) + self._transfer_s(k_down)
            return RoundTime(constant_s, np.zeros(prunable_layers))
        value_s = 2 * self._transfer_s(1) / period
        return RoundTime(training_s + value_s * never_pruned, np.full(prunable_layers, value_s))

    def _transfer_s(self, entries: int) -> float:
        return transfer_seconds(self.beta, self.dimension, entries, positions_sent=self.positions_sent)


def make_accountant(config: Config, fleet: Fleet, dimension: int) -> Accountant:
    """The accountant of a run whose model has ``dimension`` parameters."""
    if config.emulation.compute.model == "normalized":
        return NormalizedAccountant(fleet, config, dimension)
    return DeviceAccountant(fleet, config.experiment.seed)


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
