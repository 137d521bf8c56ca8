"""The server of a run, on rank 0: it plans rounds, judges updates, keeps the clock and chooses k."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import nan
from typing import Any

import numpy as np

from fedmpi import k_control
from fedmpi.config.schema import Config
from fedmpi.federation.accounts import (
    Accountant,
    Charges,
    Feedback,
    Work,
    feedback_arrival_s,
    loss_report_bytes,
)
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.exchange import Exchange, Exchanged, Roster
from fedmpi.federation.plan import Action, RoundPlan, draw_participants, learning_rate_at
from fedmpi.federation.records import VERDICT
from fedmpi.federation.sample_losses import Measured
from fedmpi.federation.server_pruning import ServerPruning
from fedmpi.k_control import Controller, State
from fedmpi.k_control.probe import estimated_cost
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.pruning.exchange import new_mask_bytes
from fedmpi.pruning.interface import Losses
from fedmpi.pruning.mask import Mask

_EXCHANGE = "exchange."
"""What the names of the exchange's arrays begin with in a checkpoint."""


@dataclass(frozen=True)
class Judged:
    """The verdict on a round's updates and what the round costs up to the last upload.

    ``records`` are the participants' in client order; ``verdict`` VERDICT records alike; ``max_abs`` the
    largest magnitude among the accepted updates.
    """

    records: np.ndarray
    verdict: np.ndarray
    max_abs: float
    work: Work
    charges: Charges


@dataclass(frozen=True)
class Closed:
    """A finished round as the trace and the reader of the progress line want it.

    ``losses`` are those of the probe samples, None where nobody was asked.
    """

    plan: RoundPlan
    judged: Judged
    charges: Charges
    train_loss: float
    k_down: int
    entries_used: np.ndarray
    losses: Losses | None


