"""Devices of the user's own: found by name, written without harm to others, and refused when damaged."""

from pathlib import Path

import numpy as np
import pytest

from fedmpi.config import loads
from fedmpi.emulation.catalogue import device, device_names
from fedmpi.emulation.compute import LocalTraining
from fedmpi.emulation.devices import assign
from fedmpi.emulation.errors import EmulationError
from fedmpi.emulation.profiles import Device, StepCost
from fedmpi.emulation.user_devices import VARIABLE, add_model, read_devices_file, user_devices_path

MINE = Device(
    name="lab-pc",
    source="measured",
    batch_size=20,
    models={"conv2": StepCost(0.25, (1e-6, 2e-6, 3e-8, 0.0), 0.5)},
)

GOOD = "[lab-pc]\nbatch_size = 20\n[lab-pc.models.conv2]\nconstant_s = 1\nseconds_per_parameter = [0.5]\n"


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "fedmpi" / "devices.toml"


def test_the_place_of_the_file(path, tmp_path, monkeypatch):
    assert user_devices_path() == path
    monkeypatch.setenv(VARIABLE, str(tmp_path / "mine.toml"))
    assert user_devices_path() == tmp_path / "mine.toml"
    monkeypatch.delenv(VARIABLE)
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/ada")
    assert str(user_devices_path()) == "/home/ada/.config/fedmpi/devices.toml"


def test_what_was_added_is_a_device_by_its_name(path):
    with pytest.raises(EmulationError, match="'lab-pc'"):
        device("lab-pc")
    add_model(path, MINE)
    assert device("lab-pc") == MINE
    assert "lab-pc" in device_names()
    assert "reference" in device_names()
    more = {"mlp": StepCost(0.1, (1e-9,), 0.2)}
    add_model(path, Device(name="lab-pc", source="later", batch_size=20, models=more))
    add_model(path, Device(name="other", source="", batch_size=5, models=more))
    assert device("lab-pc").models == {**MINE.models, **more}
    assert device("lab-pc").source == "later"
    assert device("other").batch_size == 5
    again = Device(name="lab-pc", source="last", batch_size=20, models={"mlp": StepCost(7.0, (1.0,), 9.0)})
    add_model(path, again)
    assert device("lab-pc").models["mlp"].constant_s == 7.0


def test_one_batch_size_for_all_models_of_a_device(path):
    add_model(path, MINE)
    before = path.read_bytes()
    with pytest.raises(
        EmulationError, match=r"--batch-size: found 10, but .* has lab-pc with steps of 20 samples"
    ):
        add_model(path, Device(name="lab-pc", source="", batch_size=10, models=MINE.models))
    assert path.read_bytes() == before


def linear(model: str, batch_size: int = 20):
    return loads(
        f"[clients]\ncount = 2\n[model]\nname = {model!r}\n[training]\nbatch_size = {batch_size}\n"
        "[emulation.compute]\nmodel = 'linear'\nprofile = 'lab-pc'"
    )


def test_steps_take_what_was_measured(path):
    add_model(path, MINE)
    fleet = assign(linear("conv2", 40), 0)
    clients, active = np.arange(2), [10, 20, 30, 40]
    step_s = 2 * (0.25 + 10e-6 + 40e-6 + 90e-8)
    sparse = fleet.compute.seconds(LocalTraining.of(clients, 3, active, density=0.1))
    np.testing.assert_allclose(sparse, 3 * step_s, rtol=1e-12)
    np.testing.assert_allclose(
        fleet.compute.seconds(LocalTraining.of(clients, 3, active, density=1.0)), 3 * 2 * 0.5
    )


