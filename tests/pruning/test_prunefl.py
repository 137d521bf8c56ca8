"""When PruneFL reconfigures and by how much."""

import json
from collections.abc import Callable
from dataclasses import replace
from math import ceil, inf

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config.schema import PruningConfig
from fedmpi.pruning import prunefl
from fedmpi.pruning.interface import Needs, Observation
from fedmpi.pruning.mask import Mask
from fedmpi.pruning.reconfiguration import reconfigure
from fedmpi.pruning.round_time import RoundTime

TIME = RoundTime(0.5, np.array([0.1]))


def no_draw() -> float:
    raise AssertionError("no draw is to be taken")


def observation(round_index: int, size: int = 40) -> Observation:
    rng = np.random.default_rng(round_index)
    weights = rng.standard_normal(size).astype(np.float32)
    return Observation(round_index, weights, importance=rng.random(size).astype(np.float32), time=TIME)


def test_the_published_fraction_halves_every_ten_thousand_rounds() -> None:
    config = PruningConfig()
    fractions = [prunefl.decrease_fraction(config, index) for index in (0, 10_000, 20_000)]
    assert fractions == pytest.approx([0.3, 0.15, 0.075])
    assert prunefl.decrease_fraction(PruningConfig(half_life_rounds=inf), 10_000) == 0.3


def test_the_limit_moves_to_the_target_on_a_line() -> None:
    config = PruningConfig(max_density=0.8, target_density=0.2)
    limits = [prunefl.density_limit(config, index, 100) for index in (0, 49, 99, 500)]
    assert limits == pytest.approx([0.794, 0.5, 0.2, 0.2])
    assert limits[2] == 0.2
    assert prunefl.density_limit(PruningConfig(max_density=0.8), 70, 100) == 0.8


def test_it_reconfigures_every_few_rounds(setup_of: Callable) -> None:
    setup = setup_of([40], reconfigure_every=3)
    state = prunefl.init(setup, Mask(40))
    changed = []
    for index in range(9):
        due = Needs.WEIGHTS | Needs.IMPORTANCE | Needs.TIME if index % 3 == 2 else Needs.NOTHING
        assert prunefl.needs(setup, state, index) is due
        before = state.mask
        state, change = prunefl.step(setup, state, observation(index), no_draw)
        if change is None:
            assert state.mask is before
            continue
        changed.append(index)
        seen = observation(index)
        f = 0.3 * 0.5 ** (index / 10_000)
        expected = reconfigure(seen.weights, seen.importance, before, setup.layers, [0.1], 0.5, f)
        np.testing.assert_array_equal(state.mask.flags(), expected.mask.flags())
        assert change.mask is state.mask
        assert change.facts["active_before"] == before.count
        assert change.facts["active"] == before.count - change.facts["dropped"] + change.facts["put_back"]
        assert change.facts["round_s"] == pytest.approx(TIME.seconds([state.mask.count]))
    assert changed == [2, 5, 8]


def test_the_density_stays_below_the_moving_limit(setup_of: Callable) -> None:
    setup = setup_of([40], rounds=10, reconfigure_every=1, target_density=0.25)
    state = prunefl.init(setup, Mask(40))
    for index in range(10):
        state, _ = prunefl.step(setup, state, observation(index), no_draw)
        assert state.mask.density(setup.layers) <= prunefl.density_limit(setup.config, index, 10)
    assert state.mask.count <= 10


def test_a_state_continues_from_its_dict(setup_of: Callable) -> None:
    setup = setup_of([40], reconfigure_every=2)
    straight = broken = prunefl.init(setup, Mask(40))
    for index in range(6):
        straight, _ = prunefl.step(setup, straight, observation(index), no_draw)
        values = broken.to_dict()
        numbers = {name: value for name, value in values.items() if not isinstance(value, np.ndarray)}
        arrays = {name: value.copy() for name, value in values.items() if isinstance(value, np.ndarray)}
        broken = prunefl.PruneFLState.from_dict({**json.loads(json.dumps(numbers)), **arrays})
        broken, _ = prunefl.step(setup, broken, observation(index), no_draw)
    assert broken.rounds_since == straight.rounds_since == 0
    np.testing.assert_array_equal(broken.mask.flags(), straight.mask.flags())


def test_a_state_of_other_keys_or_types_is_refused(setup_of: Callable) -> None:
    values = prunefl.init(setup_of([4]), Mask(4)).to_dict()
    with pytest.raises(ValueError, match="rounds_since is '0', expected is int"):
        prunefl.PruneFLState.from_dict({**values, "rounds_since": "0"})
    del values["rounds_since"]
    with pytest.raises(
        ValueError,
        match="keeps dimension, interval_rounds, mask, rounds_since, found dim",
    ):
        prunefl.PruneFLState.from_dict(values)


