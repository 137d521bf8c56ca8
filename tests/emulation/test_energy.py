"""Joules of a round: each state's seconds times its power; what is not known is NaN."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmpi.config import ConfigError, loads, validate
from fedmpi.emulation.devices import assign
from fedmpi.emulation.energy import FleetPowers, energy_j
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.profiles import POWERS, Powers, built_in_devices

ALL = Powers(idle_w=1.0, compute_w=10.0, transmit_w=100.0, receive_w=1000.0)
FLEET = FleetPowers.of([ALL, Powers(idle_w=2.0, compute_w=5.0), Powers(), ALL])


def test_every_state_has_its_own_power():
    joules = energy_j(FLEET, np.array([3, 0]), [1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0])
    np.testing.assert_allclose(joules, [1000 + 30 + 500 + 7, 2000 + 40 + 600 + 8])


def test_an_unknown_power_is_nan_and_never_zero():
    everybody = np.arange(4)
    joules = energy_j(FLEET, everybody, 1.0, 1.0, 1.0, 1.0)
    np.testing.assert_array_equal(np.isnan(joules), [False, True, True, False])


def test_a_state_that_a_client_was_not_in_takes_nothing():
    joules = energy_j(FLEET, np.array([1, 2]), [0.0, 0.0], [2.0, 0.0], [0.0, 0.0], [3.0, 0.0])
    np.testing.assert_allclose(joules, [2 * 5 + 3 * 2, 0.0])


def test_nobody_takes_nothing():
    assert energy_j(FLEET, np.array([], dtype=np.int64), [], [], [], []).shape == (0,)


spans = st.lists(st.floats(0, 1e6), min_size=4, max_size=4)


@given(spans, st.floats(0, 1))
def test_a_round_in_two_parts_takes_as_much(seconds, part):
    first = [part * s for s in seconds]
    second = [s - f for s, f in zip(seconds, first, strict=True)]
    client = np.array([0])
    whole, *parts = (energy_j(FLEET, client, *one)[0] for one in (seconds, first, second))
    assert sum(parts) == pytest.approx(whole)


def test_a_fleet_has_the_powers_of_its_devices():
    profile = 'emulation.compute.profile={"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}'
    fleet = assign(loads("", [profile, "emulation.energy.on=true"]), 0)
    for client, name in enumerate(fleet.device_names):
        known = built_in_devices()[name].powers
        assert fleet.powers.idle_w[client] == known.idle_w
        assert fleet.powers.compute_w[client] == known.compute_w
    assert not fleet.powers.known().any()  # nobody published what these take while sending
    with pytest.raises(ValueError, match="read-only"):
        fleet.powers.idle_w[0] = 1.0


def test_built_in_powers_have_a_source():
    for device in built_in_devices().values():
        known = set(POWERS) - set(device.powers.unknown)
        assert bool(known) == bool(device.powers_source)
        assert all(0 < getattr(device.powers, name) < 100 for name in known)
    assert built_in_devices()["raspberry-pi-4"].powers.idle_w == 2.7


def test_energy_that_nobody_could_know_is_refused():
    config = loads("", ["emulation.energy.on=true", "emulation.compute.profile=phone-kirin-970"])
    with pytest.raises(
        EmulationError, match=r"emulation\.energy\.on: found true, but no power of 'phone-kirin-970'"
    ):
        assign(config, 0)
    normalized = loads("", ["emulation.energy.on=true", "emulation.compute.model=normalized"])
    with pytest.raises(ConfigError, match=r"\[emulation.energy\] on: .* are no seconds"):
        validate(normalized)


def test_other_powers_are_another_fleet(tmp_path):
    digests = []
    for watts in ("1.5", "1.6", ""):
        path = tmp_path / "one.csv"
        path.write_text(
            "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,overhead_s,flops_per_s,idle_w\n"
            f"a,1,1,0,1e-7,1e9,{watts}\n"
        )
        config = loads("", ["clients.count=1", f"emulation.compute.profile={path}"])
        digests.append(assign(config, 0).digest())
    assert len(set(digests)) == 3
