"""What a round costs with the k it had, with another, and with the losses that are asked for after it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import Config
from fedmpi.emulation.round_end import Arrivals, Departures
from fedmpi.emulation.timeline import Timeline
from fedmpi.federation.exchange import Exchange, Exchanged
from fedmpi.federation.messages import RoundPlan, RoundStart
from fedmpi.federation.pruning import ServerPruning
from fedmpi.federation.round_cost import (
    Accountant,
    ExpectedMessages,
    Feedback,
    FloatArray,
    Work,
    feedback_arrival_s,
    loss_report_bytes,
)
from fedmpi.federation.verdict import Judged
from fedmpi.k_control import Magnitudes
from fedmpi.pruning import Mask


@dataclass(frozen=True)
class RoundPrices:
    """The prices of rounds, by the ``accountant``'s devices and links, of messages of the ``exchange``."""

    config: Config
    accountant: Accountant
    exchange: Exchange
    pruning: ServerPruning

    @property
    def departures(self) -> Departures:
        """What makes participants stop before they are done."""
        return Departures(self.config, self.accountant.fleet.availability)

    def exchanges(self, round_index: int) -> bool:
        """Whether something is exchanged in this round, the last of a period."""
        return (round_index + 1) % self.exchange.period == 0

    def charge(self, start: RoundStart, work: Work) -> tuple[Timeline, Arrivals]:
        """A round up to its last upload, or to where it is ended, and who is in time."""
        return self.departures.of_round(
            partial(self.accountant.round, start, work),
            start.round_index,
            start.start_s,
            start.participants,
            sends=self.exchanges(start.round_index),
        )

    def feedback(self, plan: RoundPlan, judged: Judged, exchanged: Exchanged, tried: Mask | None) -> Feedback:
        """What follows a round in which losses are asked for; a mask that is ``tried`` comes down with the update."""
        return self._feedback(plan, judged, exchanged.bytes_down + exchanged.probe_bytes, tried)

    def losses_due_s(
        self, plan: RoundPlan, judged: Judged, exchanged: Exchanged, tried: Mask | None
    ) -> FloatArray:
        """The emulated moments (participants,) at which the losses of each participant have arrived.

        That of one that is late or dropped, which sends none, is the end of all.
        """
        feedback = self.feedback(plan, judged, exchanged, tried)
        whole = self.accountant.close(plan.start, judged.charges, exchanged.k_down, feedback, judged.staying)
        return np.where(judged.staying, feedback_arrival_s(judged.charges, whole), whole.end_s)

    def cost_at_probe(self, plan: RoundPlan, judged: Judged, k_down: int, tried: Mask | None) -> float:
        """What this round would have cost had every client sent ``k_probe`` entries."""
        entries = np.full(len(plan.participants), plan.k_probe, dtype=np.int64)
        message_bytes = self.exchange.message_bytes_up(plan.k_probe)
        importance_bytes = self.pruning.importance_bytes(replace(plan, k=plan.k_probe))
        bytes_up = np.full(len(entries), message_bytes + importance_bytes)
        work = replace(judged.work, entries=entries, bytes_up=bytes_up)
        charges, arrivals = self.charge(plan.start, work)
        feedback = self._feedback(plan, judged, self.exchange.message_bytes_down(k_down), tried)
        return self.accountant.close(plan.start, charges, k_down, feedback, arrivals.in_time).duration_s

    def magnitudes(self, plan: RoundPlan, judged: Judged, exchanged: Exchanged) -> Magnitudes | None:
        """What k entries are worth and what they cost to those who were in time, in a round like this one."""
        if exchanged.energies is None:
            return None
        participants, compute_s = plan.participants[judged.staying], judged.work.compute_s[judged.staying]
        all_come_down, down_each = exchanged.changed is None, exchanged.k_down / plan.k

        def round_s(k: NDArray[np.int64]) -> FloatArray:
            k_down = np.minimum(np.rint(k * down_each), self.exchange.dimension).astype(np.int64)
            if all_come_down:
                k_down[:] = exchanged.k_down
            return self.accountant.round_seconds(
                ExpectedMessages(
                    participants,
                    compute_s,
                    entries_up=k,
                    entries_down=k_down,
                    bytes_up=np.array([self.exchange.message_bytes_up(each) for each in k.tolist()], float),
                    bytes_down=np.array(
                        [self.exchange.message_bytes_down(each) for each in k_down.tolist()], float
                    ),
                    sketch_bytes=self.exchange.sketch.bytes,
                    tries_second_model=plan.start.tries_second_model,
                )
            )

        counts, most_s = self.exchange.sketch.counts, self.config.federation.deadline_s
        return Magnitudes(counts, exchanged.energies, round_s, most_s)

    def _feedback(self, plan: RoundPlan, judged: Judged, bytes_down: int, tried: Mask | None) -> Feedback:
        """Forward passes of one sample, priced as one sample's step, between the update and the losses."""
        per_sample_s = judged.work.compute_s / judged.records["samples"]
        losses = 2 + (plan.k_probe > 0) + (tried is not None)
        if tried is not None:
            bytes_down += self.pruning.new_mask_bytes(tried)
        return Feedback(bytes_down, per_sample_s, loss_report_bytes(losses))
