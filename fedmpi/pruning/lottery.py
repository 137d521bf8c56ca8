"""Lottery tickets: the mask of a finished run, trained again from the start (Frankle, Carbin, ICLR 2019).

``lottery_reinit`` starts from the original initial weights, ``lottery_random`` from new ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from fedmpi.k_control import Draw
from fedmpi.numerics.streams import Purpose, torch_seed
from fedmpi.pruning.interface import Change, Method, Needs, Observation, Setup, State
from fedmpi.pruning.mask import Mask

METHODS = ("lottery_reinit", "lottery_random")


@dataclass(frozen=True)
class LotteryState(State):
    """The mask of the finished run; it never changes."""


def weights_seed(method: str, seed: int, ticket_seed: int) -> int:
    """The seed from which a ticket's initial weights are made.

    ``lottery_reinit`` starts as the finished run did, from that one's ``ticket_seed``, whatever the ``seed`` of the
    experiment; ``lottery_random`` from one that follows from ``seed``, and is not that of any run with it. Raises
    ValueError for other methods.
    """
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, allowed are {', '.join(METHODS)}")
    return ticket_seed if method == "lottery_reinit" else torch_seed(seed, Purpose.PRUNING)


def init(setup: Setup, mask: Mask) -> LotteryState:
    """Start with ``mask``, that of the finished run."""
    return LotteryState(mask)


def needs(setup: Setup, state: LotteryState, round_index: int) -> Needs:
    """Nothing."""
    return Needs.NOTHING


def step(
    setup: Setup, state: LotteryState, observation: Observation, draw: Draw
) -> tuple[LotteryState, Change | None]:
    """The state as it is."""
    return state, None


def _method(summary: str) -> Method:
    source = "Frankle, Carbin, ICLR 2019"
    return Method(
        summary=summary,
        source=source,
        state=LotteryState,
        init=init,
        needs=needs,
        step=step,
        takes_ticket=True,
        changes="never",
    )


REINIT = _method("the mask of a finished run, with its initial weights")
RANDOM = _method("the mask of a finished run, with new initial weights")
