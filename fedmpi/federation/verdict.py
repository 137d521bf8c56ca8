"""What becomes of each participant of a round, and what the server knows of the round in the end."""

from __future__ import annotations

from dataclasses import dataclass
from math import nan
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fedmpi.emulation.round_end import Arrivals
from fedmpi.emulation.timeline import Timeline
from fedmpi.federation.messages import RoundPlan
from fedmpi.federation.round_cost import FloatArray, IntArray, Work
from fedmpi.pruning import Losses
from fedmpi.trace import Status

if TYPE_CHECKING:
    from fedmpi.federation.exchange import Roster  # imports torch, which verifying does without


@dataclass(frozen=True)
class Judged:
    """The verdict on a round's updates and what the round costs up to its last upload, or to where it was ended.

    ``records`` are the participants' in client order; ``verdict`` VERDICT records alike; ``max_abs`` the
    largest magnitude among the accepted updates; ``work`` what participants did or would have done, had none stopped.
    ``abandoned``: too few updates arrived, and none is taken; ``too_late``: for they were late.
    """

    records: NDArray[np.void]
    verdict: NDArray[np.void]
    max_abs: float
    work: Work
    charges: Timeline
    abandoned: bool = False
    too_late: bool = False

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Whose updates are taken, bool (participants,)."""
        return np.asarray(self.verdict["status"] == Status.OK)

    @property
    def staying(self) -> NDArray[np.bool_]:
        """Whose updates were in time, taken or rejected, bool (participants,)."""
        status = self.verdict["status"]
        return np.asarray((status == Status.OK) | (status == Status.REJECTED))


@dataclass(frozen=True)
class Closed:
    """A finished round as the trace and the reader of the progress line want it.

    ``losses`` are those of the probe samples, None where nobody was asked. ``idle_s``: how long nobody was available
    before the round.
    """

    plan: RoundPlan
    judged: Judged
    charges: Timeline
    train_loss: float
    k_down: int
    entries_used: IntArray
    losses: Losses | None
    idle_s: float = 0.0


def statuses_of(records: NDArray[np.void], arrivals: Arrivals) -> NDArray[np.int8]:
    """What becomes of participants: who is not in time is dropped or late, an update that is not finite is rejected."""
    status = np.where(np.isfinite(records["max_abs"]), Status.OK, Status.REJECTED)
    status = np.where(arrivals.late, Status.LATE, status)
    return np.where(arrivals.dropped, Status.DROPPED, status).astype(np.int8)


def mean_of_accepted(values: FloatArray, roster: Roster) -> float:
    """The mean over accepted participants, weighted by their numbers of samples; NaN without any."""
    accepted = roster.accepted
    if not accepted.any():
        return nan
    return float(np.average(values[accepted], weights=roster.sizes[accepted]))