class Server:
    """State that only rank 0 has: the controller of k, versions of clients, emulated time, reasons to stop."""

    def __init__(
        self,
        config: Config,
        sizes: np.ndarray,
        accountant: Accountant,
        exchange: Exchange,
        controller: Controller,
        k_state: State,
        downlink: Downlink,
        pruning: ServerPruning,
    ) -> None:
        self.config = config
        self.sizes = sizes
        self.accountant = accountant
        self.exchange = exchange
        self.controller = controller
        self.k_state = k_state
        self.downlink = downlink
        self.pruning = pruning
        self.round_index = 0
        self.now_s = 0.0
        self.stop_reason = ""
        self.preempted = False
        self._abandoned = False

    def plan(self) -> RoundPlan:
        """What happens at this boundary, and in the round after it if there is one."""
        experiment = self.config.experiment
        if not self.stop_reason and self.round_index >= experiment.rounds:
            self.stop_reason = f"all {experiment.rounds} rounds done"
        action = Action.NONE
        every = experiment.checkpoint_every
        if self._abandoned:
            action |= Action.STOP
        elif self.preempted or self.stop_reason:
            action |= Action.STOP | Action.CHECKPOINT
        elif every and self.round_index and self.round_index % every == 0:
            action |= Action.CHECKPOINT
        index = self.round_index
        if (index + 1) % experiment.evaluate_every == 0 or index + 1 == experiment.rounds:
            action |= Action.EVALUATE
        if self.config.k_control.method != "fixed":
            action |= Action.MEASURE
        action |= self.pruning.wishes(index)
        training = self.config.training
        k, k_probe = self.k_state.k, self.k_state.k_probe
        return RoundPlan(
            round_index=index,
            action=action,
            k=min(k, self.exchange.dimension),
            k_probe=k_probe if k_probe < self.exchange.dimension else 0,
            learning_rate=learning_rate_at(
                index, training.learning_rate, training.learning_rate_half_life_rounds
            ),
            start_s=self.now_s,
            participants=draw_participants(
                experiment.seed,
                index - index % self.exchange.period,
                self.config.clients.count,
                self.config.clients.per_round,
            ),
        )

    def abandon(self) -> None:
        """Stop at the next boundary without a checkpoint: the run cannot be recorded any more."""
        self._abandoned = True

    def judge(self, plan: RoundPlan, records: np.ndarray) -> Judged:
        """Reject updates that are not finite, and time the round up to the arrival of the last upload.

        ``records`` are the participants' RECORD rows in any order. A rejected update is charged like any other: the
        device has sent it.
        """
        self.preempted = self.preempted or bool(records["signalled"].any())
        records = np.sort(records, order="client")
        verdict = np.zeros(len(records), dtype=VERDICT)
        verdict["accepted"] = np.isfinite(records["max_abs"])
        bytes_down = np.zeros(len(records), dtype=np.int64)
        if plan.round_index % self.exchange.period == 0:
            bytes_down = self.downlink.download_bytes(plan.participants)
            self.downlink.delivered(plan.participants)
        steps = records["samples"] / self.config.training.batch_size
        compute_s = self.pruning.compute_seconds(plan.participants, steps, records["compute_host_s"])
        bytes_up = records["message_bytes"] + self.pruning.importance_bytes(plan)
        work = Work(bytes_down, compute_s, records["entries"], bytes_up)
        charges = self.accountant.round(plan, work)
        verdict["deadline_s"] = charges.arrival_s
        verdict["message_bytes"] = records["message_bytes"]
        accepted = records["max_abs"][verdict["accepted"] == 1]
        return Judged(
            records=records,
            verdict=verdict,
            max_abs=float(accepted.max(initial=0.0)),
            work=work,
            charges=charges,
        )

    def close(
        self,
        plan: RoundPlan,
        judged: Judged,
        roster: Roster,
        exchanged: Exchanged,
        measured: Measured | None,
    ) -> Closed:
        """End a round: the clock moves on, clients' versions are noted, and k is chosen for the next.

        ``measured`` is None where nobody was asked for losses.
        """
        if roster.accepted.any() and (exchanged.changed is None or len(exchanged.changed)):
            self.downlink.advance(exchanged.changed)
        cost_probe = loss_prev = loss = feedback = losses = None
        if measured is not None:
            update_bytes = exchanged.bytes_down + exchanged.probe_bytes
            feedback = self._feedback(plan, judged, update_bytes, measured.tried)
        charges = self.accountant.close(plan, judged.charges, exchanged.k_down, feedback)
        if measured is not None:
            self.downlink.delivered(plan.participants)
            loss_prev, loss, loss_probe, loss_pruned = self._weighted(measured.records)
            losses = Losses(loss_prev, loss, loss_pruned if measured.tried is not None else nan)
            if plan.k_probe:
                cost = self._cost_at_probe(plan, judged, exchanged.k_down_probe, measured.tried)
                cost_probe = estimated_cost(cost, loss_prev, loss, loss_probe)
        self.k_state = self.controller.step(
            self.k_state,
            k_control.Observation(charges.duration_s, cost_probe, loss_prev, loss),
            generator(self.config.experiment.seed, Purpose.K_CONTROL, plan.round_index).random,
        )
        self.now_s = charges.end_s
        self.round_index = plan.round_index + 1
        accepted = judged.verdict["accepted"] == 1
        train_loss = float("nan")
        if accepted.any():
            train_loss = float(
                np.average(judged.records["train_loss"][accepted], weights=roster.sizes[accepted])
            )
        return Closed(
            plan=plan,
            judged=judged,
            charges=charges,
            train_loss=train_loss,
            k_down=exchanged.k_down,
            entries_used=exchanged.entries_used,
            losses=losses,
        )

    def losses_due_s(
        self, plan: RoundPlan, judged: Judged, exchanged: Exchanged, tried: Mask | None
    ) -> np.ndarray:
        """The emulated moments (participants,) at which the losses of each participant have arrived."""
        update_bytes = exchanged.bytes_down + exchanged.probe_bytes
        feedback = self._feedback(plan, judged, update_bytes, tried)
        return feedback_arrival_s(
            judged.charges, self.accountant.close(plan, judged.charges, exchanged.k_down, feedback)
        )

    def stop_if_reached(self, test_accuracy: float, host_s: float) -> None:
        """Stop at the next boundary if a limit of ``[experiment]`` is reached. ``host_s``: since the run began here."""
        experiment = self.config.experiment
        limits = (
            ("test accuracy", experiment.stop_at_accuracy, test_accuracy, ""),
            ("emulated time", experiment.stop_at_emulated_s, self.now_s, " s"),
            ("host time", experiment.stop_at_host_s, host_s, " s"),
        )
        for what, limit, reached, unit in limits:
            if limit is not None and reached >= limit:
                self.stop_reason = f"{what} reached {limit:g}{unit}"
                return

    def _feedback(self, plan: RoundPlan, judged: Judged, bytes_down: int, tried: Mask | None) -> Feedback:
        """Forward passes of one sample, priced as one sample's step, between the update and the losses.

        A mask that is ``tried`` comes down with the update.
        """
        per_sample_s = judged.work.compute_s / judged.records["samples"]
        losses = 2 + (plan.k_probe > 0) + (tried is not None)
        if tried is not None:
            bytes_down += new_mask_bytes(tried, self.pruning.setup.layers)
        return Feedback(bytes_down, per_sample_s, loss_report_bytes(losses))

    def _cost_at_probe(self, plan: RoundPlan, judged: Judged, k_down: int, tried: Mask | None) -> float:
        """What this round would have cost had every client sent ``k_probe`` entries."""
        entries = np.full(len(plan.participants), plan.k_probe, dtype=np.int64)
        message_bytes = self.exchange.message_bytes_up(plan.k_probe) + self.pruning.importance_bytes(plan)
        bytes_up = np.full(len(entries), message_bytes, dtype=np.int64)
        charges = self.accountant.round(plan, replace(judged.work, entries=entries, bytes_up=bytes_up))
        feedback = self._feedback(plan, judged, self.exchange.message_bytes_down(k_down), tried)
        return self.accountant.close(plan, charges, k_down, feedback).duration_s

    def _weighted(self, losses: np.ndarray) -> tuple[float, float, float, float]:
        """The four losses over all clients, weighted by their numbers of samples, in client order."""
        ordered = np.sort(losses, order="client")
        weights = self.sizes[ordered["client"]]
        previous, now, probe, pruned = (
            float(np.average(ordered[name], weights=weights))
            for name in ("previous", "current", "probe", "pruned")
        )
        return previous, now, probe, pruned

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a checkpoint keeps of the server: arrays, and numbers as JSON."""
        numbers = {
            "round": self.round_index,
            "emulated_s": self.now_s,
            "version": self.downlink.version,
            "k_control": self.k_state.to_dict(),
        }
        carried = {f"{_EXCHANGE}{name}": array for name, array in self.exchange.server_state().items()}
        masked, method = self.pruning.state()
        return {**self.downlink.state(), **carried, **masked}, {**numbers, **method}

    def restore(self, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
        """Continue from what ``state`` gave; the exchange has the mask already."""
        self.round_index = int(numbers["round"])
        self.now_s = float(numbers["emulated_s"])
        self.k_state = self.controller.state.from_dict(numbers["k_control"])
        self.pruning.restore(arrays, numbers)
        self.downlink.restore(int(numbers["version"]), arrays)
        length = len(_EXCHANGE)
        self.exchange.restore_server(
            {name[length:]: array for name, array in arrays.items() if name.startswith(_EXCHANGE)}
        )
