"""Lottery tickets: which weights they start from."""

from collections.abc import Callable

import numpy as np
import pytest

from fedmpi.pruning import lottery
from fedmpi.pruning.interface import Needs, Observation
from fedmpi.pruning.mask import Mask


def no_draw() -> float:
    raise AssertionError("no draw is to be taken")


def test_seeds_of_the_two_kinds() -> None:
    assert lottery.weights_seed("lottery_reinit", 7, 5) == 5
    fresh = [lottery.weights_seed("lottery_random", seed, 5) for seed in range(50)]
    assert len(set(fresh)) == 50
    assert not set(fresh) & set(range(50))
    assert fresh == [lottery.weights_seed("lottery_random", seed, 6) for seed in range(50)]
    with pytest.raises(ValueError, match="allowed are lottery_reinit, lottery_random"):
        lottery.weights_seed("lottery", 7, 7)


def test_the_mask_never_changes(setup_of: Callable) -> None:
    setup = setup_of([4])
    state = lottery.init(setup, Mask.of(np.array([True, False, False, True])))
    assert lottery.needs(setup, state, 0) is Needs.NOTHING
    assert lottery.step(setup, state, Observation(0), no_draw) == (state, None)
    again = lottery.LotteryState.from_dict(state.to_dict())
    assert again.mask.flags().tolist() == [True, False, False, True]