@given(
    seed=st.integers(0, 2**32 - 1),
    density=st.floats(0.02, 1.0),
    fraction=st.floats(0.01, 1.0),
    start=st.floats(0.0, 1.0),
)
def test_no_more_comes_back_than_is_announced(
    setup_of: Callable, seed: int, density: float, fraction: float, start: float
) -> None:
    setup = setup_of([40, -3, 60], reconfigure_every=1, max_density=density, max_decrease_fraction=fraction)
    rng = np.random.default_rng(seed)
    flags = rng.random(103) < start
    flags[40:43] = True
    before = Mask.of(flags)
    weights = rng.integers(-3, 4, 103).astype(np.float32)
    seen = Observation(
        4, weights, importance=rng.random(103), time=RoundTime(0.5, np.array([0.1, 0.0])), change_s=None
    )
    after = prunefl.step(setup, prunefl.init(setup, before), seen, no_draw)[0].mask
    returned = int(np.count_nonzero(after.flags() & ~before.flags()))
    assert returned <= prunefl.most_returned(setup, before, 4)


def test_a_mask_stays_until_its_making_is_paid_back(setup_of: Callable) -> None:
    setup = setup_of([40], reconfigure_every=2, interval="adaptive")
    state = prunefl.PruneFLState(Mask(40), rounds_since=1, interval_rounds=2)
    rng = np.random.default_rng(3)
    weights, importance = rng.standard_normal(40).astype(np.float32), rng.random(40) ** 4
    costs: list[Mask] = []

    def change_s(mask: Mask) -> float:
        costs.append(mask)
        return 2.0

    seen = Observation(7, weights, importance=importance, time=TIME, change_s=change_s)
    state, change = prunefl.step(setup, state, seen, no_draw)
    assert change is not None
    assert costs == [change.mask]
    facts, kept = change.facts, change.mask.flags()
    before, after = importance.sum() / TIME.seconds([40]), importance[kept].sum() / TIME.seconds([kept.sum()])
    assert facts["gain"] == pytest.approx(after / before - 1)
    assert facts["gain"] > 0
    assert facts["cost_s"] == 2.0
    assert facts["payback_rounds"] == pytest.approx(2.0 / (facts["gain"] * TIME.seconds([kept.sum()])))
    assert facts["interval_rounds"] == state.interval_rounds == ceil(facts["payback_rounds"])
    assert 2 < state.interval_rounds < 32
    for index in range(8, 8 + state.interval_rounds - 1):
        assert prunefl.needs(setup, state, index) is Needs.NOTHING
        state, change = prunefl.step(setup, state, Observation(index), no_draw)
        assert change is None
    assert prunefl.needs(setup, state, 99) is not Needs.NOTHING


@pytest.mark.parametrize("interval", ["fixed", "adaptive"])
@pytest.mark.parametrize("joint", [False, True])
def test_decided_jointly_a_mask_is_taken_where_it_gains_on_the_round_as_it_is(
    setup_of: Callable, joint: bool, interval: str
) -> None:
    """Half of the parameters are of no importance: without them the same is learned in 2.5 s instead of 4.5."""
    half = {"max_decrease_fraction": 0.5, "half_life_rounds": inf}
    setup = setup_of([40], reconfigure_every=2, interval=interval, joint=joint, **half)
    weights, importance = np.arange(1, 41, dtype=np.float32), np.r_[np.zeros(20), np.ones(20)]
    dense = TIME.seconds([20]) - 0.001  # dense kernels make a round of all shorter than that of the half
    for present_s, gains in ((TIME.seconds([40]), True), (dense, False)):
        time = RoundTime(TIME.constant_s, TIME.seconds_per_parameter, present_s)
        seen = Observation(7, weights, importance=importance, time=time, change_s=lambda mask: 2.0)
        full = prunefl.PruneFLState(Mask(40), rounds_since=1, interval_rounds=2)
        state, change = prunefl.step(setup, full, seen, no_draw)
        assert change is not None
        taken = gains or not joint
        assert change.is_new is taken
        assert change.mask is state.mask
        assert state.mask.count == (20 if taken else 40)
        assert change.facts["active"] == 20
        by = present_s if joint else TIME.seconds([40])
        if joint or interval == "adaptive":
            assert change.facts["gain"] == pytest.approx(by / TIME.seconds([20]) - 1)
        assert state.rounds_since == 0
        if interval == "fixed" or (gains and joint):
            assert state.interval_rounds == 2
        elif joint:
            assert state.interval_rounds == 4


