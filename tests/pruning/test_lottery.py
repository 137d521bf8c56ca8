"""Lottery tickets: which weights they start from."""

from collections.abc import Callable

import numpy as np
import pytest

from fedmpi.pruning import lottery
from fedmpi.pruning.interface import Needs, Observation
from fedmpi.pruning.mask import Mask


def no_draw() -> float:
    raise AssertionError("no draw is to be taken")


def test_a_ticket_is_the_masked_start() -> None:
    initial = np.array([1, -2, np.inf, 4], np.float32)
    ticket = lottery.ticket(Mask.of(np.array([True, False, False, True])), initial)
    assert ticket.tolist() == [1, 0, 0, 4]
    assert initial[1] == -2


def test_seeds_of_the_two_kinds() -> None:
    assert lottery.weights_seed("lottery_reinit", 7) == 7
    fresh = [lottery.weights_seed("lottery_random", seed) for seed in range(50)]
    assert len(set(fresh)) == 50
    assert not set(fresh) & set(range(50))
    assert fresh == [lottery.weights_seed("lottery_random", seed) for seed in range(50)]
    with pytest.raises(ValueError, match="allowed are lottery_reinit, lottery_random"):
        lottery.weights_seed("lottery", 7)


def test_the_mask_never_changes(setup_of: Callable) -> None:
    setup = setup_of([4])
    state = lottery.init(setup, Mask.of(np.array([True, False, False, True])))
    assert lottery.needs(setup, state, 0) is Needs.NOTHING
    assert lottery.step(setup, state, Observation(0), no_draw) == (state, None)
    again = lottery.LotteryState.from_dict(state.to_dict())
    assert again.mask.flags().tolist() == [True, False, False, True]
