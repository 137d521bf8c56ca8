"""What every pruning method has in common: how it starts, what it asks of a round, what it sees, what it keeps.

A method is a module with three pure functions,

    state = init(setup, mask)                                    # mask: of the first round
    wanted = needs(setup, state, round_index)                    # before a round
    state, change = step(setup, state, observation, draw)        # after it

over its own subclass of ``State``; ``change`` is None where the mask stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import Flag, auto
from typing import Any, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedmpi.config.schema import PruningConfig
from fedmpi.k_control.interface import Draw
from fedmpi.numerics.plain_values import check_plain
from fedmpi.pruning.mask import LayerSlice, Mask
from fedmpi.pruning.round_time import RoundTime

MASK = "mask"
"""The name of the mask's bits among the values of a state."""

EVERY = "every"
"""``Method.changes`` of a method that changes the mask every ``pruning.reconfigure_every`` rounds."""

_T = TypeVar("_T")


class Needs(Flag):
    """What a method must see of the round that is about to run, when it has ended."""

    NOTHING = 0
    WEIGHTS = auto()
    GRADIENT = auto()
    IMPORTANCE = auto()
    TIME = auto()
    LOSSES = auto()
    VOTES = auto()


@dataclass(frozen=True)
class Setup:
    """What does not change during a run: ``[pruning]``, the number of federated rounds, the model's layers."""

    config: PruningConfig
    rounds: int
    layers: Sequence[LayerSlice]

    @property
    def prunable(self) -> list[LayerSlice]:
        """The layers that can be pruned, in order: L of them."""
        return [layer for layer in self.layers if layer.prunable]

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The parameters of each prunable layer, int64 (L,)."""
        return np.array([layer.stop - layer.start for layer in self.prunable], dtype=np.int64)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """The shape of each prunable layer; of one without a shape its size."""
        return [tuple(getattr(layer, "shape", (layer.stop - layer.start,))) for layer in self.prunable]

    def density(self) -> float:
        """``pruning.target_density``, for the methods that cannot do without. ValueError when it is not set."""
        density = self.config.target_density
        if density is None:
            raise ValueError(
                f"pruning.target_density is not set; pruning.method = {self.config.method} needs the density to "
                f"prune to, above 0 and up to 1"
            )
        return density


@dataclass(frozen=True)
class Losses:
    """Losses of the probe samples at w(m - 1), at w(m), and at w(m) under the method's ``probe`` (NaN without one)."""

    previous: float
    current: float
    probe: float


@dataclass(frozen=True)
class Observation:
    """A finished round; beyond its number, what ``needs`` asked for.

    ``weights`` float32 (D,): after the round. ``gradient`` float32 (D,): the aggregated update over the learning rate.
    ``importance`` float32 or float64 (D,): the sum over clients and over the rounds since the last change; with
    ``Method.signed_gradient`` the sum over clients of their gradients times their samples.
    ``time``: that of a round with the mask under which it ran; with it comes ``change_s``, which gives the emulated
    seconds that importance and the download of a new mask add to a round. ``losses`` is None also where no update was
    taken, and so is ``votes``, int32 (D,): the samples, together, of those clients whose own masks kept a parameter.
    """

    round_index: int
    weights: NDArray[np.float32] | None = None
    gradient: NDArray[np.float32] | None = None
    importance: NDArray[np.floating] | None = None
    time: RoundTime | None = None
    change_s: Callable[[Mask], float] | None = None
    losses: Losses | None = None
    votes: NDArray[np.int32] | None = None


@dataclass(frozen=True)
class Change:
    """A mask, and plain numbers about how it was made; unless it ``is_new`` it is the present one, which stays."""

    mask: Mask
    facts: Mapping[str, float]
    is_new: bool = True