def test_models_that_were_not_measured_are_refused(path):
    add_model(path, MINE)
    with pytest.raises(
        EmulationError, match="'lab-pc' for client 0, of which no time of a step of vgg11 is known"
    ):
        assign(linear("vgg11"), 0)
    fleet = assign(linear("conv2"), 0)
    with pytest.raises(EmulationError, match="measured with a model of 4 prunable layers, not 3"):
        fleet.compute.seconds(LocalTraining.of(np.arange(2), 1, [1, 2, 3], density=0.1))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[lab-pc", "not TOML: "),
        ("lab-pc = 3", "lab-pc: found 3; allowed: tables of devices"),
        (GOOD.replace("lab-pc", "raspberry-pi-4"), "found 'raspberry-pi-4', a device of fedmpi's own"),
        (GOOD.replace("lab-pc", '"a b"'), "found 'a b'; allowed: letters"),
        (GOOD.replace("batch_size", "batchsize"), "keys: found 'batchsize'; did you mean batch_size?"),
        (GOOD.replace("20", "0"), "batch_size: found 0; allowed: an integer from 1 to 2147483647"),
        (
            GOOD.replace("= 1\n", "= -1\n"),
            r"models.conv2 constant_s: found -1; allowed: a number from 0 to",
        ),
        (GOOD.replace("0.5", "nan"), "seconds_per_parameter: found nan"),
        (GOOD.replace("[0.5]", "0.5"), "seconds_per_parameter: found 0.5; allowed: a list"),
        (GOOD.replace("constant_s = 1\n", ""), "constant_s: found None"),
        (GOOD + "dense = 1", "keys: found 'dense'"),
        (GOOD + "dense_step_s = 'fast'", "dense_step_s: found 'fast'"),
        (GOOD.replace("20", "2147483648"), "batch_size: found 2147483648"),
        (
            GOOD.replace("= 1\n", "= 1e10\n"),
            r"constant_s: found 10000000000.0; allowed: a number from 0 to 1e\+09",
        ),
        (GOOD.replace("= 1\n", "= 1" + "0" * 400 + "\n"), "beyond the range of numbers"),
        (GOOD.replace("= 1\n", "= 1" + "0" * 5000 + "\n"), "a number of thousands of digits"),
        (GOOD.replace("[0.5]", "[" * 100_000), "nested more than 32 deep"),
        ("[lab-pc]\nbatch_size = 1\nuplink_bytes_per_s = 1e300", "uplink_bytes_per_s: found 1e\\+300"),
        ("[lab-pc]\nbatch_size = 1\nmodels = 3", "models: found 3; allowed: tables of models"),
        (
            "[lab-pc]\nbatch_size = 1\nuplink_bytes_per_s = 0",
            "uplink_bytes_per_s: found 0; allowed: a number from 0.125 to",
        ),
    ],
)
def test_a_damaged_file_is_refused_by_its_name(text, message, path):
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(EmulationError, match=message) as caught:
        device("lab-pc")
    assert str(path) in str(caught.value)
    assert device("raspberry-pi-4").name == "raspberry-pi-4"  # which does not hang on the file
    with pytest.raises(EmulationError, match=message):
        add_model(path, MINE)
    assert path.read_text() == text


def test_rates_of_a_link_are_read(path):
    path.parent.mkdir()
    path.write_text(GOOD.replace("20\n", "20\nuplink_bytes_per_s = 5\ndownlink_bytes_per_s = 2.5\n", 1))
    found = read_devices_file(path)["lab-pc"]
    assert (found.uplink_bytes_per_s, found.downlink_bytes_per_s) == (5.0, 2.5)


def test_a_file_with_a_byte_order_mark(path):
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert read_devices_file(path)["lab-pc"].batch_size == 20


def test_a_user_without_a_home_has_no_devices_and_no_place_for_them(monkeypatch):
    for name in (VARIABLE, "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    assert device("raspberry-pi-4").name == "raspberry-pi-4"
    with pytest.raises(EmulationError, match=r"profile: found 'lab-pc'.*allowed: reference"):
        device("lab-pc")
    with pytest.raises(EmulationError, match=r"FEDMPI_DEVICES: not set, and this user has no home folder"):
        user_devices_path()


def test_a_file_that_is_named_must_be_there(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no.toml"))
    with pytest.raises(EmulationError, match=r"FEDMPI_DEVICES: .*no.toml cannot be read: No such file"):
        device("lab-pc")


def test_folders_of_the_file_are_made(tmp_path):
    path = tmp_path / "not" / "yet" / "devices.toml"
    add_model(path, MINE)
    assert read_devices_file(path).keys() == {"lab-pc"}


def test_a_file_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EmulationError, match="cannot be written"):
        add_model(tmp_path / "file" / "devices.toml", MINE)


def test_names_that_no_device_can_have(path):
    for name in ("reference", "x.csv", "", "a b"):
        with pytest.raises(EmulationError, match="--device: found"):
            add_model(path, Device(name=name, source="", batch_size=20))
    assert not path.exists()
