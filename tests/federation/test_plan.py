import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.plan import (
    Action,
    RoundPlan,
    decode,
    draw_participants,
    encode,
    header_dtype,
    learning_rate_at,
)


@given(st.integers(1, 70), st.data())
def test_header_round_trip(clients: int, data: st.DataObject) -> None:
    chosen = data.draw(st.sets(st.integers(0, clients - 1)))
    plan = RoundPlan(
        round_index=data.draw(st.integers(-100, 10**6)),
        action=Action.CHECKPOINT | Action.EVALUATE,
        k=data.draw(st.integers(0, 2**40)),
        k_probe=3,
        learning_rate=0.1,
        start_s=data.draw(st.floats(0, 1e9)),
        participants=np.array(sorted(chosen), dtype=np.int64),
    )
    header = np.zeros(1, dtype=header_dtype(clients))
    encode(plan, header)
    back = decode(header)
    assert np.array_equal(back.participants, plan.participants)
    for field in ("round_index", "action", "k", "k_probe", "learning_rate", "start_s"):
        assert getattr(back, field) == getattr(plan, field)


def test_participants_are_a_reproducible_uniform_draw() -> None:
    assert np.array_equal(draw_participants(1, 0, np.arange(7), 0), np.arange(7))
    counts = np.zeros(20)
    for round_index in range(2000):
        chosen = draw_participants(3, round_index, np.arange(20), 5)
        assert np.array_equal(chosen, np.unique(chosen))
        assert len(chosen) == 5
        counts[chosen] += 1
    assert np.array_equal(
        draw_participants(3, 9, np.arange(20), 5), draw_participants(3, 9, np.arange(20), 5)
    )
    assert abs(counts - 500).max() < 5 * np.sqrt(2000 * 0.25 * 0.75)


def test_learning_rate_halves() -> None:
    assert learning_rate_at(0, 0.4, 10.0) == 0.4
    assert learning_rate_at(20, 0.4, 10.0) == pytest.approx(0.1)
    assert learning_rate_at(10**6, 0.4, float("inf")) == 0.4


def test_participants_are_drawn_among_the_available() -> None:
    available = np.array([2, 3, 5, 11, 17])
    drawn = [draw_participants(3, round_index, available, 3) for round_index in range(60)]
    assert all(len(chosen) == 3 and (np.diff(chosen) > 0).all() for chosen in drawn)
    assert set(np.concatenate(drawn).tolist()) == {2, 3, 5, 11, 17}
    for per_round in (0, 5, 9):
        np.testing.assert_array_equal(draw_participants(3, 0, available, per_round), available)
