"""Initial pruning on the server: the local rounds of the selected client, and what they cost.

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
from numpy.typing import NDArray

from fedmpi.config import ConfigError
from fedmpi.emulation.clock import Clock
from fedmpi.federation.client import largest_magnitude
from fedmpi.federation.initial_pruning.schedule import InitialPruning, InitialSetup
from fedmpi.federation.initial_pruning.training import SAMPLES, InitialTraining
from fedmpi.federation.masked_model import MaskedModel
from fedmpi.federation.round_cost import Work
from fedmpi.federation.server import Server
from fedmpi.numerics.plain_values import check_plain
from fedmpi.pruning import Change, Mask
from fedmpi.pruning.active_values import ActiveValues

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

    ``base`` is the server of the rounds, which charges for them. ``rows`` (n,) LOCAL_ROUND are the local rounds
    so far, ``masks`` each new mask: the local round from which on it holds and the active parameters of every
    layer; ``events`` what else happened: local round, emulated time, kind, detail in words and as facts.
    """

    masks: list[tuple[int, list[int]]]
    events: list[tuple[int, float, str, str, dict[str, Any]]]

    def __init__(self, base: Server, masked: MaskedModel, training: InitialTraining, classes: int) -> None:
        config = base.config
        self.base = base
        self.training = training
        self.max_rounds = config.pruning.initial.max_rounds
        self.client = config.pruning.initial.client if config.pruning.initial.where == "client" else None
        self.rows = np.empty(0, LOCAL_ROUND)
        self.masks = []
        self.events = []
        self._charged = self.client is not None and config.pruning.initial.charged
        self._masked = masked
        self._model = training.model
        self._setup = InitialSetup(
            classes, max_density=config.pruning.max_density, max_rounds=self.max_rounds
        )
        full = Mask(self._model.parameter_count)
        self.schedule = InitialPruning(self._setup, self._model.layers, full)

    def begin(self) -> None:
        """Start, or go on, from the global weights under the mask of the schedule."""
        self._model.load(self._masked.weights)
        self._masked.use(self.schedule.mask, 0)
        if self.schedule.rounds == 0:
            self._note_mask()
            if self.training.samples < SAMPLES:
                samples = self.training.samples
                facts = {"samples": samples, "wanted": SAMPLES}
                self._note(0, f"only {samples} samples are there, {SAMPLES} are wanted", facts)

    def local_round(self, clock: Clock) -> None:
        """Train, change the mask where it is due, and charge the device.

        Raises ConfigError when training diverges.
        """
        begin = time.perf_counter()
        schedule, number = self.schedule, self.schedule.rounds
        mask, had_started = schedule.mask, schedule.started
        row = np.zeros(1, LOCAL_ROUND)
        samples = self.training.samples
        loss = self.training.round(number, self._masked.in_training, self._on_gradient)
        train_host_s = time.perf_counter() - begin
        if not (isfinite(loss) and isfinite(largest_magnitude(self._model.vector))):
            problem = (
                f"found {self.training.learning_rate:g}, with which initial pruning diverges in its local "
                f"round {number + 1}"
            )
            raise ConfigError("training.learning_rate", problem, "a smaller number")
        compute_s = nan if self.client is None else self._compute_s(self.client, train_host_s)
        accuracy = nan if had_started else self.training.accuracy()
        time_of_round = self.base.first_round_time(train_host_s / samples)
        change = schedule.end_round(accuracy, self._weights(), time_of_round)
        row[0]["samples"], row[0]["train_loss"] = samples, loss
        row[0]["active"], row[0]["density"] = mask.count, mask.density(self._model.layers)
        if change is not None:
            self._take(change)
        self._charge(row[0], compute_s, clock)
        if change is not None:
            detail = ", ".join(f"{name} {value:g}" for name, value in change.facts.items())
            self._note(number, detail, change.facts, "pruning")
        if schedule.started and not had_started:
            detail = f"training accuracy {accuracy:.4g} reached: reconfigurations from here on"
            self._note(number, detail, {"training_accuracy": accuracy})
        if schedule.finished:
            why = "stable" if schedule.stable >= self._setup.stable_reconfigurations else "max_rounds"
            density, accuracy = schedule.mask.density(self._model.layers), self.training.accuracy()
            self._note(
                number,
                f"ended ({why}) after {schedule.rounds} local rounds: density {density:.4g}, training accuracy "
                f"{accuracy:.4g}",
                {
                    "why": why,
                    "local_rounds": schedule.rounds,
                    "density": density,
                    "training_accuracy": accuracy,
                },
            )
        row[0]["host_s"] = time.perf_counter() - begin
        self.rows = np.concatenate([self.rows, row])

    def publish(self) -> None:
        """The weights so far become the global ones of this rank."""
        self._masked.weights.copy_(self._model.vector)

    def interrupt(self) -> None:
        """Make ready for a checkpoint: what the rounds know of stays as it was before initial pruning."""
        self.publish()
        self._masked.use(Mask(self.schedule.mask.dimension), 0)

    def finish(self) -> None:
        """Charge from now on for the mask and the weights, which all ranks have."""
        self.base.begin_pruned(self.client)

    def _on_gradient(self, gradients: Sequence[torch.Tensor]) -> None:
        self.schedule.end_step([gradient.cpu().numpy().reshape(-1) for gradient in gradients])

    def _weights(self) -> NDArray[np.float32]:
        weights: NDArray[np.float32] = self._model.vector[: self._model.parameter_count].cpu().numpy()
        return weights

    def _take(self, change: Change) -> None:
        """Go on under a new mask."""
        whole = self._model.vector.cpu()
        change.mask.apply(whole[: self._model.parameter_count].numpy())
        self._model.vector.copy_(whole)
        self._masked.use(change.mask, 0)
        self._note_mask()

    def _compute_s(self, client: int, host_s: float) -> float:
        """Emulated seconds of the selected client for a local round under the present mask."""
        steps = np.array([self.training.samples / self.base.config.training.batch_size])
        return float(self.base.pruning.compute_seconds(np.array([client]), steps, np.array([host_s]))[0])

    def _charge(self, row: np.void, compute_s: float, clock: Clock) -> None:
        """Fill in bytes and times: the model comes down first, mask and values go up last."""
        row["start_s"] = row["end_s"] = self.base.now_s
        for name in ("download_s", "compute_s", "upload_s", "overrun_s"):
            row[name] = nan
        if self.client is None:
            return
        if self.schedule.rounds == 1:
            row["bytes_down"] = self.base.downlink.download_bytes(np.array([self.client]))[0]
        if self.schedule.finished:
            row["entries_sent"], row["bytes_up"] = self._upload()
        if not self._charged:
            return
        down, entries, up = (np.array([row[name]]) for name in ("bytes_down", "entries_sent", "bytes_up"))
        charges = self.base.charge_before_rounds(self.client, Work(down, np.array([compute_s]), entries, up))
        row["overrun_s"] = clock.hold_until(charges.end_s)
        for name in ("download_s", "compute_s", "upload_s"):
            row[name] = getattr(charges, name)[0]
        row["end_s"] = charges.end_s

    def _upload(self) -> tuple[int, int]:
        """How many values the selected client sends in the end, and the bytes of them and of the mask."""
        mask = self.schedule.mask
        values = ActiveValues(mask, self._model.layers)
        mask_bytes = 0 if mask.is_full else self.base.pruning.new_mask_bytes(mask)
        return values.count, mask_bytes + values.message_bytes() + 4 * self._model.buffer_count

    def _note_mask(self) -> None:
        active = self.schedule.mask.active_per_layer(self._model.layers)
        self.masks.append((self.schedule.rounds, active.tolist()))

    def _note(
        self, number: int, detail: str, facts: Mapping[str, Any], kind: str = "initial_pruning"
    ) -> None:
        plain = {
            name: value.item() if isinstance(value, np.generic) else value for name, value in facts.items()
        }
        self.events.append((number, self.base.now_s, kind, detail, plain))

    def state(self) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """What a checkpoint keeps of initial pruning that has not finished: arrays, and numbers as JSON."""
        values = self.schedule.to_dict()
        arrays = {f"{_ARRAYS}{name}": values.pop(name) for name in ("mask", "importance")}
        arrays[f"{_ARRAYS}rows"] = self.rows
        return arrays, {_NUMBERS: {"machine": values, "masks": self.masks, "events": self.events}}

    def restore(self, arrays: Mapping[str, NDArray[Any]], numbers: Mapping[str, Any]) -> None:
        """Continue from what ``state`` gave. Raises ValueError and others for anything else."""
        values = numbers[_NUMBERS]
        check_plain(type(self), {name: values[name] for name in ("masks", "events")})
        kept = {name: arrays[f"{_ARRAYS}{name}"] for name in ("mask", "importance")}
        self.schedule = InitialPruning.from_dict(
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
