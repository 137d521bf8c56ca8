"""The part of the server that prunes: what the method is told of a round, and what a mask costs from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import Fleet
from fedmpi.federation.accounts import NormalizedAccountant
from fedmpi.federation.downlink import Downlink
from fedmpi.federation.exchange import Exchange
from fedmpi.federation.plan import Action, RoundPlan
from fedmpi.federation.pruning import Pruner, round_time
from fedmpi.pruning.exchange import new_mask_bytes
from fedmpi.pruning.interface import MASK, Change, Losses, Needs, Observation, Setup
from fedmpi.pruning.mask import Mask, never_pruned
from fedmpi.pruning.round_time import RoundTime

_NUMBERS = "pruning"


class ServerPruning:
    """The server's account of the mask, and the method that changes it (``pruner``, None where nothing is pruned).

    ``active_prunable`` int64 (L,): the active parameters of each prunable layer, by which rounds are timed, and
    ``density`` that of all of them. ``normalized`` prices rounds where no devices are emulated.
    """

    def __init__(
        self,
        setup: Setup,
        fleet: Fleet,
        exchange: Exchange,
        downlink: Downlink,
        batch_size: int,
        pruner: Pruner | None,
        normalized: NormalizedAccountant | None = None,
    ) -> None:
        self.setup = setup
        self.pruner = pruner
        self.active_prunable = setup.sizes
        self.density = 1.0
        self._fleet = fleet
        self._exchange = exchange
        self._downlink = downlink
        self._batch_size = batch_size
        self._normalized = normalized

    def wishes(self, round_index: int) -> Action:
        """What the method asks of the round that is about to run."""
        needs = Needs.NOTHING if self.pruner is None else self.pruner.needs(round_index)
        action = Action.PRUNE if needs else Action.NONE
        action |= Action.IMPORTANCE if Needs.IMPORTANCE in needs else Action.NONE
        return action | Action.TRY_MASK if Needs.LOSSES in needs else action

    def importance_bytes(self, plan: RoundPlan) -> int:
        """What each participant adds to its message."""
        if self.pruner is None or Action.IMPORTANCE not in plan.action:
            return 0
        return self.pruner.importance_bytes

    def step(
        self,
        plan: RoundPlan,
        samples: np.ndarray,
        compute_s: np.ndarray,
        k_down: int,
        weights: np.ndarray,
        before: np.ndarray | None,
        importance: np.ndarray | None,
        losses: Losses | None,
    ) -> Change | None:
        """Tell the pruning method of a finished round, if there is one.

        ``samples`` and ``compute_s`` (participants,): what was processed, and in how many emulated seconds; ``k_down``
        values came down.
        ``weights`` (D,) are those after the round, ``before`` those before it where the mask may change, ``importance``
        (D,) is what clients sent of it, ``losses`` those of a mask that was tried.
        """
        if self.pruner is None:
            return None
        if before is None:
            return self.pruner.step(Observation(plan.round_index))
        needs = self.pruner.needs(plan.round_index)
        gradient = (before - weights) / np.float32(plan.learning_rate) if Needs.GRADIENT in needs else None
        time = None
        if Needs.TIME in needs:
            time = self.round_time(plan.participants, samples / self._batch_size, compute_s, plan.k, k_down)
        return self.pruner.step(
            Observation(
                plan.round_index,
                weights=weights,
                gradient=gradient,
                importance=importance,
                time=time,
                losses=losses if Needs.LOSSES in needs else None,
            )
        )

    def mask_to_try(self, weights: np.ndarray) -> Mask:
        """The mask of a TRY_MASK round, by the weights (D,) after it; full for none."""
        assert self.pruner is not None
        return self.pruner.mask_to_try(weights)

    def compute_seconds(self, clients: np.ndarray, steps: np.ndarray, host_s: np.ndarray) -> np.ndarray:
        """Emulated seconds (n,) in which ``clients`` (n,) make their local ``steps`` under the present mask."""
        return self._fleet.compute.seconds(
            LocalTraining.of(clients, steps, self.active_prunable, density=self.density, host_s=host_s)
        )

    def round_time(
        self, participants: np.ndarray, steps: np.ndarray, compute_s: np.ndarray, k: int, k_down: int
    ) -> RoundTime:
        """T(M) of a round of ``participants`` (n,) with ``steps`` and ``compute_s`` (n,), under the present mask.

        Each sends ``k`` values and receives ``k_down``.
        """
        if self._normalized is not None:
            layers, period = self.setup.layers, self._exchange.period
            return self._normalized.round_time(
                k, k_down, never_pruned(layers), len(self.active_prunable), period
            )
        up, down = self._exchange.bytes_by_size(k), self._exchange.bytes_by_size(k_down, down=True)
        return round_time(
            self._fleet,
            participants,
            steps,
            compute_s,
            up,
            down,
            self.active_prunable,
            self._exchange.period,
        )

    def start(self, mask: Mask) -> None:
        """Start the method with ``mask``, which clients do not have yet; the exchange works under it already."""
        assert self.pruner is not None
        self.pruner.start(mask)
        if not mask.is_full:
            self.take_mask(mask)

    def time_under(self, mask: Mask) -> None:
        """Time rounds under ``mask`` from now on, which no client is told."""
        self.active_prunable = mask.active_per_layer(self.setup.prunable)
        self.density = mask.density(self.setup.layers)

    def take_mask(self, mask: Mask) -> None:
        """Charge from now on for a new ``mask``, under which the exchange works already."""
        self._set_mask(mask, self._downlink.new_mask)

    def _set_mask(self, mask: Mask, tell: Callable[[np.ndarray, int, int], None]) -> None:
        self.time_under(mask)
        tell(mask.flags(), self._exchange.dimension, new_mask_bytes(mask, self.setup.layers))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What a checkpoint keeps: arrays, and numbers as JSON."""
        if self.pruner is None:
            return {}, {}
        bits, numbers = self.pruner.to_dict()
        return {MASK: bits}, {_NUMBERS: numbers}

    def restore(self, arrays: dict[str, np.ndarray], numbers: dict[str, Any]) -> None:
        """Continue from what ``state`` gave; the exchange has the mask already."""
        if self.pruner is not None:
            self.pruner.restore(arrays[MASK], numbers[_NUMBERS])
            self._set_mask(self.pruner.state.mask, self._downlink.set_mask)
