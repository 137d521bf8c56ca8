"""What a round costs on the devices: bytes and times, of the round itself and of the probe that may follow it.

Accountants are pure: the same arguments give the same charges, so that a round can be charged again with the k that was
not taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.emulation.devices import Fleet
from fedmpi.emulation.timeline import Timeline
from fedmpi.federation.messages import RoundStart
from fedmpi.pruning.round_time import RoundTime
from fedmpi.sparsification.wire import HEADER_BYTES, VALUE_BYTES

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]


@dataclass(frozen=True)
class Work:
    """What each participant does up to the end of its upload, arrays (participants,) in client order.

    ``compute_s``: emulated seconds of its training; ``entries``: how many values it sends in ``bytes_up``, of which
    ``sketch_bytes`` state magnitudes beside them. A message of 0 bytes is none.
    """

    bytes_down: IntArray
    compute_s: FloatArray
    entries: IntArray
    bytes_up: IntArray
    sketch_bytes: int = 0


@dataclass(frozen=True)
class Feedback:
    """What follows where losses are measured: the update comes down at once, each participant tries it on a sample
    (``compute_s``, participants) and sends its losses."""

    bytes_down: int
    compute_s: FloatArray
    bytes_up: int


@dataclass(frozen=True)
class ExpectedRound:
    """A round as far as its time follows from the mask.

    ``participants`` (n,) make ``steps`` (n,) local steps, in ``compute_s`` (n,) where these do not depend on
    ``active_prunable`` (L,), the active parameters of each prunable layer. ``k`` values go up and ``k_down`` come down,
    in messages of ``bytes_up`` and ``bytes_down``: bytes of any message, and those for every active prunable parameter;
    where that is only done every ``period`` rounds, a round has its share of it. ``sketch_bytes`` of ``bytes_up`` state
    magnitudes. ``never_pruned`` parameters are in no prunable layer.
    """

    participants: IntArray
    steps: FloatArray
    compute_s: FloatArray
    active_prunable: IntArray
    never_pruned: int
    k: int
    k_down: int
    bytes_up: tuple[float, float]
    bytes_down: tuple[float, float]
    period: int = 1
    sketch_bytes: int = 0


@dataclass(frozen=True)
class ExpectedMessages:
    """Rounds of the same participants, (m,), in which each trains for ``compute_s`` (m,), that differ in messages.

    In the n-th, ``entries_up`` (n,) values go up in ``bytes_up`` (n,) from each participant, ``sketch_bytes`` of which
    state magnitudes, and ``entries_down`` (n,) come down in ``bytes_down`` (n,). ``tries_second_model``: as in a plan.
    """

    participants: IntArray
    compute_s: FloatArray
    entries_up: IntArray
    entries_down: IntArray
    bytes_up: FloatArray
    bytes_down: FloatArray
    sketch_bytes: int = 0
    tries_second_model: bool = False


def local_steps(config: Config, sizes: IntArray) -> FloatArray:
    """Local steps of clients with ``sizes`` samples, in steps of ``batch_size`` samples, float64."""
    training = config.training
    if training.local_epochs:
        return np.asarray(training.local_epochs * sizes / training.batch_size)
    return np.asarray(training.local_steps * np.minimum(sizes, training.batch_size) / training.batch_size)


def loss_report_bytes(losses: int) -> int:
    """A participant's message of so many losses, float32."""
    return HEADER_BYTES + VALUE_BYTES["float32"] * losses


def feedback_arrival_s(before: Timeline, whole: Timeline) -> FloatArray:
    """The emulated moments (participants,) at which losses have arrived, from charges without and with feedback.

    After its losses a participant only waits for those of the others.
    """
    return whole.end_s - (whole.wait_s - before.wait_s)


class Accountant(Protocol):
    """Charges rounds."""

    fleet: Fleet

    def round(self, start: RoundStart, work: Work, stop_s: FloatArray | None = None) -> Timeline:
        """Up to the arrival of the uploads, or to where a participant stops: ``stop_s`` (n,) after the start."""

    def close(
        self,
        start: RoundStart,
        charges: Timeline,
        k_down: int,
        feedback: Feedback | None,
        staying: BoolArray | None = None,
    ) -> Timeline:
        """The whole round, in which the server sends ``k_down`` values and may ask for losses.

        ``staying`` bool (participants,): whom it asks, those whose uploads were in time (None: all).
        """

    def round_time(self, expected: ExpectedRound) -> RoundTime:
        """T(M) of a round without a probe, as a function of the active parameters of each prunable layer."""

    def round_seconds(self, expected: ExpectedMessages) -> FloatArray:
        """The same T under the present mask, (n,): a round with each of the messages that are ``expected``."""
