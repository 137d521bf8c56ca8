"""When a run stops, with a checkpoint or without, and what it says of it."""

from __future__ import annotations

import pytest

from fedmpi.config import loads
from fedmpi.federation.messages import Action
from fedmpi.federation.stopping import Stopping


@pytest.mark.parametrize(
    ("stopping", "action"),
    [
        (Stopping(), Action.NONE),
        (Stopping(reason="done"), Action.STOP | Action.CHECKPOINT),
        (Stopping(preempted=True), Action.STOP | Action.CHECKPOINT),
        (Stopping(abandoned=True), Action.STOP),
        (Stopping(reason="done", preempted=True, abandoned=True), Action.STOP),
    ],
)
def test_it_stops_with_a_checkpoint_unless_it_was_abandoned(stopping: Stopping, action: Action) -> None:
    assert stopping.action == action


def test_a_signal_counts_from_then_on() -> None:
    stopping = Stopping()
    stopping.preempt_if(False)
    assert not stopping.preempted
    stopping.preempt_if(True)
    stopping.preempt_if(False)
    assert stopping.preempted


def test_the_first_limit_that_is_reached_is_the_reason() -> None:
    limits = [f"experiment.stop_at_{name}" for name in ("accuracy=0.5", "emulated_s=70", "host_s=3")]
    experiment, stopping = loads("", limits).experiment, Stopping()
    stopping.check_limits(experiment, 0.49, 69.5, 2.5)
    assert stopping.reason == ""
    stopping.check_limits(experiment, 0.4, 70.0, 3.0)
    assert stopping.reason == "emulated time reached 70 s"
    stopping.check_limits(experiment, 0.5, 0.0, 9.0)
    assert stopping.reason == "test accuracy reached 0.5"
    stopping.check_limits(experiment, float("nan"), 0.0, 3.0)
    assert stopping.reason == "host time reached 3 s"
