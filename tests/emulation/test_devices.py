"""Named devices, mixes, bandwidths and CSV fleets."""

import tomllib
from dataclasses import replace
from math import inf

import numpy as np
import pytest

from fedmpi.config import ConfigError
from fedmpi.config.emulation_schema import AvailabilityConfig, ComputeConfig, EmulationConfig, NetworkConfig
from fedmpi.config.schema import ClientsConfig, Config, ModelConfig, TrainingConfig
from fedmpi.emulation.catalogue import device, device_names
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError

MIX = {"raspberry-pi-4": 0.5, "raspberry-pi-3": 0.3, "pc-intel-n100": 0.2}


def config(clients=10, profile="reference", model="unit", batch_size=20, **network):
    return Config(
        clients=ClientsConfig(count=clients),
        model=ModelConfig(name="conv2"),
        training=TrainingConfig(batch_size=batch_size),
        emulation=EmulationConfig(
            compute=ComputeConfig(model=model, profile=profile), network=NetworkConfig(**network)
        ),
    )


def test_every_device_has_a_source_and_a_plausible_speed():
    assert len(device_names()) >= 5
    for name in device_names():
        known = device(name)
        assert known.name == name
        assert known.source
        assert 0.01 < known.relative_speed < 100
    assert device("raspberry-pi-3").relative_speed < 1 < device("raspberry-pi-5").relative_speed


def test_the_raspberry_pi_4_has_the_published_constants(golden_dir):
    published = tomllib.loads((golden_dir / "prunefl_profiles.toml").read_text())
    pi = device("raspberry-pi-4")
    for name, entry in published.items():
        cost = pi.models[name.split("_")[0]]
        assert cost.constant_s == entry["constant_seconds"]
        assert list(cost.seconds_per_parameter) == entry["compute_seconds_per_parameter"]
        assert cost.dense_step_s == entry["dense_step_seconds"]
        assert pi.batch_size == entry["batch_size"]
        exchange = 4 / pi.uplink_bytes_per_s + 4 / pi.downlink_bytes_per_s
        assert exchange == pytest.approx(entry["communication_seconds_per_parameter"], rel=1e-14)
    assert set(pi.models) == {name.split("_")[0] for name in published}


def test_other_devices_are_the_measured_one_at_another_speed():
    pi, five = device("raspberry-pi-4"), device("raspberry-pi-5")
    assert five.relative_speed == pytest.approx(30.249 / 11.889)
    assert device("raspberry-pi-3").relative_speed == pytest.approx(176.18 / 282.03)
    for ours, theirs in zip(
        five.models["conv2"].seconds_per_parameter, pi.models["conv2"].seconds_per_parameter, strict=True
    ):
        assert ours * five.relative_speed == pytest.approx(theirs)
    assert five.models["conv2"].dense_step_s * five.relative_speed == pytest.approx(2.2486449218005875)
    assert five.uplink_bytes_per_s is None


def test_an_unknown_device_is_refused_with_the_nearest_spelling():
    with pytest.raises(EmulationError, match="raspberry-pi-4"):
        device("rasberry_pi4")
    with pytest.raises(
        EmulationError, match=r"emulation\.compute\.profile: found 'abacus'; allowed: reference"
    ):
        device("abacus")


def test_a_mix_has_its_exact_shares_placed_by_the_seed():
    first, again, other = (assign(config(200, MIX), seed) for seed in (1, 1, 2))
    assert {name: first.device_names.count(name) for name in MIX} == {
        "raspberry-pi-4": 100,
        "raspberry-pi-3": 60,
        "pc-intel-n100": 40,
    }
    assert first.device_names == again.device_names
    assert first.device_names != other.device_names
    assert sorted(first.device_names) == sorted(other.device_names)
    assert len(set(first.device_names[:100])) == 3  # not in blocks
    np.testing.assert_array_equal(
        first.relative_speed, [device(name).relative_speed for name in first.device_names]
    )


