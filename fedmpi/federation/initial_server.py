"""Initial pruning on the server: the local rounds of the selected client, what they cost, and their account.

The server has all training data when a run starts, so it computes for the client; on a device the
client would. What is charged is what the device and its link would have taken.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from math import isfinite, nan
from typing import Any

import numpy as np
import torch

from fedmpi.config import ConfigError
from fedmpi.emulation.clock import Clock
from fedmpi.federation.accounts import Charges, Work
from fedmpi.federation.client import largest_magnitude
from fedmpi.federation.initial_training import SAMPLES, InitialTraining
from fedmpi.federation.plan import Action, RoundPlan, local_steps
from fedmpi.federation.pruning import Pruning
from fedmpi.federation.server import Server
from fedmpi.pruning.exchange import ActiveValues, new_mask_bytes
from fedmpi.pruning.initial import InitialPruning, InitialSetup
from fedmpi.pruning.interface import Change
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.round_time import RoundTime

LOCAL_ROUND = np.dtype(
    [(name, np.float64) for name in ("start_s", "end_s", "download_s", "compute_s", "upload_s")]
    + [(name, np.float64) for name in ("host_s", "overrun_s", "train_loss", "density")]
    + [(name, np.int64) for name in ("samples", "active", "bytes_down", "bytes_up", "entries_sent")]
)
"""One local round. Seconds are emulated but for ``host_s`` and ``overrun_s``; NaN where they are not charged or
not measured. ``active`` and ``density`` are those of the mask under which it trained."""

_ARRAYS = "initial_pruning."
_NUMBERS = "initial_pruning"


class InitialServer:
    """The state of initial pruning on rank 0, from the first local round to the mask of round 0.

    ``base`` is the server of the rounds, whose accounts it uses. ``rows`` (n,) LOCAL_ROUND tells of the local rounds
    so far, ``masks`` of each new mask: the local round from which on it holds and the active parameters of every
    layer; ``events`` of what else happened: local round, emulated time, kind, detail in words and as facts.
    """

    def __init__(self, base: Server, pruning: Pruning, training: InitialTraining, classes: int) -> None:
        config = base.config
        self.base = base
        self.training = training
        self.max_rounds = config.pruning.initial.max_rounds
        self.client = config.pruning.initial.client if config.pruning.initial.where == "client" else None
        self.rows = np.empty(0, LOCAL_ROUND)
        self.masks: list[tuple[int, list[int]]] = []
        self.events: list[tuple[int, float, str, str, dict[str, Any]]] = []
        self._charged = self.client is not None and config.pruning.initial.charged
        self._pruning = pruning
        self._model = training.model
        self._setup = InitialSetup(
            classes, max_density=config.pruning.max_density, max_rounds=self.max_rounds
        )
        full = Mask(self._model.parameter_count)
        self.machine = InitialPruning(self._setup, self._model.layers, full)

    def begin(self) -> None:
        """Start, or go on, from the global weights under the machine's mask."""
        self._model.load(self._pruning.host.weights)
        self._use(self.machine.mask)
        if self.machine.rounds == 0:
            self._tell_mask()
            if self.training.samples < SAMPLES:
                samples = self.training.samples
                facts = {"samples": samples, "wanted": SAMPLES}
                self._tell(0, f"only {samples} samples are there, {SAMPLES} are wanted", facts)

    def local_round(self, clock: Clock) -> None:
        """Train, tell the machine, and charge the device.

        Raises ConfigError when training diverges.
        """
        begin = time.perf_counter()
        machine, number = self.machine, self.machine.rounds
        mask, had_started = machine.mask, machine.started
        row = np.zeros(1, LOCAL_ROUND)
        samples = self.training.samples
        loss = self.training.round(number, self._pruning.host.mask, self._on_gradient)
        train_host_s = time.perf_counter() - begin
        if not (isfinite(loss) and isfinite(largest_magnitude(self._model.vector))):
            problem = (
                f"found {self.training.learning_rate:g}, with which initial pruning diverges in its local "
                f"round {number + 1}"
            )
            raise ConfigError("training.learning_rate", problem, "a smaller number")
        steps = samples / self.base.config.training.batch_size
        compute_s = nan if self.client is None else self._compute_s(steps, train_host_s)
        accuracy = nan if had_started else self.training.accuracy()
        change = machine.end_round(accuracy, self._weights(), self._round_time(train_host_s / samples))
        row[0]["samples"], row[0]["train_loss"] = samples, loss
        row[0]["active"], row[0]["density"] = mask.count, mask.density(self._model.layers)
        if change is not None:
            self._take(change)
        self._charge(row[0], compute_s, clock)
        if change is not None:
            detail = ", ".join(f"{name} {value:g}" for name, value in change.facts.items())
            self._tell(number, detail, change.facts, "pruning")
        if machine.started and not had_started:
            detail = f"training accuracy {accuracy:.4g} reached: reconfigurations from here on"
            self._tell(number, detail, {"training_accuracy": accuracy})
        if machine.finished:
            why = "stable" if machine.stable >= self._setup.stable_reconfigurations else "max_rounds"
            density, accuracy = machine.mask.density(self._model.layers), self.training.accuracy()
            self._tell(
                number,
                f"ended ({why}) after {machine.rounds} local rounds: density {density:.4g}, training accuracy "
                f"{accuracy:.4g}",
                {
                    "why": why,
                    "local_rounds": machine.rounds,
                    "density": density,
                    "training_accuracy": accuracy,
                },
            )
        row[0]["host_s"] = time.perf_counter() - begin
        self.rows = np.concatenate([self.rows, row])

    def publish(self) -> None:
        """The weights so far become the global ones of this rank."""
        self._pruning.host.weights.copy_(self._model.vector)

    def interrupt(self) -> None:
        """Make ready for a checkpoint: what the rounds know of stays as it was before initial pruning."""
        self.publish()
        self._use(Mask(self.machine.mask.dimension))

    def finish(self) -> None:
        """Charge from now on for the mask and the weights, which all ranks have."""
        self.base.pruning.start(self.machine.mask)
        self.base.downlink.advance(None)
        if self.client is not None:
            self.base.downlink.delivered(np.array([self.client]))

    def _on_gradient(self, gradients: Sequence[torch.Tensor]) -> None:
        self.machine.end_step([gradient.cpu().numpy().reshape(-1) for gradient in gradients])

    def _weights(self) -> np.ndarray:
        weights: np.ndarray = self._model.vector[: self._model.parameter_count].cpu().numpy()
        return weights

    def _take(self, change: Change) -> None:
        """Go on under a new mask."""
        whole = self._model.vector.cpu()
        change.mask.apply(whole[: self._model.parameter_count].numpy())
        self._model.vector.copy_(whole)
        self._use(change.mask)
        self._tell_mask()

    def _use(self, mask: Mask) -> None:
        self._pruning.set(mask, 0)
        self.base.pruning.time_under(mask)

    def _compute_s(self, steps: float, host_s: float) -> float:
        """Emulated seconds of the selected client for a local round under the present mask."""
        clients = np.array([self.client])
        return float(self.base.pruning.compute_seconds(clients, np.array([steps]), np.array([host_s]))[0])

    def _round_time(self, host_s_per_sample: float) -> RoundTime:
        """T(M) of federated round 0, were it run under the present mask, with as many values down as up."""
        plan, config = self.base.plan(), self.base.config
        steps = local_steps(config, self.base.sizes[plan.participants])
        host_s = steps * config.training.batch_size * host_s_per_sample
        pruning = self.base.pruning
        compute_s = pruning.compute_seconds(plan.participants, steps, host_s)
        return pruning.round_time(plan.participants, steps, compute_s, plan.k, plan.k)

    def _charge(self, row: np.void, compute_s: float, clock: Clock) -> None:
        """Fill in bytes and times: the model comes down first, mask and values go up last."""
        row["start_s"] = row["end_s"] = self.base.now_s
        for name in ("download_s", "compute_s", "upload_s", "overrun_s"):
            row[name] = nan
        if self.client is None:
            return
        if self.machine.rounds == 1:
            row["bytes_down"] = self.base.downlink.download_bytes(np.array([self.client]))[0]
        if self.machine.finished:
            row["entries_sent"], row["bytes_up"] = self._upload()
        if not self._charged:
            return
        charges = self._charges(row, compute_s)
        row["overrun_s"] = clock.hold_until(charges.end_s)
        for name in ("download_s", "compute_s", "upload_s"):
            row[name] = getattr(charges, name)[0]
        row["end_s"] = self.base.now_s = charges.end_s

    def _charges(self, row: np.void, compute_s: float) -> Charges:
        plan = RoundPlan(
            round_index=-1,
            action=Action.NONE,
            k=0,
            k_probe=0,
            learning_rate=self.training.learning_rate,
            start_s=self.base.now_s,
            participants=np.array([self.client]),
        )
        entries = np.array([row["entries_sent"]])
        work = Work(
            np.array([row["bytes_down"]]), np.array([compute_s]), entries, np.array([row["bytes_up"]])
        )
        return self.base.accountant.round(plan, work)

    def _upload(self) -> tuple[int, int]:
        """How many values the selected client sends in the end, and the bytes of them and of the mask."""
        mask, layers = self.machine.mask, self._model.layers
        values = ActiveValues(mask, layers)
        told = 0 if mask.is_full else new_mask_bytes(mask, layers)
        return values.count, told + values.message_bytes() + 4 * self._model.buffer_count

    def _tell_mask(self) -> None:
        active = self.machine.mask.active_per_layer(self._model.layers)
        self.masks.append((self.machine.rounds, active.tolist()))

    def _tell(
        self, number: int, detail: str, facts: Mapping[str, Any], kind: str = "initial_pruning"
    ) -> None:
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in facts.items()
        }
        self.events.append((number, self.base.now_s, kind, detail, plain))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a checkpoint keeps of initial pruning that has not finished: arrays, and numbers as JSON."""
        values = self.machine.to_dict()
        arrays = {f"{_ARRAYS}{name}": values.pop(name) for name in ("mask", "importance")}
        arrays[f"{_ARRAYS}rows"] = self.rows
        return arrays, {_NUMBERS: {"machine": values, "masks": self.masks, "events": self.events}}

    def restore(self, arrays: Mapping[str, np.ndarray], numbers: Mapping[str, Any]) -> None:
        """Continue from what ``state`` gave."""
        values = numbers[_NUMBERS]
        kept = {name: arrays[f"{_ARRAYS}{name}"] for name in ("mask", "importance")}
        self.machine = InitialPruning.from_dict(
            self._setup, self._model.layers, {**values["machine"], **kept}
        )
        self.rows = arrays[f"{_ARRAYS}rows"].astype(LOCAL_ROUND)
        self.masks = [(number, active) for number, active in values["masks"]]
        self.events = [
            (number, time_s, kind, detail, facts) for number, time_s, kind, detail, facts in values["events"]
        ]


def is_unfinished(numbers: Mapping[str, Any]) -> bool:
    """Whether a checkpoint was made before initial pruning had finished."""
    return _NUMBERS in numbers
