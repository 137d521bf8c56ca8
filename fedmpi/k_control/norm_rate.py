"""The k whose entries bring the most norm per second.

PruneFL takes the mask of the largest risk reduction per second (Jiang et al., IEEE TNNLS 2022); this is the same rule
for k. After every round clients have accumulated gradients a; of those that send k entries the k largest of a bring the
norm ||top-k(a)||, in a round of T(k) seconds. The next k is the one of the largest ||top-k(a)||^p / T(k): no probe, no
search, nothing to tune. The norm is the root of the mean over clients, weighted by samples, of the squares that their
sketches state (``sparsification.magnitude_sketch``). A power p below 1 counts in that the small entries of a minibatch
gradient are mostly noise, and that error feedback sends later what is left now.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from fedmpi.k_control.interface import Controller, Draw, Magnitudes, Observation, Setup, State, clip

_START_FRACTION = 0.01
"""Before anything was seen, at most this part of all entries is sent: a dear first round buys nothing."""
_STEPS_PER_OCTAVE = 8
"""Resolution of the search between the counts of a sketch."""


@dataclass(frozen=True)
class NormRateState(State):
    """``log_k``: the logarithm of the smoothed k; ``seen``: whether a round has stated energies yet."""

    log_k: float
    seen: bool
    k_min: int
    k_max: int

    def __post_init__(self) -> None:
        if not 0.0 <= self.log_k <= log(2**63):
            raise ValueError(f"log_k is {self.log_k}")


def candidates(lowest: int, highest: int) -> NDArray[np.int64]:
    """The k that are compared, int64 rising: every eighth of an octave from ``lowest`` to ``highest``."""
    points = max(2, 1 + round(_STEPS_PER_OCTAVE * np.log2(highest / lowest))) if highest > lowest else 1
    return np.unique(np.rint(np.geomspace(lowest, highest, points)).astype(np.int64))


def energy_at(
    k: NDArray[np.int64], counts: NDArray[np.int64], energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The energies (n,) of ``k`` (n,) entries, on straight lines between the logarithms at ``counts`` (P,)."""
    with np.errstate(divide="ignore"):
        return np.exp(np.interp(np.log(k), np.log(counts), np.log(energies)))


def best_k(
    k: NDArray[np.int64],
    energies: NDArray[np.float64],
    round_s: NDArray[np.float64],
    power: float,
    most_s: float = np.inf,
) -> int:
    """The one of ``k`` (n,) with the largest energy^(power / 2) / seconds; the smallest of equals.

    Those whose rounds last longer than ``most_s`` are no choice, unless all do: then the quickest is.
    """
    if (round_s > most_s).all():
        return int(k[np.argmin(round_s)])
    rate = np.where(round_s <= most_s, energies ** (power / 2.0) / round_s, -1.0)
    return int(k[np.argmax(rate)])


def towards(state: NormRateState, k: int | None, keep: float) -> NormRateState:
    """The state that goes on with ``k``, but for the part ``keep`` of its own log k; itself where k is None."""
    if k is None:
        return state
    log_k = keep * state.log_k + (1.0 - keep) * log(k)
    return replace(state, k=clip(round(exp(log_k)), state.k_min, state.k_max), log_k=log_k, seen=True)


def norm_rate(power: float = 0.5, smoothing: float = 0.5) -> Controller:
    """k by norm^``power`` per second; ``smoothing`` of log k is kept from the round before (0: none).

    A round without an accepted update, or without any gradient, changes nothing; but k is halved where too few came
    in time. Raises ValueError unless 0 < power <= 2 and 0 <= smoothing < 1.
    """
    if not 0.0 < power <= 2.0:
        raise ValueError(f"power is {power}, allowed are numbers above 0 and at most 2")
    if not 0.0 <= smoothing < 1.0:
        raise ValueError(f"smoothing is {smoothing}, allowed are numbers from 0 on, below 1")

    def init(setup: Setup, draw: Draw) -> NormRateState:
        del draw
        k = min(setup.k_initial, max(setup.k_min, round(_START_FRACTION * setup.k_max)))
        return NormRateState(k=k, k_probe=0, log_k=log(k), seen=False, k_min=setup.k_min, k_max=setup.k_max)

    def choose(state: NormRateState, magnitudes: Magnitudes | None) -> int | None:
        """The best k by what a round showed; None where it showed nothing."""
        if magnitudes is None or not magnitudes.energies[-1] > 0.0:
            return None
        highest = min(state.k_max, int(magnitudes.counts[-1]), magnitudes.most_k)
        k = candidates(min(state.k_min, highest), highest)
        return best_k(
            k,
            energy_at(k, magnitudes.counts, magnitudes.energies),
            magnitudes.round_s(k),
            power,
            magnitudes.most_s,
        )

    def step(state: NormRateState, observation: Observation, draw: Draw) -> NormRateState:
        del draw
        if observation.too_late:
            k = max(state.k_min, state.k // 2)
            return replace(state, k=k, log_k=log(k))
        return towards(state, choose(state, observation.magnitudes), smoothing if state.seen else 0.0)

    def decide(state: NormRateState, magnitudes: Magnitudes) -> NormRateState:
        return towards(state, choose(state, magnitudes), keep=0.0)

    return Controller(
        summary="the k whose entries bring the most norm per second",
        init=init,
        step=step,
        state=NormRateState,
        decide=decide,
        measures_losses=False,
        measures_magnitudes=True,
    )
