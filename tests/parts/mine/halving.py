"""A controller that halves k whenever the loss fell, down to k_min."""

from dataclasses import dataclass, replace

from fedmpi.k_control import Controller, State


@dataclass(frozen=True)
class Halving(State):
    k_min: int


def halving(factor: int = 2) -> Controller:
    def step(state, seen, draw):
        fell = seen.decrease is not None
        return replace(state, k=max(state.k_min, state.k // factor) if fell else state.k)

    return Controller(
        summary="k is divided whenever the loss fell",
        init=lambda setup, draw: Halving(setup.k_initial, 0, setup.k_min),
        step=step,
        state=Halving,
    )
