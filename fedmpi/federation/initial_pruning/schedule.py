"""The schedule of initial pruning, PruneFL on a few samples (Jiang et al., IEEE TNNLS 2022).

Whoever trains passes on the gradient of every step and the accuracy after every round; the schedule says what the mask
is and when to stop.

What is pruned takes no part in this training, so nothing is known of its importance and it stays pruned; a
reconfiguration takes back only what it has dropped itself. So it is in the authors' program. In the rounds pruned
parameters have importance, and return.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.plain_values import check_plain
from fedmpi.pruning.importance import add_squares
from fedmpi.pruning.interface import Change
from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.pruning.prunefl import change_of
from fedmpi.pruning.reconfiguration import reconfigure
from fedmpi.pruning.round_time import RoundTime

BATCHES = 10
BATCH_SIZE = 20
"""It trains on so many fixed batches of so many samples."""


@dataclass(frozen=True)
class InitialSetup:
    """The constants of the published experiments.

    ``max_rounds`` local rounds at most, each a step on every batch. Once the training accuracy has reached
    ``accuracy_factor`` / classes, the next round ends with a reconfiguration, and then every ``reconfigure_every``-th;
    each drops up to ``decrease_fraction``. It ends when the density changed by at most ``stable_change`` of
    what it was in ``stable_reconfigurations`` of them running.
    """

    classes: int
    max_density: float = 1.0
    max_rounds: int = 1000
    reconfigure_every: int = 50
    decrease_fraction: float = 0.3
    accuracy_factor: float = 1.5
    stable_change: float = 0.1
    stable_reconfigurations: int = 5


class InitialPruning:
    """The mask, the importance since it was last reconfigured, and how far initial pruning has come.

    ``importance`` is float32 (D,), the sum of squared gradients of single steps. ``rounds`` have ended; the accuracy
    was reached if ``started``, and the mask is reconfigured when ``since``, which counts rounds from then on, is what
    the setup says; ``stable`` reconfigurations running left the density much as it was.
    """

    rounds: int
    since: int
    stable: int
    started: bool

    def __init__(self, setup: InitialSetup, layers: Sequence[LayerSlice], mask: Mask) -> None:
        self.setup = setup
        self.layers = layers
        self.mask = mask
        self.importance = np.zeros(mask.dimension, np.float32)
        self.rounds = 0
        self.since = 0
        self.stable = 0
        self.started = False

    @property
    def finished(self) -> bool:
        """No more rounds are to be trained."""
        return self.rounds >= self.setup.max_rounds or self.stable >= self.setup.stable_reconfigurations

    def end_step(self, gradients: Sequence[NDArray[np.float32]]) -> None:
        """Take in the gradient of a local step: float32, one flat array for each layer."""
        for layer, gradient in zip(self.layers, gradients, strict=True):
            add_squares(self.importance[layer.start : layer.stop], gradient)

    def end_round(self, accuracy: float, weights: NDArray[np.float32], time: RoundTime) -> Change | None:
        """A round has ended, with this training ``accuracy`` and ``weights`` (D,); ``time`` is T(M).

        Returns the change where the mask has changed. Raises ValueError when initial pruning has finished.
        """
        if self.finished:
            raise ValueError(f"initial pruning has finished after {self.rounds} rounds")
        self.rounds += 1
        if not self.started:
            self.started = accuracy >= self.setup.accuracy_factor / self.setup.classes
            self.since = self.setup.reconfigure_every - 1
            return None
        self.since += 1
        if self.since < self.setup.reconfigure_every:
            return None
        before = self.mask
        before.apply(self.importance)
        result = reconfigure(
            weights,
            self.importance,
            before,
            self.layers,
            time.seconds_per_parameter,
            time.constant_s,
            self.setup.decrease_fraction,
            self.setup.max_density,
        )
        density = before.density(self.layers)
        change = abs(result.mask.density(self.layers) - density)
        self.stable = self.stable + 1 if change <= self.setup.stable_change * density else 0
        self.mask = result.mask
        self.importance[:] = 0.0
        self.since = 0
        return change_of(result, before)

    def to_dict(self) -> dict[str, Any]:
        """Arrays and plain numbers for a checkpoint; the setup is not part of them."""
        return {
            "mask": self.mask.to_bits(),
            "dimension": self.mask.dimension,
            "importance": self.importance,
            "rounds": self.rounds,
            "since": self.since,
            "stable": self.stable,
            "started": self.started,
        }

    @classmethod
    def from_dict(cls, setup: InitialSetup, layers: Sequence[LayerSlice], values: Mapping[str, Any]) -> Self:
        """Continue from what ``to_dict`` gave. Raises ValueError for values of other types."""
        check_plain(cls, values)
        machine = cls(setup, layers, Mask.from_bits(values["mask"], values["dimension"]))
        machine.importance[:] = values["importance"]
        machine.rounds = values["rounds"]
        machine.since = values["since"]
        machine.stable = values["stable"]
        machine.started = values["started"]
        return machine
