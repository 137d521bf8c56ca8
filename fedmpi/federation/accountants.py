"""The two ways to charge rounds: by devices and links, and by the formula of FAB-top-k."""

from __future__ import annotations

from dataclasses import replace
from math import nan

import numpy as np

from fedmpi.config.schema import Config
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.jitter import draw_jitter
from fedmpi.emulation.normalized import training_seconds, transfer_seconds
from fedmpi.emulation.timeline import Timeline, round_timeline
from fedmpi.federation.messages import RoundStart
from fedmpi.federation.round_cost import (
    Accountant,
    BoolArray,
    ExpectedMessages,
    ExpectedRound,
    Feedback,
    FloatArray,
    Work,
)
from fedmpi.pruning.round_time import RoundTime, slowest_client


class DeviceAccountant:
    """Charges rounds to the devices and links of a fleet: downloads, training, uploads, perhaps feedback.

    What the server sends without asking for losses is charged to the round in which it is downloaded.
    """

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.seed = seed

    def round(self, start: RoundStart, work: Work, stop_s: FloatArray | None = None) -> Timeline:
        jitter_s = self._jitter_s(start)[:, :2]
        down, up = work.bytes_down, work.bytes_up
        return round_timeline(
            start.start_s, self.fleet, start.participants, down, work.compute_s, up, jitter_s, stop_s
        )

    def close(
        self,
        start: RoundStart,
        charges: Timeline,
        k_down: int,
        feedback: Feedback | None,
        staying: BoolArray | None = None,
    ) -> Timeline:
        if feedback is None:
            return charges
        who = np.ones(len(start.participants), np.bool_) if staying is None else staying
        return charges.followed_by(
            round_timeline(
                charges.end_s,
                self.fleet,
                start.participants[who],
                feedback.bytes_down,
                feedback.compute_s[who],
                feedback.bytes_up,
                self._jitter_s(start)[who, 2:],
            ),
            who,
        )

    def round_time(self, expected: ExpectedRound) -> RoundTime:
        """That of the slowest participant, where the links of the server are shared evenly, links that vary have their
        means, and TCP is as fast at the start as later.

        What a client downloads of rounds that it missed is not in it. Under a compute model with coefficients steps
        depend on the active parameters; under the others they do not, and take the ``compute_s`` of the round.
        """
        fleet, clients, steps = self.fleet, expected.participants, expected.steps
        active, count = expected.active_prunable, len(expected.participants)
        if fleet.compute.model.coefficients is not None:
            step_s, step_s_per_parameter = fleet.compute.step_coefficients(
                LocalTraining.of(clients, steps, active, density=nan)
            )
        else:
            step_s, step_s_per_parameter = expected.compute_s / steps, np.zeros((count, active.size))
        up, down = (links.payload_bytes_per_s(clients) for links in (fleet.uplink, fleet.downlink))
        waits_s = 2.0 * fleet.uplink.transport.waits * fleet.latency_s[clients]
        (up_fixed, up_each), (down_fixed, down_each) = expected.bytes_up, expected.bytes_down
        return slowest_client(
            steps,
            step_s,
            step_s_per_parameter,
            (waits_s + up_fixed / up + down_fixed / down) / expected.period,
            (up_each / up + down_each / down) / expected.period,
            active,
            expected.compute_s,
        )

    def round_seconds(self, expected: ExpectedMessages) -> FloatArray:
        """As in ``round_time``: the slowest participant's."""
        fleet, clients = self.fleet, expected.participants
        up, down = (links.payload_bytes_per_s(clients) for links in (fleet.uplink, fleet.downlink))
        fixed_s = expected.compute_s + 2.0 * fleet.uplink.transport.waits * fleet.latency_s[clients]
        transfer_s = expected.bytes_up[:, None] / up + expected.bytes_down[:, None] / down
        return np.asarray((fixed_s + transfer_s).max(axis=1))

    def _jitter_s(self, start: RoundStart) -> FloatArray:
        return draw_jitter(self.seed, start.round_index, start.participants, self.fleet.jitter_s)