@pytest.mark.parametrize("limit", [{"max_density": 0.5}, {"target_density": 0.4}])
def test_decided_jointly_a_mask_that_loses_is_taken_where_the_present_one_is_denser_than_allowed(
    setup_of: Callable, limit: dict[str, float]
) -> None:
    """All are of importance and take no time; after half of the rounds 0.7 of them may be active by the target."""
    setup = setup_of([40], reconfigure_every=2, joint=True, interval="adaptive", **limit)
    weights, importance = np.arange(1, 41, dtype=np.float32), np.ones(40)
    half = setup.rounds // 2 - 1
    seen = Observation(
        half, weights, importance=importance, time=RoundTime(2.0, np.zeros(1), 2.0), change_s=lambda mask: 1.0
    )
    state, change = prunefl.step(setup, prunefl.PruneFLState(Mask(40), 1, 2), seen, no_draw)
    assert change is not None
    assert change.is_new
    assert change.facts["gain"] < 0.0
    allowed = 20 if "max_density" in limit else 28
    assert change.mask is state.mask
    assert state.mask.count == allowed
    state, change = prunefl.step(setup, replace(state, rounds_since=31, interval_rounds=32), seen, no_draw)
    assert change is not None
    assert not change.is_new
    assert state.mask.count == allowed


def test_an_adaptive_interval_ends_with_the_last_round_where_a_density_is_to_be_reached(
    setup_of: Callable,
) -> None:
    """What never pays back would stay for 32 rounds; of 100 in all 20 or 1 are left."""
    weights, importance = np.arange(1, 41, dtype=np.float32), np.ones(40)
    time = RoundTime(2.0, np.zeros(1), 2.0)
    for target, index, interval in ((0.5, 79, 20), (0.5, 98, 2), (0.5, 40, 32), (None, 79, 32)):
        setup = setup_of([40], reconfigure_every=2, interval="adaptive", target_density=target)
        assert setup.rounds == 100
        seen = Observation(index, weights, importance=importance, time=time, change_s=lambda mask: 1.0)
        state, change = prunefl.step(setup, prunefl.PruneFLState(Mask(40), 1, 2), seen, no_draw)
        assert change is not None
        assert change.facts["interval_rounds"] == state.interval_rounds == interval


def test_a_gain_of_nothing_but_rounding_takes_no_mask(setup_of: Callable) -> None:
    """A round takes as long with half of the parameters, and as much is of importance in either order of summing."""
    setup = setup_of([40], reconfigure_every=2, joint=True, max_decrease_fraction=0.5)
    weights, importance = np.arange(1, 41, dtype=np.float32), np.r_[np.zeros(20), np.full(20, 0.1)]
    for part in (1.0, 1.0 + 2**-50, 1.0 + 1e-6):
        time = RoundTime(2.0, np.zeros(1), 2.0 * part)
        seen = Observation(7, weights, importance=importance, time=time)
        full = prunefl.PruneFLState(Mask(40), rounds_since=1, interval_rounds=2)
        change = prunefl.step(setup, full, seen, no_draw)[1]
        assert change is not None
        assert change.facts["gain"] == pytest.approx(part - 1.0, rel=1e-3, abs=1e-14)
        assert change.is_new is (part > 1.0 + 1e-9)


def test_where_nothing_is_of_importance_the_mask_stays_for_another_interval(setup_of: Callable) -> None:
    setup = setup_of([40], reconfigure_every=2)
    state = prunefl.PruneFLState(Mask(40), rounds_since=1, interval_rounds=5)
    due = prunefl.PruneFLState(Mask(40), rounds_since=4, interval_rounds=5)
    nobodys = Observation(**{**observation(0).__dict__, "importance": np.zeros(40)})
    assert prunefl.step(setup, due, nobodys, no_draw) == (prunefl.PruneFLState(due.mask, 0, 5), None)
    assert prunefl.step(setup, state, nobodys, no_draw)[0].rounds_since == 2


@pytest.mark.parametrize("missing", ["weights", "importance", "time"])
def test_what_the_round_did_not_bring_is_named(setup_of: Callable, missing: str) -> None:
    setup = setup_of([40], reconfigure_every=1)
    seen = Observation(**{**observation(0).__dict__, missing: None})
    with pytest.raises(ValueError, match=f"prunefl did not get the {missing}"):
        prunefl.step(setup, prunefl.init(setup, Mask(40)), seen, no_draw)
