"""Participants that are late, vanish or leave: what becomes of them, what they are charged, and what they then have.

A message of 112 bytes up takes 0.112 s, 56 bytes of a model down 0.056 s and training a second, unless slowed down.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import Any

import numpy as np
import pytest

from fedmpi.emulation.availability import Availability, AvailabilityModel
from fedmpi.emulation.availability import Setup as AvailabilitySetup
from fedmpi.federation.exchange import Exchanged, Roster
from fedmpi.trace import Status

SLOW_UPLINKS = "emulation.network.uplink_mbit_per_s=[0.008, 0.004, 0.002, 0.001]"
"""112 bytes take 0.112, 0.224, 0.448 and 0.896 s."""

SIZES = np.array([10, 20, 30, 40])
OK, LATE, DROPPED, REJECTED = (int(status) for status in list(Status)[:4])


def judged(given: Any, **columns: Any) -> Any:
    return given.server.judge(given.server.plan(), given.records(**columns))


def statuses(verdict: np.ndarray) -> list[int]:
    return verdict["status"].tolist()


def leaving(server: Any, moments: list[float]) -> None:
    """Everybody is available, and leaves at these emulated moments."""
    model = AvailabilityModel(
        summary="They leave.",
        available=lambda setup, round_index, start_s: np.ones(4, bool),
        leaves_s=lambda setup, round_index, start_s: np.maximum(np.array(moments), start_s),
    )
    section = server.config.emulation.availability
    server.accountant.fleet = replace(
        server.accountant.fleet, availability=Availability(model, AvailabilitySetup(section, 4, 0))
    )


def test_who_misses_the_deadline_is_late_and_charged_up_to_there(world: Callable) -> None:
    given = world(SLOW_UPLINKS, "federation.deadline_s=1.3")
    round_ = judged(given)
    assert statuses(round_.verdict) == [OK, OK, LATE, LATE]
    download_s = round_.charges.download_s[0]
    np.testing.assert_allclose(round_.charges.upload_s[:2], [0.112, 0.224])
    np.testing.assert_allclose(round_.charges.upload_s[2:], 0.3 - download_s)
    np.testing.assert_allclose(round_.verdict["deadline_s"][2:], 1.3)
    assert round_.charges.bytes_up.tolist() == [
        112,
        112,
        int(250 * (0.3 - download_s)),
        int(125 * (0.3 - download_s)),
    ]
    assert (round_.charges.duration_s, round_.max_abs) == (1.3, 4.0)
    assert round_.verdict["trained"].all()
    assert round_.staying.tolist() == [True, True, False, False]


def test_what_was_downloaded_counts_as_delivered_only_if_it_was(world: Callable) -> None:
    down = "emulation.network.downlink_mbit_per_s=[0.008, 0.004, 0.002, 0.0001]"
    given = world(down, "federation.deadline_s=1.3")
    round_ = judged(given)
    assert round_.charges.downloaded.tolist() == [True, True, True, False]
    assert given.server.downlink.client_version.tolist() == [0, 0, 0, -1]
    assert round_.charges.bytes_down[3] == int(12.5 * 1.3)
    assert not round_.verdict["trained"][3]


def test_the_first_arrivals_count(world: Callable) -> None:
    given = world(SLOW_UPLINKS, "clients.per_round=2", "federation.over_selection=1")
    plan = given.server.plan()
    assert plan.participants.tolist() == [0, 1, 2, 3]
    round_ = given.server.judge(plan, given.records())
    assert statuses(round_.verdict) == [OK, OK, LATE, LATE]
    np.testing.assert_allclose(round_.charges.duration_s, round_.charges.download_s[1] + 1.224)
    assert round_.charges.wait_s[1] == pytest.approx(0.0, abs=1e-12)


def test_one_more_of_three_is_asked(world: Callable) -> None:
    given = world("clients.per_round=2", "federation.over_selection=0.1")
    assert len(given.server.plan().participants) == 3


def test_who_leaves_is_dropped_at_that_moment(world: Callable) -> None:
    given = world()
    given.server.now_s = 50.0
    leaving(given.server, [inf, 50.5, 51.1, 50.0])
    round_ = judged(given)
    assert statuses(round_.verdict) == [OK, DROPPED, DROPPED, DROPPED]
    np.testing.assert_allclose(round_.charges.work_s[1:], [0.5, 1.1, 0.0])
    assert round_.verdict["trained"].tolist() == [True, False, True, False]
    assert round_.charges.downloaded.tolist() == [True, True, True, False]


def test_who_vanishes_is_drawn_for_each_round(world: Callable) -> None:
    given = world("experiment.rounds=40", "emulation.availability.dropout_probability=0.5")
    seen = []
    for index in range(30):
        given.server.round_index = index
        round_ = judged(given)
        assert set(statuses(round_.verdict)) <= {OK, DROPPED}
        in_time = round_.verdict["status"] == OK
        assert (round_.charges.work_s[~in_time] < 1.2).all()
        assert (round_.charges.work_s[in_time] > 1.1).all()
        seen.append(statuses(round_.verdict))
    assert 35 < np.count_nonzero(np.array(seen) == DROPPED) < 85
    assert len({tuple(row) for row in seen}) > 5


def test_too_few_updates_are_none(world: Callable) -> None:
    given = world(SLOW_UPLINKS, "federation.deadline_s=1.3", "federation.min_updates=3")
    round_ = judged(given)
    assert statuses(round_.verdict) == [REJECTED, REJECTED, LATE, LATE]
    assert round_.abandoned
    assert round_.max_abs == 0.0
    enough = world(SLOW_UPLINKS, "federation.deadline_s=1.3", "federation.min_updates=2")
    assert not judged(enough).abandoned
    assert judged(world("federation.min_updates=4"), max_abs=[1.0, np.nan, 2.0, 3.0]).abandoned
    assert not judged(world("federation.min_updates=4")).abandoned


@pytest.mark.parametrize(
    ("overrides", "columns", "too_late"),
    [
        ([SLOW_UPLINKS, "federation.deadline_s=1.1"], {}, True),
        ([SLOW_UPLINKS, "federation.deadline_s=1.3", "federation.min_updates=3"], {}, True),
        ([SLOW_UPLINKS, "federation.deadline_s=1.3"], {}, False),
        ([SLOW_UPLINKS, "federation.deadline_s=1.3"], {"max_abs": np.nan}, False),
        (["federation.min_updates=4"], {"max_abs": np.nan}, False),
    ],
)
def test_a_controller_is_told_that_too_few_came_in_time(
    world: Callable, overrides: list[str], columns: dict[str, Any], too_late: bool
) -> None:
    """And not where enough came, all of them rejected."""
    given = world(*overrides)
    plan = given.server.plan()
    round_ = given.server.judge(plan, given.records(**columns))
    assert round_.too_late is too_late
    roster = Roster(
        plan.participants, round_.accepted, SIZES, round_.verdict["message_bytes"], 0.0, [], round_.accepted
    )
    given.server.close(plan, round_, roster, Exchanged(None, 0, 0, np.zeros(4, np.int64), 0, 0), None)
    assert given.costs.seen[0].too_late is too_late


def test_within_a_period_who_stopped_stays_out(world: Callable) -> None:
    """Only the last round of a period sends anything, and only then too few updates matter."""
    given = world("federation.min_updates=4")
    given.exchange.period = 3
    server = given.server
    leaving(server, [inf, inf, 1.5, inf])
    kept = []
    for index in range(3):
        server.round_index = index
        plan = server.plan()
        kept.append(plan.participants.tolist())
        round_ = server.judge(plan, given.records()[::-1][plan.participants])
        server.now_s = round_.charges.end_s
    assert kept == [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 3]]
    assert round_.abandoned
    leaving(server, [inf] * 4)
    server.round_index = 3
    assert server.plan().participants.tolist() == [0, 1, 2, 3]


def test_who_stays_within_a_period_is_part_of_a_checkpoint(world: Callable) -> None:
    given, again = world(), world()
    for each in (given, again):
        each.exchange.period = 3
    leaving(given.server, [inf, 0.5, inf, inf])
    judged(given)
    given.server.round_index = 1
    arrays, numbers = given.server.state()
    again.server.restore(arrays, numbers)
    assert again.server.plan().participants.tolist() == [0, 2, 3]
    given.server.round_index = 3
    assert "staying" not in given.server.state()[0]


def test_losses_are_asked_of_those_in_time(world: Callable) -> None:
    given = world(SLOW_UPLINKS, "federation.deadline_s=1.3", measures=True)
    server = given.server
    plan = server.plan()
    round_ = server.judge(plan, given.records())
    exchanged = Exchanged(None, 3, 0, np.zeros(4, np.int64), 212, 0)
    due = server.prices.losses_due_s(plan, round_, exchanged, None)
    feedback = server.prices._feedback(plan, round_, 212, None)
    whole = server.accountant.close(plan.start, round_.charges, 3, feedback, round_.staying)
    assert (due[2:] == whole.end_s).all()
    assert due[0] == pytest.approx(whole.end_s)  # a sample takes it twice as long
    assert due[1] < due[0]
    assert (whole.bytes_down[2:] == round_.charges.bytes_down[2:]).all()
    assert (whole.bytes_down[:2] == round_.charges.bytes_down[:2] + 212).all()
    np.testing.assert_allclose(whole.work_s[2:], 1.3)
    assert whole.duration_s > 1.3
