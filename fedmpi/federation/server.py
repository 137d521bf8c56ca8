"""The server of a run, on rank 0: it plans rounds, judges updates, keeps the clock and chooses k."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import inf, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmpi import k_control
from fedmpi.config.schema import Config
from fedmpi.emulation.timeline import Timeline
from fedmpi.federation.client_selection import next_start
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.exchange import Exchange, Exchanged, Roster
from fedmpi.federation.global_evaluation import Measured
from fedmpi.federation.messages import VERDICT, Action, RoundPlan, RoundStart
from fedmpi.federation.pruning import FinishedRound, ServerPruning
from fedmpi.federation.round_cost import Accountant, FloatArray, IntArray, Work, local_steps
from fedmpi.federation.round_prices import RoundPrices
from fedmpi.federation.stopping import Stopping
from fedmpi.federation.verdict import Closed, Judged, mean_of_accepted, statuses_of
from fedmpi.k_control import Controller, State
from fedmpi.k_control.probe import estimated_cost
from fedmpi.learning.training import learning_rate_at
from fedmpi.numerics.streams import Purpose, generator
from fedmpi.pruning import Change, Losses
from fedmpi.pruning.round_time import RoundTime
from fedmpi.trace import Status

_EXCHANGE = "exchange."
"""What the names of the exchange's arrays begin with in a checkpoint."""

_STAYING = "staying"

_BEFORE_ROUNDS = -1
"""The round that what happens before the first one is charged as."""


