import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.federation.messages import (
    Action,
    RoundPlan,
    decode,
    encode,
    header_dtype,
)
from fedmpi.pruning import Needs


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
        needs=Needs(data.draw(st.integers(0, 31))),
        layer_k=tuple(data.draw(st.lists(st.integers(0, 2**40), max_size=3))),
    )
    header = np.zeros(1, dtype=header_dtype(clients, len(plan.layer_k)))
    encode(plan, header)
    back = decode(header)
    assert np.array_equal(back.participants, plan.participants)
    for field in ("round_index", "action", "k", "k_probe", "learning_rate", "start_s", "needs", "layer_k"):
        assert getattr(back, field) == getattr(plan, field)


@pytest.mark.parametrize(
    ("action", "needs", "k_probe", "measures", "second"),
    [
        (Action.EVALUATE, Needs.WEIGHTS | Needs.TIME, 0, False, False),
        (Action.MEASURE, Needs.NOTHING, 0, True, False),
        (Action.MEASURE, Needs.NOTHING, 1, True, True),
        (Action.NONE, Needs.LOSSES, 0, True, True),
    ],
)
def test_losses_are_measured_for_k_or_for_a_mask(
    action: Action, needs: Needs, k_probe: int, measures: bool, second: bool
) -> None:
    plan = RoundPlan(7, action, 10, k_probe, 0.1, 2.5, np.array([1, 4]), needs)
    assert plan.measures_losses == measures
    assert (plan.start.round_index, plan.start.start_s, plan.start.tries_second_model) == (7, 2.5, second)
    assert plan.start.participants is plan.participants


def test_a_header_has_a_bit_for_each_client() -> None:
    assert header_dtype(8).itemsize == 49
    assert header_dtype(9).itemsize == 50
    assert header_dtype(9, 3).itemsize == 50 + 3 * 8
