"""Model size by online learning, as PruneFL is compared with it (Jiang et al., IEEE TNNLS 2022).

``ogd_sign`` (Han, Wang, Leung, ICDCS 2020) chooses how many prunable parameters stay; they are shared out over the
layers in proportion to their sizes and picked by magnitude. A round costs T(M) of its mask.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control import Draw, ogd_sign
from fedmpi.k_control import Observation as Cost
from fedmpi.k_control import Setup as Bounds
from fedmpi.k_control.probe import estimated_cost
from fedmpi.numerics.apportionment import largest_remainder
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State, required
from fedmpi.pruning.magnitude import keep_largest
from fedmpi.pruning.mask import Mask

_NAME = "online"


@dataclass(frozen=True)
class OnlineState(State):
    """``controller`` holds k, the prunable parameters that stay, and k_probe; ``rounds_since`` the last step."""

    controller: ogd_sign.SignState
    rounds_since: int

    def to_dict(self) -> dict[str, Any]:
        """As of any state, the controller being a dict of its own."""
        return {**super().to_dict(), "controller": self.controller.to_dict()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``. Raises ValueError when the keys are not those of this state."""
        if "controller" in values:
            values = {**values, "controller": ogd_sign.SignState.from_dict(values["controller"])}
        return super().from_dict(values)


def pruned_to(weights: NDArray[np.float32], setup: Setup, total: int) -> Mask:
    """The mask of the ``total`` largest prunable weights, every layer having its share.

    A layer that grows beyond its weights that are not zero takes zeros from the lowest index on.
    """
    return keep_largest(
        weights, Mask(weights.size), setup.layers, largest_remainder(setup.sizes, total).tolist()
    )


def probe_mask(setup: Setup, state: OnlineState, weights: NDArray[np.float32]) -> Mask | None:
    """The smaller mask to measure the third loss with, on the weights after the round; None without a probe."""
    return pruned_to(weights, setup, state.controller.k_probe) if state.controller.k_probe else None


def init(setup: Setup, mask: Mask) -> OnlineState:
    """Start with as many parameters as ``mask`` has, within the bounds of the controller."""
    parameters = int(setup.sizes.sum())
    bounds = Bounds.for_dimension(parameters)
    active = int(mask.active_per_layer(setup.prunable).sum())
    start = Bounds(bounds.k_min, bounds.k_max, max(active, bounds.k_min))
    return OnlineState(mask, ogd_sign.init(start, _no_draw), rounds_since=0)


def needs(setup: Setup, state: OnlineState, round_index: int) -> Needs:
    """Weights, time and losses in the rounds after which the size may change."""
    if state.rounds_since + 1 < setup.config.reconfigure_every:
        return Needs.NOTHING
    return Needs.WEIGHTS | Needs.TIME | Needs.LOSSES


def step(
    setup: Setup, state: OnlineState, observation: Observation, draw: Draw
) -> tuple[OnlineState, Change | None]:
    """One step of the controller and the mask of its size, every ``reconfigure_every`` rounds; two draws at most."""
    if needs(setup, state, observation.round_index) is Needs.NOTHING:
        return OnlineState(state.mask, state.controller, state.rounds_since + 1), None
    weights = required(observation.weights, "weights", _NAME)
    time = required(observation.time, "time", _NAME)
    losses = observation.losses
    cost_probe = None
    if state.controller.k_probe and losses is not None:
        probe_s = time.seconds(largest_remainder(setup.sizes, state.controller.k_probe))
        cost_probe = estimated_cost(probe_s, losses.previous, losses.current, losses.probe)
    cost = time.seconds(state.mask.active_per_layer(setup.prunable))
    controller = ogd_sign.step(state.controller, Cost(cost, cost_probe), draw)
    mask = pruned_to(weights, setup, controller.k)
    facts = {
        "active_before": state.mask.count,
        "active": mask.count,
        "prunable_kept": controller.k,
        "prunable_probe": controller.k_probe,
    }
    return OnlineState(mask, controller, rounds_since=0), Change(mask, facts)


def _no_draw() -> float:
    raise AssertionError("ogd_sign takes no draw at its start")


METHOD = Method(
    summary="ogd_sign chooses how many weights stay, by magnitude",
    source="as compared with in Jiang et al., IEEE TNNLS 2022 (arXiv 1909.12326)",
    state=OnlineState,
    init=init,
    needs=needs,
    step=step,
    probe=probe_mask,
    by_time=True,
)