class NormalizedAccountant:
    """Charges rounds by the formula of FAB-top-k (``emulation.normalized``); bytes are counted all the same.

    A round is training, upload and the download of its own result, which therefore is the last to be known. A
    probe lengthens training; its messages take no time. ``positions_sent``: with every entry. What messages say of
    magnitudes beside their entries takes as long as pairs of 8 bytes would.
    """

    def __init__(self, fleet: Fleet, config: Config, dimension: int, positions_sent: bool) -> None:
        self.fleet = fleet
        self.beta = config.emulation.compute.beta
        self.batch_size = config.training.batch_size
        self.dimension = dimension
        self.positions_sent = positions_sent

    def round(self, start: RoundStart, work: Work, stop_s: FloatArray | None = None) -> Timeline:
        compute_s = work.compute_s * training_seconds(self.batch_size, probe=start.tries_second_model)
        sketch_s = self._sketch_s(work.sketch_bytes)
        upload_s = np.array([self._transfer_s(int(entries)) + sketch_s for entries in work.entries])
        bytes_up = work.bytes_up
        trained = arrived = np.ones(len(start.participants), np.bool_)
        if stop_s is not None:
            trained, arrived = compute_s <= stop_s, compute_s + upload_s <= stop_s
            compute_s = np.minimum(compute_s, stop_s)
            sent_s = np.minimum(upload_s, stop_s - compute_s)
            share = np.divide(sent_s, upload_s, out=np.zeros(len(upload_s)), where=upload_s > 0.0)
            bytes_up = np.where(arrived, bytes_up, np.floor(share * bytes_up).astype(np.int64))
            upload_s = sent_s
        duration_s = float((compute_s + upload_s).max(initial=0.0))
        return Timeline(
            start_s=start.start_s,
            download_s=np.zeros(len(start.participants)),
            compute_s=compute_s,
            upload_s=upload_s,
            wait_s=np.where(arrived, duration_s - (compute_s + upload_s), 0.0),
            bytes_down=work.bytes_down,
            bytes_up=bytes_up,
            duration_s=duration_s,
            downloaded=np.ones(len(start.participants), np.bool_),
            trained=trained,
            arrived=arrived,
        )

    def close(
        self,
        start: RoundStart,
        charges: Timeline,
        k_down: int,
        feedback: Feedback | None,
        staying: BoolArray | None = None,
    ) -> Timeline:
        download_s = self._transfer_s(k_down)
        down, up = (0, 0) if feedback is None else (feedback.bytes_down, feedback.bytes_up)
        who = np.ones(len(start.participants), np.bool_) if staying is None else staying
        return replace(
            charges,
            download_s=charges.download_s + np.where(who, download_s, 0.0),
            duration_s=charges.duration_s + download_s,
            bytes_down=charges.bytes_down + np.where(who, down, 0),
            bytes_up=charges.bytes_up + np.where(who, up, 0),
        )

    def round_time(self, expected: ExpectedRound) -> RoundTime:
        """That of a method that sends entries does not depend on the mask.

        One that sends everything sends what is never pruned and active prunable parameters.
        """
        training_s = training_seconds(self.batch_size, probe=False)
        layers = expected.active_prunable.size
        if self.positions_sent:
            transfers_s = self._transfer_s(expected.k), self._transfer_s(expected.k_down)
            round_s = training_s + transfers_s[0] + transfers_s[1] + self._sketch_s(expected.sketch_bytes)
            return RoundTime(round_s, np.zeros(layers), round_s)
        value_s = 2 * self._transfer_s(1) / expected.period
        constant_s = training_s + value_s * expected.never_pruned
        present_s = constant_s + value_s * float(expected.active_prunable.sum())
        return RoundTime(constant_s, np.full(layers, value_s), present_s)

    def round_seconds(self, expected: ExpectedMessages) -> FloatArray:
        """Training, and both transfers of each."""
        both = expected.entries_up + expected.entries_down
        transfers_s = np.array([self._transfer_s(entries) for entries in both.tolist()])
        training_s = training_seconds(self.batch_size, probe=expected.tries_second_model)
        return training_s + self._sketch_s(expected.sketch_bytes) + transfers_s

    def _sketch_s(self, sketch_bytes: int) -> float:
        return transfer_seconds(self.beta, self.dimension, 1, positions_sent=True) * sketch_bytes / 8

    def _transfer_s(self, entries: int) -> float:
        return transfer_seconds(self.beta, self.dimension, entries, positions_sent=self.positions_sent)


def make_accountant(config: Config, fleet: Fleet, dimension: int, *, positions_sent: bool) -> Accountant:
    """The accountant of a run whose model has ``dimension`` parameters. ``positions_sent``: with every entry."""
    if fleet.compute.model.prices_rounds:
        return NormalizedAccountant(fleet, config, dimension, positions_sent)
    return DeviceAccountant(fleet, config.experiment.seed)
