"""A pruning method that drops every n-th weight once, after a round of its choice."""

from dataclasses import dataclass

import numpy as np

from fedmpi.pruning import Change, Mask, Method, Needs, State


@dataclass(frozen=True)
class Stripes(State):
    done: bool


def stripes(after_round: int = 1, every: int = 3) -> Method:
    def needs(setup, state, round_index):
        due = not state.done and round_index >= after_round
        return Needs.WEIGHTS if due else Needs.NOTHING

    def step(setup, state, seen, draw):
        if needs(setup, state, seen.round_index) is Needs.NOTHING:
            return state, None
        flags = np.array(state.mask.flags())
        for layer in setup.prunable:
            flags[layer.start : layer.stop : every] = False
        mask = Mask.of(flags)
        return Stripes(mask, done=True), Change(mask, {"active": mask.count})

    return Method(
        summary="every n-th weight is dropped",
        state=Stripes,
        init=lambda setup, mask: Stripes(mask, done=False),
        needs=needs,
        step=step,
        changes=f"after round {after_round}",
    )