def test_a_mix_does_not_depend_on_the_order_of_its_table():
    backwards = dict(reversed(MIX.items()))
    assert assign(config(50, MIX), 3).device_names == assign(config(50, backwards), 3).device_names


@pytest.mark.parametrize(
    "mix", [{"raspberry-pi-4": 0.5}, {"raspberry-pi-4": 1.5, "raspberry-pi-5": -0.5}, {}]
)
def test_shares_must_be_positive_and_add_up_to_one(mix):
    with pytest.raises(EmulationError, match=r"emulation\.compute\.profile: found the shares"):
        assign(config(10, mix), 0)


def test_bandwidths_in_mbit_per_s_become_bytes_per_s():
    fleet = assign(
        config(
            3,
            uplink_mbit_per_s=8.0,
            downlink_mbit_per_s=(1.0, 2.0, inf),
            latency_s=0.1,
            server_ingress_mbit_per_s=100.0,
        ),
        0,
    )
    np.testing.assert_array_equal(fleet.uplink.bytes_per_s, [1e6, 1e6, 1e6])
    np.testing.assert_array_equal(fleet.downlink.bytes_per_s, [125e3, 250e3, inf])
    np.testing.assert_array_equal(fleet.latency_s, [0.1, 0.1, 0.1])
    assert fleet.uplink.server_bytes_per_s == 12.5e6
    assert fleet.downlink.server_bytes_per_s == inf


def test_arrays_of_a_fleet_are_read_only():
    fleet = assign(config(3), 0)
    with pytest.raises(ValueError, match="read-only"):
        fleet.uplink.bytes_per_s[0] = 1.0


def test_the_devices_own_link():
    fleet = assign(config(2, "raspberry-pi-4", uplink_mbit_per_s="device"), 0)
    np.testing.assert_allclose(fleet.uplink.bytes_per_s, 8 / 5.561621025626998e-06, rtol=1e-14)
    for profile, found in (("raspberry-pi-5", "raspberry-pi-5"), ("reference", "no device")):
        with pytest.raises(EmulationError, match=rf"downlink_mbit_per_s: found \"device\".*{found}"):
            assign(config(2, profile, downlink_mbit_per_s="device"), 0)


def test_distributions_are_drawn_once_for_each_client_and_direction():
    drawn = {"distribution": "lognormal", "median": 8.0, "sigma": 0.5}
    fleet = assign(config(4000, uplink_mbit_per_s=drawn, downlink_mbit_per_s=drawn), 7)
    assert np.median(fleet.uplink.bytes_per_s) == pytest.approx(1e6, rel=0.05)
    assert np.log(fleet.uplink.bytes_per_s).std() == pytest.approx(0.5, rel=0.05)
    assert (fleet.uplink.bytes_per_s != fleet.downlink.bytes_per_s).all()
    fewer = assign(config(100, uplink_mbit_per_s=drawn), 7)
    np.testing.assert_array_equal(fewer.uplink.bytes_per_s, fleet.uplink.bytes_per_s[:100])
    assert (
        assign(config(100, uplink_mbit_per_s=drawn), 8).uplink.bytes_per_s != fewer.uplink.bytes_per_s
    ).all()


def test_a_normal_distribution_stops_at_its_own_minimum():
    drawn = {"distribution": "normal", "mean": 4.0, "std": 4.0, "minimum": 1.0}
    rates = assign(config(2000, uplink_mbit_per_s=drawn), 1).uplink.bytes_per_s / 125e3
    assert rates.min() == 1.0
    assert (rates == 1.0).mean() == pytest.approx(0.227, abs=0.03)
    assert np.median(rates) == pytest.approx(4.0, rel=0.1)


def test_a_uniform_distribution_keeps_to_its_bounds():
    drawn = {"distribution": "uniform", "low": 2.0, "high": 3.0}
    rates = assign(config(2000, uplink_mbit_per_s=drawn), 1).uplink.bytes_per_s / 125e3
    assert 2.0 <= rates.min() < 2.05
    assert 2.95 < rates.max() <= 3.0