@dataclass(frozen=True)
class State:
    """What a method keeps between rounds. ``mask`` is that of the next round."""

    mask: Mask

    def to_dict(self) -> dict[str, Any]:
        """The state as uint8 bits of the mask, and plain numbers."""
        rest = {field.name: getattr(self, field.name) for field in fields(self) if field.name != MASK}
        return {MASK: self.mask.to_bits(), "dimension": self.mask.dimension, **rest}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``to_dict``. Raises ValueError for other keys or types than those of this state."""
        expected = {"dimension", *(field.name for field in fields(cls))}
        if set(values) != expected:
            raise ValueError(
                f"{cls.__module__} keeps {', '.join(sorted(expected))}, found {', '.join(sorted(values))}"
            )
        rest = {name: value for name, value in values.items() if name not in (MASK, "dimension")}
        check_plain(cls, rest)
        return cls(mask=Mask.from_bits(values[MASK], values["dimension"]), **rest)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A pruning method: pure functions over its own ``state``. ``summary``: one sentence; ``source``: the publication.

    ``init(setup, mask)`` gives the state before round 0, with the mask of that round;
    ``needs(setup, state, round_index)`` what is asked of a round before it runs;
    ``step(setup, state, observation, draw)`` the state after it and the change, None where the mask stays.

    ``importance``: clients gather the importance of parameters in every round, for when it is asked for.
    ``signed_gradient``: what they send is not that, but the gradient at the weights to which they trained in that
    round, on the minibatch of their last step, times their samples: dense, and without weight decay, momentum or a
    proximal term. It is one more backward pass, which is charged; they gather nothing in other rounds.
    ``gradient_entries(setup, mask, round_index)``: of these, each client sends only so many of the largest of pruned
    parameters of each prunable layer (L,), no more than there are; None: all of them. Ranks call it by themselves.
    ``most_returned(setup, mask, round_index)``: at most so many pruned parameters can become active after such a round;
    None: all. With ``pruning.importance`` "received" clients send no more.
    ``adapts_interval``: it knows ``pruning.interval`` "adaptive".
    ``probe``: for a method that asks for losses, the mask of the third, by the weights after the round; None for none.

    What it needs of the configuration: ``needs_target_density``; ``takes_ticket``, the folder of a finished run.
    ``changes``: when the mask changes, "every" (``reconfigure_every`` rounds), "never", or other moments in words.
    ``by_gradient``: it asks for the gradient. ``time_by_parameter``: it weighs parameters by the time that they take.
    ``starts_pruned``: it can go on with the mask of initial pruning. ``by_time``: it asks for the time of a round,
    so that masks would be others on other devices and links.

    ``first_mask(setup, weights)``: the mask of round 0, by the weights (D,) before it; None: that is full, or given.
    ``own_mask(setup, round_index, weights, gradient, mask)``, of a method that asks for VOTES: on every participant of
    such a round, before the last part of its training, the mask under which it trains on; ``weights`` and ``gradient``
    (D,), of pruned parameters too, are its own, and ``mask`` is that of the round.
    ``own_kept``, of the same arguments: those whose weights keep their values under that mask; all others that are
    active start from 0. None: all of ``mask`` keep them.
    """

    summary: str
    source: str = ""
    state: type[State] = State
    init: Callable[[Setup, Mask], State]
    needs: Callable[[Setup, Any, int], Needs]
    step: Callable[[Setup, Any, Observation, Draw], tuple[State, Change | None]]
    importance: bool = False
    signed_gradient: bool = False
    gradient_entries: Callable[[Setup, Mask, int], Sequence[int]] | None = None
    most_returned: Callable[[Setup, Mask, int], int] | None = None
    adapts_interval: bool = False
    needs_target_density: bool = False
    takes_ticket: bool = False
    changes: str = EVERY
    by_gradient: bool = False
    time_by_parameter: bool = False
    starts_pruned: bool = False
    by_time: bool = False
    probe: Callable[[Setup, Any, NDArray[np.float32]], Mask | None] | None = None
    first_mask: Callable[[Setup, NDArray[np.float32]], Mask] | None = None
    own_mask: Callable[[Setup, int, NDArray[np.float32], NDArray[np.float32], Mask], Mask] | None = None
    own_kept: Callable[[Setup, int, NDArray[np.float32], NDArray[np.float32], Mask], Mask] | None = None

    def __post_init__(self) -> None:
        if self.importance and self.own_mask is not None:
            raise ValueError(
                "a pruning method asks for importance or gives clients masks of their own, not both"
            )


def _start(setup: Setup, mask: Mask) -> State:
    return State(mask)


def _nothing(setup: Setup, state: State, round_index: int) -> Needs:
    return Needs.NOTHING


def _unchanged(
    setup: Setup, state: State, observation: Observation, draw: Draw
) -> tuple[State, Change | None]:
    return state, None


NONE = Method(summary="nothing is pruned", init=_start, needs=_nothing, step=_unchanged, changes="never")


def required(value: _T | None, name: str, method: str) -> _T:
    """``value``, which the round must have brought. Raises ValueError naming what is missing."""
    if value is None:
        raise ValueError(f"{method} did not get the {name} of the round, which it asked for")
    return value
