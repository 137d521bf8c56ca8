"""Accordion: little compression while a layer's updates change in size quickly, much while they do not.

Agarwal, Wang, Lee, Venkataraman, Papailiopoulos, "Adaptive gradient communication via critical learning regime
identification", MLSys 2021 (arXiv 2010.16248). An epoch of the paper is a round here, and the norm of a layer that of
its part of the aggregated update. Each layer sends its own share of entries, as in the paper.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedmpi.k_control.interface import Controller, Draw, Observation, Setup, State, clip


@dataclass(frozen=True)
class AccordionState(State):
    """``critical`` has a flag for each layer, ``norms`` those of the last round of decision; before it none.

    ``round_number`` is that of the next round, ``sizes`` and ``compressed`` are the layers', ``k_min`` the least k.
    """

    round_number: int
    critical: tuple[bool, ...]
    norms: tuple[float, ...]
    sizes: tuple[int, ...]
    compressed: tuple[bool, ...]
    k_min: int


def regimes(before: Sequence[float], now: Sequence[float], threshold: float) -> tuple[bool, ...]:
    """Which layers are in a critical regime: the norm changed by ``threshold`` of what it was, or it was 0.

    Without norms ``before`` all of them are.
    """
    if not before:
        return (True,) * len(now)
    return tuple(old == 0 or abs(old - new) / old >= threshold for old, new in zip(before, now, strict=True))


def accordion(
    low: float = 0.1,
    high: float = 0.99,
    interval: int = 10,
    threshold: float = 0.5,
    start_high: bool = True,
) -> Controller:
    """``high`` of a layer's entries in a critical regime, else ``low``, decided every ``interval`` rounds.

    Tensors of one dimension (biases) are always sent whole. k is the sum over all layers; where that is below its
    least, the first layers send more. Raises ValueError unless 0 < low <= high <= 1, interval >= 1 and threshold > 0.
    """
    if not 0.0 < low <= high <= 1.0:
        raise ValueError(f"low is {low} and high is {high}, allowed are 0 < low <= high <= 1")
    if interval < 1:
        raise ValueError(f"interval is {interval}, allowed are numbers from 1 on")
    if not threshold > 0.0:
        raise ValueError(f"threshold is {threshold}, allowed are numbers above 0")

    def layer_k(state: AccordionState) -> tuple[int, ...]:
        fractions = (high if critical else low for critical in state.critical)
        layers = zip(state.sizes, state.compressed, fractions, strict=True)
        shares = [int(fraction * size) if compressed else size for size, compressed, fraction in layers]
        for layer, size in enumerate(state.sizes):
            shares[layer] += clip(state.k_min - sum(shares), 0, size - shares[layer])
        return tuple(shares)

    def with_k(state: AccordionState) -> AccordionState:
        return replace(state, k=sum(layer_k(state)))

    def init(setup: Setup, draw: Draw) -> AccordionState:
        del draw
        sizes = setup.layer_sizes or (setup.k_max,)
        return with_k(
            AccordionState(
                k=setup.k_initial,
                k_probe=0,
                round_number=0,
                critical=(start_high,) * len(sizes),
                norms=(),
                sizes=sizes,
                compressed=setup.layer_compressed or (True,) * len(sizes),
                k_min=setup.k_min,
            )
        )

    def step(state: AccordionState, observation: Observation, draw: Draw) -> AccordionState:
        """A round without an update (nobody's was taken) decides nothing, and is no round of comparison."""
        del draw
        norms, critical, kept = observation.update_norms, state.critical, state.norms
        if norms is not None and state.round_number % interval == 0:
            critical, kept = regimes(kept, norms, threshold), norms
        if observation.learning_rate_falls:
            critical = (True,) * len(critical)
        return with_k(replace(state, round_number=state.round_number + 1, critical=critical, norms=kept))

    return Controller(
        summary="more entries while the norms of layers' updates change quickly, few while they do not",
        source="Agarwal et al., MLSys 2021 (arXiv 2010.16248)",
        init=init,
        step=step,
        state=AccordionState,
        measures_losses=False,
        measures_update=True,
        by_time=False,
        layer_k=layer_k,
    )