@pytest.mark.parametrize(
    ("rate", "found"),
    [
        (0.0, "found 0.0 Mbit/s for client 0"),
        ((1.0, -2.0, 3.0), "found -2.0 Mbit/s for client 1"),
        ((1.0, 2.0), "a list of 2; allowed: one for each of 3"),
        ("fast", "found 'fast'"),
        ({"distribution": "lognormol", "median": 1.0, "sigma": 1.0}, "did you mean lognormal"),
        ({"median": 1.0, "sigma": 1.0}, "lognormal, normal, uniform"),
        ({"distribution": "normal", "mean": 1.0, "std": 1.0}, "needed: mean, std, minimum"),
        ({"distribution": "normal", "mean": 1.0, "std": 1.0, "minimum": 0.0}, "minimum: found 0.0"),
        ({"distribution": "normal", "mean": 1.0, "std": -1.0, "minimum": 1.0}, "std: found -1.0"),
        ({"distribution": "uniform", "low": 1.0, "high": 2.0, "mean": 1.0}, "found the keys high, low, mean"),
        ({"distribution": "uniform", "low": 2.0, "high": 1.0}, "high: found 1.0"),
        ({"distribution": "lognormal", "median": inf, "sigma": 1.0}, "median: found inf"),
        ({"distribution": "lognormal", "median": 1.0, "sigma": 1e6}, "a smaller spread"),
        (
            {"distribution": "lognormal", "median": 1.0, "sigma": 60.0},
            "allowed: a number from 1e-06 to 1e+06, or inf",
        ),
        (1e-7, "found 1e-07 Mbit/s for client 0; allowed: a number from 1e-06 to 1e+06, or inf"),
        ((1.0, 2e6, 1.0), "found 2000000.0 Mbit/s for client 1"),
    ],
)
def test_impossible_bandwidths_are_refused(rate, found):
    with pytest.raises(EmulationError, match=r"emulation\.network\.uplink_mbit_per_s") as error:
        assign(config(3, uplink_mbit_per_s=rate), 0)
    assert found in str(error.value)


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ({"uplink_trace": "lte.up"}, "network.uplink_trace"),
        ({"latency_s": -0.1}, "network.latency_s"),
        ({"jitter_s": inf}, "network.jitter_s"),
        ({"server_ingress_mbit_per_s": 0.0}, "network.server_ingress_mbit_per_s"),
        ({"server_egress_mbit_per_s": -1.0}, "network.server_egress_mbit_per_s"),
    ],
)
def test_impossible_networks_are_refused(network, key):
    with pytest.raises(EmulationError, match=f"emulation.{key}: found"):
        assign(config(**network), 0)


def test_latency_and_jitter_take_the_four_forms(tmp_path):
    drawn = {"distribution": "uniform", "low": 0.0, "high": 0.2}
    fleet = assign(config(500, latency_s=drawn, jitter_s=drawn), 7)
    assert 0.0 <= fleet.latency_s.min() < 0.01 < 0.19 < fleet.latency_s.max() <= 0.2
    assert (fleet.latency_s != fleet.jitter_s).all()
    np.testing.assert_array_equal(assign(config(9, latency_s=drawn), 7).latency_s, fleet.latency_s[:9])
    np.testing.assert_array_equal(assign(config(2, jitter_s=(0.0, 0.5)), 0).jitter_s, [0.0, 0.5])
    path = tmp_path / "devices.csv"
    path.write_text(HEADER + "watch,0.8,1.6,0.2,3.0,1e-6\n")
    np.testing.assert_array_equal(
        assign(config(1, str(path), latency_s="device", jitter_s=0.1), 0).latency_s, [0.2]
    )
    for profile, found in (("raspberry-pi-4", "no latency of 'raspberry-pi-4'"), ("reference", "no device")):
        with pytest.raises(
            EmulationError, match=rf'latency_s: found "device", but {found}.*allowed: seconds or'
        ):
            assign(config(2, profile, latency_s="device"), 0)
    with pytest.raises(EmulationError, match=r"jitter_s: found -0.1 seconds for client 1; allowed: a number"):
        assign(config(2, jitter_s=(0.0, -0.1)), 0)


