"""Devices from a table of phones."""

import json

import pytest

from fedmpi.config import loads
from fedmpi.emulation.device_csv import devices_text
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.phones import MEDIAN_SCORES, assumption, raspberry_pi_4_score, read_phones
from fedmpi.emulation.profiles import Powers, built_in_devices


def written(tmp_path, rows):
    path = tmp_path / "phones.json"
    path.write_text(json.dumps(rows))
    return path


def test_a_phone_is_as_fast_as_its_score_says(tmp_path):
    base = raspberry_pi_4_score()
    rows = [{"Model": " A, B ", "CPU_F_AI_Score": f"{2 * base}"}, {"Model": "C", "CPU_F_AI_Score": base / 4}]
    first, second = read_phones(written(tmp_path, rows))
    assert (first.name, second.name) == ("A, B", "C")
    assert (first.relative_speed, second.relative_speed) == pytest.approx((2.0, 0.25))
    pi = built_in_devices()["raspberry-pi-4"].figures
    assert first.figures.flops_per_s == pytest.approx(2 * pi.flops_per_s)
    assert second.figures.overhead_s == pytest.approx(4 * pi.overhead_s)
    assert len(first.powers.unknown) == 4


def test_the_two_phones_of_which_both_are_known_come_out_near_their_own_speeds():
    for name, score in MEDIAN_SCORES.items():
        ours = score / raspberry_pi_4_score()
        assert ours == pytest.approx(built_in_devices()[name].relative_speed, rel=0.08)
    assert "771" in assumption()
    assert "\n" not in assumption()


def test_what_is_written_is_read_again(tmp_path):
    phones = read_phones(written(tmp_path, [{"Model": "A, B", "CPU_F_AI_Score": "1000"}] * 3))
    path = tmp_path / "devices.csv"
    path.write_text(devices_text(phones, 0.25))
    config = loads(
        "", ["clients.count=3", f"emulation.compute.profile={path}", "emulation.compute.model=flops"]
    )
    fleet = assign(config, 0)
    assert fleet.device_names == ("A, B",) * 3
    assert fleet.latency_s.tolist() == [0.25] * 3
    assert fleet.uplink.bytes_per_s.tolist() == [float("inf")] * 3
    assert not fleet.powers.known().any()


def test_powers_are_written_too(tmp_path):
    (phone,) = read_phones(written(tmp_path, [{"Model": "A", "CPU_F_AI_Score": "1000"}]))
    known = type(phone)(name="A", source="", figures=phone.figures, powers=Powers(idle_w=0.5))
    assert devices_text([known], 0.0).splitlines()[1].endswith(",0.5,,,")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("{}", "found {}; needed: a list of phones"),
        ("[]", "found []; needed: a list of phones"),
        ("[3]", "row 1: found 3; needed: an object"),
        ('[{"Model": "A"}]', "row 1, CPU_F_AI_Score: found None"),
        ('[{"CPU_F_AI_Score": 3}]', "row 1, Model: found None"),
        ('[{"Model": " ", "CPU_F_AI_Score": 3}]', "row 1, Model: found ' '"),
        ('[{"Model": "A", "CPU_F_AI_Score": "1"}, {"Model": "B", "CPU_F_AI_Score": "n/a"}]', "row 2, CPU_F"),
        ('[{"Model": "A", "CPU_F_AI_Score": -5}]', "found -5; allowed: a number from 1"),
        ('[{"Model": "A", "CPU_F_AI_Score": "nan"}]', "found 'nan'"),
        ('[{"Model": "A", "CPU_F_AI_Score": [1]}]', "found [1]"),
    ],
)
def test_a_damaged_table_is_named_with_its_row(tmp_path, text, found):
    path = tmp_path / "phones.json"
    path.write_text(text)
    with pytest.raises(EmulationError) as error:
        read_phones(path)
    assert str(path) in str(error.value)
    assert found in str(error.value)
    assert "\n" not in str(error.value)


def test_a_missing_table_is_named(tmp_path):
    with pytest.raises(EmulationError, match=r"none\.json cannot be read: No such file"):
        read_phones(tmp_path / "none.json")