class Server:
    """State that only rank 0 has: the controller of k, versions of clients, emulated time, reasons to stop."""

    def __init__(
        self,
        config: Config,
        sizes: IntArray,
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
        self._staying = np.empty(0, np.int64)
        """Within a period, the participants that have not stopped since it began."""
        self._idle_s = 0.0
        self.stopping = Stopping()

    @property
    def prices(self) -> RoundPrices:
        """What rounds cost under the present configuration."""
        return RoundPrices(self.config, self.accountant, self.exchange, self.pruning)

    def plan(self) -> RoundPlan:
        """What happens at this boundary, and in the round after it if there is one.

        Where nobody is available, emulated time moves on until somebody is, or the run stops.
        """
        experiment, training, index = self.config.experiment, self.config.training, self.round_index
        stopping = self.stopping
        if not stopping.reason and index >= experiment.rounds:
            stopping.reason = f"all {experiment.rounds} rounds done"
        start = None if stopping.reason else self._next_start()
        if start is None:
            stopping.reason = stopping.reason or "no client is available any more"
            start = RoundStart(index, self.now_s, np.empty(0, np.int64))
        self._idle_s, self.now_s = start.start_s - self.now_s, start.start_s
        k, k_probe = min(self.k_state.k, self.exchange.dimension), self.k_state.k_probe
        layer_k: tuple[int, ...] = ()
        if self.controller.layer_k is not None:
            layer_k = self.pruning.active_of_layers(self.controller.layer_k(self.k_state))
            k = sum(layer_k)
        return RoundPlan(
            round_index=index,
            action=self._action(),
            k=k,
            k_probe=k_probe if k_probe < self.exchange.dimension else 0,
            learning_rate=learning_rate_at(training, index),
            start_s=start.start_s,
            participants=start.participants,
            needs=self.pruning.needs(index),
            layer_k=layer_k,
        )

    def _action(self) -> Action:
        experiment, index = self.config.experiment, self.round_index
        action, every = self.stopping.action, experiment.checkpoint_every
        if not action and every and index and index % every == 0:
            action |= Action.CHECKPOINT
        if (index + 1) % experiment.evaluate_every == 0 or index + 1 == experiment.rounds:
            action |= Action.EVALUATE
        if self.controller.measures_losses:
            action |= Action.MEASURE
        return action

    def _next_start(self) -> RoundStart | None:
        """When the next round begins, and with whom: drawn among those available then; None: nobody ever is.

        Within a period it begins at once, with those who have not stopped.
        """
        if self.round_index % self.exchange.period:
            return RoundStart(self.round_index, self.now_s, self._staying)
        return next_start(self.config, self.accountant.fleet.availability, self.round_index, self.now_s)

    def judge(self, plan: RoundPlan, records: NDArray[np.void]) -> Judged:
        """Reject updates that are not finite, and time the round up to its last upload, or to where it is ended.

        ``records`` are the participants' RECORD rows in any order. A rejected update is charged like any other: the
        device has sent it. A participant that is late or dropped is charged up to where it stopped, and has the model
        if it had downloaded it by then. With fewer updates than ``federation.min_updates`` all are rejected.
        """
        self.stopping.preempt_if(bool(records["signalled"].any()))
        records = records[np.argsort(records["client"])]
        bytes_down = np.zeros(len(records), dtype=np.int64)
        downloads = plan.round_index % self.exchange.period == 0
        if downloads:
            bytes_down = self.downlink.download_bytes(plan.participants)
        steps = records["samples"] / self.config.training.batch_size
        compute_s = self.pruning.compute_seconds(plan.participants, steps, records["compute_host_s"])
        bytes_up = records["message_bytes"] + self.pruning.importance_bytes(plan)
        work = Work(bytes_down, compute_s, records["entries"], bytes_up, self.exchange.sketch.bytes)
        charges, arrivals = self.prices.charge(plan.start, work)
        if downloads:
            self.downlink.delivered(plan.participants[charges.downloaded])
        status = statuses_of(records, arrivals)
        in_time = status == Status.OK
        needed = self.config.federation.min_updates
        abandoned = self.prices.exchanges(plan.round_index) and int(np.count_nonzero(in_time)) < needed
        if abandoned:
            status[in_time] = Status.REJECTED
        self._staying = plan.participants[arrivals.in_time]
        verdict = np.zeros(len(records), dtype=VERDICT)
        verdict["status"] = status
        verdict["trained"] = charges.trained
        verdict["deadline_s"] = charges.arrival_s
        verdict["message_bytes"] = records["message_bytes"]
        accepted = records["max_abs"][status == Status.OK]
        return Judged(
            records=records,
            verdict=verdict,
            max_abs=float(accepted.max(initial=0.0)),
            work=work,
            charges=charges,
            abandoned=abandoned,
            too_late=abandoned and bool(arrivals.late.any()) and int(arrivals.in_time.sum()) < needed,
        )

    def close(
        self,
        plan: RoundPlan,
        judged: Judged,
        roster: Roster,
        exchanged: Exchanged,
        measured: Measured | None,
        update_norms: tuple[float, ...] | None = None,
    ) -> Closed:
        """End a round: the clock moves on, clients' versions are noted, and k is chosen for the next.

        ``measured`` is None where nobody was asked for losses; ``update_norms`` are those that a controller asked for.
        """
        if roster.accepted.any() and exchanged.bytes_down:  # perhaps of buffers alone
            self.downlink.advance(exchanged.changed, exchanged.bytes_down)
        cost_probe = loss_prev = loss = feedback = losses = None
        if measured is not None:
            feedback = self.prices.feedback(plan, judged, exchanged, measured.tried)
        charges = self.accountant.close(
            plan.start, judged.charges, exchanged.k_down, feedback, judged.staying
        )
        if measured is not None:
            self.downlink.delivered(plan.participants[judged.staying])
            loss_prev, loss, loss_probe, loss_pruned = measured.weighted(self.sizes)
            losses = Losses(loss_prev, loss, loss_pruned if measured.tried is not None else nan)
            if plan.k_probe:
                cost = self.prices.cost_at_probe(plan, judged, exchanged.k_down_probe, measured.tried)
                cost_probe = estimated_cost(cost, loss_prev, loss, loss_probe)
        self.k_state = self.controller.step(
            self.k_state,
            k_control.Observation(
                charges.duration_s,
                cost_probe,
                loss_prev,
                loss,
                update_norms,
                learning_rate_at(self.config.training, plan.round_index + 1) < plan.learning_rate,
                self.prices.magnitudes(plan, judged, exchanged),
                judged.too_late,
            ),
            generator(self.config.experiment.seed, Purpose.K_CONTROL, plan.round_index).random,
        )
        self.now_s = charges.end_s
        self.round_index = plan.round_index + 1
        return Closed(
            plan=plan,
            judged=judged,
            charges=charges,
            train_loss=mean_of_accepted(judged.records["train_loss"], roster),
            k_down=exchanged.k_down,
            entries_used=exchanged.entries_used,
            losses=losses,
            idle_s=self._idle_s,
        )

    def change_mask(self, finished: FinishedRound, judged: Judged, exchanged: Exchanged) -> Change | None:
        """The step of the pruning method after a closed round; with ``pruning.joint`` k is decided with the mask.

        None where the mask stays.
        """
        decide = self.controller.decide if self.config.pruning.joint else None
        seen = None if decide is None else self.prices.magnitudes(finished.plan, judged, exchanged)
        if decide is None or seen is None:
            return self.pruning.step(finished)
        states: dict[int, State] = {}

        def best_k(round_s: Callable[[IntArray], FloatArray], most: int) -> int:
            state = decide(self.k_state, replace(seen, round_s=round_s, most_k=most))
            k = min(state.k, most)
            states[k] = state
            return k

        change, k = self.pruning.step_with_k(finished, self.k_state.k, best_k)
        if change is None or k is None:
            return change
        self.k_state = states[k]
        return replace(change, facts={**change.facts, "k": min(self.k_state.k, change.mask.count)})

    def stop_if_reached(self, test_accuracy: float, host_s: float) -> None:
        """Stop at the next boundary if a limit of ``[experiment]`` is reached. ``host_s``: since the run began here."""
        self.stopping.check_limits(self.config.experiment, test_accuracy, self.now_s, host_s)

    def charge_before_rounds(self, client: int, work: Work) -> Timeline:
        """Charge what ``client`` does alone before the first round; the clock moves on to its end."""
        start = RoundStart(_BEFORE_ROUNDS, self.now_s, np.array([client]))
        charges = self.accountant.round(start, work)
        self.now_s = charges.end_s
        return charges

    def first_round_time(self, host_s_per_sample: float) -> RoundTime:
        """T(M) of round 0, were it run under the present mask, with as many values down as up.

        ``host_s_per_sample``: what training takes here. Raises ValueError where no client is ever available.
        """
        start = self._next_start()
        if start is None:
            raise ValueError("no client is ever available: a first round has no time")
        steps = local_steps(self.config, self.sizes[start.participants])
        host_s = steps * self.config.training.batch_size * host_s_per_sample
        compute_s = self.pruning.compute_seconds(start.participants, steps, host_s)
        k = min(self.k_state.k, self.exchange.dimension)
        return self.pruning.round_time(start.participants, steps, compute_s, k, k)

    def begin_pruned(self, holder: int | None) -> None:
        """Initial pruning has ended: round 0 starts from its weights and mask, which all ranks have.

        Clients are charged for both, but for the client ``holder`` (None: the server pruned), which made them.
        """
        self.pruning.start()
        self.downlink.advance(None)
        if holder is not None:
            self.downlink.delivered(np.array([holder]))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a checkpoint keeps of the server: arrays, and numbers as JSON."""
        numbers = {
            "round": self.round_index,
            "emulated_s": self.now_s,
            "version": self.downlink.version,
            "k_control": self.k_state.to_dict(),
        }
        carried = {f"{_EXCHANGE}{name}": array for name, array in self.exchange.server_state().items()}
        masked, method = self.pruning.to_dict()
        period = {_STAYING: self._staying} if self.round_index % self.exchange.period else {}
        return {**self.downlink.state(), **carried, **masked, **period}, {**numbers, **method}

    def restore(self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Continue from what ``state`` gave; the mask is in use already. Raises ValueError and such."""
        self.round_index = int(numbers["round"])
        self.now_s = float(numbers["emulated_s"])
        if not 0.0 <= self.now_s < inf:
            raise ValueError(f"emulated_s is {self.now_s}")
        self.k_state = self.controller.state.from_dict(numbers["k_control"])
        losses = (2.0, 1.0) if self.controller.measures_losses else (None, None)
        seen = k_control.Observation(2.0, 1.0 if losses[0] and self.k_state.k_probe else None, *losses)
        self.controller.step(self.k_state, seen, lambda: 0.5)  # fails here and not in a round
        self.pruning.restore(arrays, numbers)
        self.downlink.restore(int(numbers["version"]), arrays)
        self._staying = arrays.get(_STAYING, self._staying)
        length = len(_EXCHANGE)
        self.exchange.restore_server(
            {name[length:]: array for name, array in arrays.items() if name.startswith(_EXCHANGE)}
        )