def test_what_is_not_emulated_is_refused():
    base = config()
    sometimes = replace(base, emulation=replace(base.emulation, availability=AvailabilityConfig("sometimes")))
    with pytest.raises(
        ConfigError, match=r"\[emulation.availability\] model: .* allowed: always, probability"
    ):
        assign(sometimes, 0)
    with pytest.raises(ConfigError, match=r"\[emulation.compute\] model: .* did you mean linear"):
        assign(config(model="linaer"), 0)
    with pytest.raises(EmulationError, match=r"emulation\.compute\.profile: found 'reference' for client 0"):
        assign(config(model="linear"), 0)
    for name in ("unit_s", "slowdown", "speed"):
        impossible = replace(base, emulation=replace(base.emulation, compute=ComputeConfig(**{name: 0.0})))
        with pytest.raises(EmulationError, match=rf"emulation\.compute\.{name}: found 0.0"):
            assign(impossible, 0)


HEADER = "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter\n"
FIGURES = (
    "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,overhead_s,flops_per_s,"
    "idle_w,compute_w,transmit_w,receive_w\n"
)


def test_a_csv_fleet(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text(HEADER + "watch,0.8,1.6,0.2,3.0,1e-6\n\nphone, 8, inf, 0.05, 0.5, 2e-7\n")
    fleet = assign(config(2, str(path), model="linear"), 0)
    assert fleet.device_names == ("watch", "phone")
    np.testing.assert_array_equal(fleet.uplink.bytes_per_s, [1e5, 1e6])
    np.testing.assert_array_equal(fleet.downlink.bytes_per_s, [2e5, inf])
    np.testing.assert_array_equal(fleet.latency_s, [0.2, 0.05])
    np.testing.assert_array_equal(fleet.compute.costs.constant_s, [3.0, 0.5])
    np.testing.assert_array_equal(fleet.compute.costs.seconds_per_parameter, [1e-6, 2e-7])
    assert fleet.compute.costs.layer_seconds_per_parameter.shape == (2, 0)
    with pytest.raises(EmulationError, match="needed: one for each of 3 clients"):
        assign(config(3, str(path)), 0)
    with pytest.raises(EmulationError, match=r"emulation\.network\.uplink_mbit_per_s: .* leave the key out"):
        assign(config(2, str(path), uplink_mbit_per_s=5.0), 0)


def test_a_csv_fleet_with_figures_and_powers(tmp_path):
    path = tmp_path / "devices.csv"
    path.write_text(FIGURES + "watch,1,1,0,1e-6,1e8,0.1, ,0.3,0\nphone,1,1,0,1e-8,1e10,1,2,3,4\n")
    fleet = assign(config(2, str(path), model="flops"), 0)
    np.testing.assert_array_equal(fleet.powers.idle_w, [0.1, 1.0])
    np.testing.assert_array_equal(fleet.powers.compute_w, [np.nan, 2.0])
    np.testing.assert_array_equal(fleet.powers.transmit_w, [0.3, 3.0])
    np.testing.assert_array_equal(fleet.powers.receive_w, [0.0, 4.0])
    assert fleet.powers.known().tolist() == [False, True]
    path.write_text(HEADER + "watch,1,1,0,1,1\nphone,1,1,0,1,1\n")
    with pytest.raises(EmulationError, match="found 'watch' for client 0, of which no overhead_s"):
        assign(config(2, str(path), model="flops"), 0)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEADER + "a,1,1,0,1,1\nb,fast,1,0,1,1\n", "line 3, column uplink_mbit_per_s: found 'fast'"),
        (HEADER + "a,1,0,0,1,1\n", "line 2, column downlink_mbit_per_s: found '0'"),
        (HEADER + "a,1,1,-1,1,1\n", "line 2, column latency_s: found '-1'"),
        (HEADER + "a,1,1,0,nan,1\n", "line 2, column constant_s: found 'nan'"),
        (HEADER + "a,1,1,0,1,inf\n", "line 2, column seconds_per_parameter: found 'inf'"),
        (HEADER + ",1,1,0,1,1\n", "line 2, column name: empty"),
        (HEADER + "a,1,1,0,1\n", "line 2: found 5 columns"),
        (
            HEADER.replace("latency_s", "latency_ms"),
            "line 1, columns: found 'latency_ms'; did you mean latency_s",
        ),
        ("name,latency_s\n", "no column uplink_mbit_per_s"),
        (HEADER.replace("constant_s", "name"), "line 1: a column stands there twice"),
        (HEADER.replace(",constant_s", ""), "no column constant_s; needed: name, uplink_mbit_per_s"),
        (HEADER.replace("constant_s,seconds_per_parameter", "flops_per_s"), "no column overhead_s"),
        (FIGURES + "a,1,1,0,1e-7,0,,,,\n", "line 2, column flops_per_s: found '0'"),
        (FIGURES + "a,1,1,0,,1e9,,,,\n", "line 2, column overhead_s: found ''"),
        (
            FIGURES + "a,1,1,0,1e-7,1e9,lots,,,\n",
            "line 2, column idle_w: found 'lots'; allowed: a number from 0",
        ),
        (FIGURES + "a,1,1,0,1e-7,1e9,,-2,,\n", "line 2, column compute_w: found '-2'"),
        (
            FIGURES + "a,1,1,0,1e-7,1e9,,,nan,\n",
            "found 'nan'; allowed: a number from 0 to 10000, or nothing where",
        ),
        (FIGURES + "a,1,1,0,1e-7,1e9,,,,inf\n", "line 2, column receive_w: found 'inf'"),
        (FIGURES + "a,1,1,0,1e-7,1e9,1,2,3\n", "line 2: found 9 columns; needed: 10"),
        (FIGURES.replace("idle_w", "idle_watt"), "found 'idle_watt'; did you mean idle_w?"),
        ("", "no column name"),
        (HEADER + "a" * 200_000 + ",1,1,0,1,1\n", "line 2: no CSV (field larger than field limit"),
        ("b" * 200_000 + "\n", "line 1: no CSV (field larger than field limit"),
        (HEADER + "a,1e400,1,0,1,1\n", "line 2, column uplink_mbit_per_s: found '1e400'"),
        (HEADER + f"a,1{'0' * 400},1,0,1,1\n", "line 2, column uplink_mbit_per_s: found '1000"),
        (HEADER + "a,1,1,1e308,1,1\n", "column latency_s: found '1e308'; allowed: a number from 0 to 1e+09"),
    ],
)
def test_errors_of_a_csv_file_name_line_and_column(tmp_path, text, found):
    path = tmp_path / "devices.csv"
    path.write_text(text)
    with pytest.raises(EmulationError) as error:
        assign(config(2, str(path)), 0)
    assert str(path) in str(error.value)
    assert found in str(error.value)


def test_a_missing_csv_file_is_named():
    with pytest.raises(EmulationError, match=r"nowhere\.csv cannot be read"):
        assign(config(2, "nowhere.csv"), 0)
    with pytest.raises(EmulationError, match="cannot be read: embedded null byte"):
        assign(config(2, "a\0.csv"), 0)


def test_the_digest_sees_what_the_file_of_intervals_holds(tmp_path):
    def digest(text):
        (tmp_path / "a.csv").write_text("client,on_s,off_s\n" + text)
        base = config()
        section = AvailabilityConfig("intervals", path=str(tmp_path / "a.csv"))
        return assign(replace(base, emulation=replace(base.emulation, availability=section)), 0).digest()

    assert digest("0,1,2\n") == digest("0,1,2\n\n")
    assert digest("0,1,2\n") != digest("0,1,3\n")
