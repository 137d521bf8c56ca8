"""Clocks. Times are read from a counter that the test moves: no test waits or asserts real time."""

from math import inf, isnan

import numpy as np
import pytest

from fedmpi.emulation import clock as clock_module
from fedmpi.emulation.clock import (
    SPIN_S,
    RealtimeClock,
    VirtualClock,
    make_clock,
    tolerated_overrun_s,
)
from fedmpi.emulation.errors import EmulationError


class FakeHost:
    """Host time that passes by sleeping, by each look at it, and otherwise when told to."""

    def __init__(self):
        self.seconds = 100.0
        self.slack_s = 60e-6
        self.slept = []

    def perf_counter(self):
        self.seconds += 1e-6
        return self.seconds

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.seconds += seconds + self.slack_s


@pytest.fixture
def host(monkeypatch):
    fake = FakeHost()
    monkeypatch.setattr(clock_module, "time", fake)
    return fake


def test_the_virtual_clock_never_waits(host):
    clock = VirtualClock()
    assert isnan(clock.hold_until(1e9))
    assert isnan(clock.now_s())
    assert not clock.runs
    assert host.seconds == 100.0


def test_a_moment_to_come_is_waited_for_mostly_asleep(host):
    clock = RealtimeClock(origin_s=100.0)
    assert 0.0 <= clock.hold_until(5.0) < 2e-6
    assert 105.0 <= host.seconds < 105.0 + SPIN_S
    assert sum(host.slept) > 5.0 - 2 * SPIN_S
    assert clock.runs
    assert clock.now_s() == pytest.approx(5.0, abs=1e-4)


def test_a_moment_that_has_passed_is_reported_in_host_seconds(host):
    clock = RealtimeClock(origin_s=100.0, time_scale=0.1)
    host.seconds = 103.0
    assert clock.hold_until(20.0) == pytest.approx(1.0, abs=1e-4)
    assert host.slept == []


def test_deadlines_are_absolute(host):
    """A late round takes nothing from the moments after it."""
    clock = RealtimeClock(origin_s=100.0)
    host.seconds = 102.5
    assert clock.hold_until(2.0) == pytest.approx(0.5, abs=1e-4)
    assert clock.hold_until(3.0) < 2e-6
    assert host.seconds == pytest.approx(103.0, abs=1e-3)


def test_a_wait_that_ends_late_is_reported_however_little_it_is(host):
    clock = RealtimeClock(origin_s=100.0)
    host.slack_s = 300e-6
    assert clock.hold_until(1.0) == pytest.approx(100e-6, abs=5e-6)


def test_a_moment_may_be_missed_by_a_millisecond_or_a_percent_of_its_round():
    np.testing.assert_array_equal(tolerated_overrun_s([0.0, 0.1, 0.5]), [0.001, 0.001, 0.005])


def test_the_time_scale_is_the_host_seconds_of_an_emulated_second(host):
    clock = RealtimeClock(origin_s=100.0, time_scale=0.02)
    assert clock.hold_until(100.0) < 2e-6
    assert host.seconds == pytest.approx(102.0, abs=1e-3)
    assert clock.now_s() == pytest.approx(100.0, abs=0.05)


def test_a_wait_beyond_all_timers_is_made_of_several(host):
    """``time.sleep`` refuses some hundred years."""
    assert RealtimeClock(origin_s=100.0).hold_until(2.5e6) < 2e-6
    assert host.slept[:2] == [1e6, 1e6]
    assert host.slept[2] == pytest.approx(0.5e6, abs=1.0)


def test_a_resumed_clock_goes_on_where_it_was(host):
    clock = make_clock("realtime", time_scale=0.1, emulated_s=500.0)
    assert clock.now_s() == pytest.approx(500.0, abs=1e-3)
    assert clock.hold_until(520.0) < 2e-6
    assert host.seconds == pytest.approx(102.0, abs=1e-3)


def test_a_clock_shows_what_it_is_to_at_the_moment_that_is_given(host):
    """Ranks come by after one another, and their clocks agree."""
    clocks = []
    for host.seconds in (100.5, 100.75):
        clocks.append(make_clock("realtime", time_scale=0.5, emulated_s=30.0, at_host_s=100.0))
    assert [clock.origin_s for clock in clocks] == [85.0, 85.0]
    assert clocks[0].now_s() == pytest.approx(31.5, abs=1e-4)


def test_a_wait_on_the_hosts_own_clock_ends_after_its_moment():
    clock = make_clock("realtime", time_scale=0.001)
    overrun_s = clock.hold_until(20.0)
    assert clock.now_s() >= 20.0
    assert overrun_s >= 0.0


def test_clocks_by_name(host):
    assert isinstance(make_clock("virtual", 1.0), VirtualClock)
    assert isinstance(make_clock("realtime", 2.0, emulated_s=4.0), RealtimeClock)
    with pytest.raises(
        EmulationError, match=r"emulation\.clock: found 'sundial'; allowed: virtual, realtime"
    ):
        make_clock("sundial", 1.0)


@pytest.mark.parametrize("time_scale", [0.0, -1.0, inf])
def test_impossible_time_scales_are_refused(time_scale):
    with pytest.raises(EmulationError, match=r"emulation\.time_scale"):
        RealtimeClock(0.0, time_scale)
