"""What every controller of k has in common: how it starts, what it sees, what it keeps."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from math import floor, inf
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedmpi.numerics.plain_values import check_plain

Draw = Callable[[], float]
"""The source of uniform numbers in [0, 1), such as ``generator(...).random``."""

_MOST_K = 2**31 - 1


@dataclass(frozen=True)
class Setup:
    """The bounds of k, its start, and the horizon T in rounds that the bandits are tuned for.

    ``arms`` is the number of arms of exp3 on a geometric grid; 0 makes every integer an arm. ``layer_sizes`` are the
    parameters of each tensor of the model, ``layer_compressed`` which of them have more than one dimension (empty:
    unknown).
    Raises ValueError unless 1 <= k_min <= k_initial <= k_max, horizon_rounds >= 1 and arms >= 0.
    """

    k_min: int
    k_max: int
    k_initial: int
    horizon_rounds: int = 5780
    arms: int = 0
    layer_sizes: tuple[int, ...] = ()
    layer_compressed: tuple[bool, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.k_min <= self.k_initial <= self.k_max:
            raise ValueError(
                f"k starts at {self.k_initial}, allowed are k_min = {self.k_min} (at least 1) "
                f"to k_max = {self.k_max}"
            )
        if self.horizon_rounds < 1 or self.arms < 0:
            raise ValueError(
                f"horizon_rounds is {self.horizon_rounds}, allowed from 1 on; arms is {self.arms}, from 0 on"
            )

    @classmethod
    def for_dimension(
        cls,
        dimension: int,
        k_initial_fraction: float = 0.5,
        k_min_fraction: float = 0.002,
        horizon_rounds: int = 5780,
        arms: int = 0,
    ) -> Self:
        """Bounds as fractions of D parameters, up to D; the defaults are the published experiments'."""
        k_min = max(1, round(k_min_fraction * dimension))
        k_initial = max(k_min, round(k_initial_fraction * dimension))
        return cls(k_min, dimension, k_initial, horizon_rounds, arms)


@dataclass(frozen=True, eq=False)
class Magnitudes:
    """What k entries are worth, and what they cost, for any k.

    ``energies`` float64 (P,), never falling: the mean over accepted clients, weighted by samples, of the sums of
    squares of the ``counts`` (P,) largest of what each has accumulated; counts are int64, rising to all that travel.
    ``round_s``: the seconds (n,) of a round with each of ``k`` (n,). ``most_s``: when a round is ended at the latest.
    ``most_k``: more entries than that cannot travel, as under a mask that leaves fewer.
    """

    counts: NDArray[np.int64]
    energies: NDArray[np.float64]
    round_s: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    most_s: float = inf
    most_k: int = _MOST_K


@dataclass(frozen=True)
class Observation:
    """What one round showed: its cost (s) at k, and the losses that show what it was worth.

    ``cost_probe`` (s) is the estimate of ``probe.estimated_cost`` for k_probe, None without one.
    ``loss_prev`` and ``loss`` are those at w(m - 1) and w(m) over the probe samples, None where they were not
    measured. ``update_norms``: the L2 norm of each tensor's part of w(m - 1) - w(m), None unless the controller
    ``measures_update``, and where no update was taken. ``learning_rate_falls``: it is lower in the next round.
    ``magnitudes``: None unless the controller ``measures_magnitudes``, and where no update was taken. ``too_late``:
    none was taken, as fewer than are needed came in time.
    """

    cost: float
    cost_probe: float | None = None
    loss_prev: float | None = None
    loss: float | None = None
    update_norms: tuple[float, ...] | None = None
    learning_rate_falls: bool = False
    magnitudes: Magnitudes | None = None
    too_late: bool = False

    @property
    def decrease(self) -> float | None:
        """How much the loss fell, or None where it did not, or was not measured."""
        if self.loss_prev is None or self.loss is None or not self.loss_prev > self.loss:
            return None
        return self.loss_prev - self.loss


@dataclass(frozen=True)
class State:
    """What a controller keeps between rounds: plain numbers and tuples of them.

    ``k`` is that of the next round, ``k_probe`` < k the one to try on paper beside it, 0 for none.
    """

    k: int
    k_probe: int

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain numbers and lists, fit for JSON."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``. Raises ValueError for other keys, types or k than this state can have."""
        expected = {field.name for field in fields(cls)}
        if set(values) != expected:
            raise ValueError(
                f"{cls.__module__} keeps {', '.join(sorted(expected))}, found {', '.join(sorted(values))}"
            )
        check_plain(cls, values)
        plain: dict[str, Any] = {n: tuple(v) if isinstance(v, list) else v for n, v in values.items()}
        state = cls(**plain)
        if not 0 <= state.k_probe < state.k:
            raise ValueError(f"k is {state.k} and k_probe {state.k_probe}, expected is 0 <= k_probe < k")
        if {"k_min", "k_max"} <= expected and not 1 <= values["k_min"] <= values["k_max"]:
            raise ValueError(f"k_min is {values['k_min']} and k_max {values['k_max']}")
        return state


@dataclass(frozen=True, kw_only=True)
class Controller:
    """A controller of k: two pure functions, and the type of the state that they pass on.

    ``init(setup, draw)`` gives the state of round 0, ``step(state, observation, draw)`` that of the next round after
    every round; ``state.k`` and ``state.k_probe`` are what is used. A state is numbers and tuples of them
    (``to_dict``), so that it goes into checkpoints. ``summary``: one sentence; ``source``: the publication.
    ``measures_losses``: whether participants are asked for losses in every round. ``by_time``: whether k depends on
    what rounds cost (``Observation.cost``, ``cost_probe``), so that it would be another one on other devices and links.
    ``measures_update``: whether it sees the norms of the model's change. ``measures_magnitudes``: whether clients add a
    sketch of what they have accumulated to their messages, which only goes with methods that send the largest entries.
    ``layer_k(state)``: how many entries each layer of ``Setup.layer_sizes`` sends, k in all; under a mask fewer where
    fewer are active. Methods that send the largest entries keep to it, others see it in their ``Choice``. None: the
    entries may be of any layer.
    ``decide(state, magnitudes)``: the state that goes on at once with the best k by these alone, for a mask that is
    decided together with k; None where the controller cannot.
    """

    summary: str
    source: str = ""
    init: Callable[[Setup, Draw], State]
    step: Callable[[Any, Observation, Draw], State]
    state: type[State] = State
    measures_losses: bool = True
    by_time: bool = True
    measures_update: bool = False
    measures_magnitudes: bool = False
    layer_k: Callable[[Any], tuple[int, ...]] | None = None
    decide: Callable[[Any, Magnitudes], State] | None = None


def round_stochastically(number: float, draw: Draw) -> int:
    """``number`` rounded up with the probability of its fractional part; always takes one draw."""
    below = floor(number)
    return below + (draw() < number - below)


def clip(number: int, low: int, high: int) -> int:
    """The number of [low, high] nearest to ``number``."""
    return min(max(number, low), high)
