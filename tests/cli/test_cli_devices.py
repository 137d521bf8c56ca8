"""``fedmpi devices`` lists devices and makes CSV files that ``check`` takes."""

import json

import pytest

from fedmpi.cli import main as cli
from fedmpi.emulation.catalogue import device_names
from fedmpi.emulation.user_devices import VARIABLE

NO_LINKS = [f"emulation.network.{name}" for name in ("uplink_mbit_per_s=inf", "downlink_mbit_per_s=inf")]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "phones.json"
    rows = [{"Model": f"phone {i}", "CPU_F_AI_Score": str(400 + 100 * i)} for i in range(12)]
    path.write_text(json.dumps(rows))
    return path


def lines(capsys, *arguments):
    assert cli.main(["devices", *arguments]) == 0
    out, err = capsys.readouterr()
    assert not err
    return out.splitlines()


def test_every_device_has_a_line_and_a_source(capsys):
    listed = lines(capsys)
    assert listed[0].split()[:2] == ["device", "speed"]
    for name in device_names():
        assert any(line.startswith(name + " ") for line in listed)
        assert any(line.startswith(name + ": ") for line in listed)
    (pi,) = (line.split() for line in listed if line.startswith("raspberry-pi-4 "))
    assert pi == ["raspberry-pi-4", "1", "1.31", "11.5", "11.5", "2.7", "6.4", "-", "-"]
    assert lines(capsys, "list") == listed


def test_json_has_null_for_what_is_not_known(capsys):
    listed = {entry["name"]: entry for entry in json.loads("\n".join(lines(capsys, "--json")))}
    assert listed.keys() == set(device_names())
    pi = listed["raspberry-pi-4"]
    assert pi["measured_models"] == ["conv2", "conv4", "resnet18", "vgg11"]
    assert (pi["idle_w"], pi["compute_w"], pi["transmit_w"]) == (2.7, 6.4, None)
    assert "pidramble" in pi["powers_source"]
    assert listed["phone-kirin-970"]["powers_source"] is None


def test_the_users_devices_are_listed(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.toml"
    path.write_text("[lab-pc]\nbatch_size = 20\nsource = 'here'\nidle_w = 3.5\n")
    monkeypatch.setenv(VARIABLE, str(path))
    (mine,) = (line.split() for line in lines(capsys) if line.startswith("lab-pc "))
    assert mine == ["lab-pc", "-", "-", "-", "-", "3.5", "-", "-", "-"]


def test_a_table_of_phones_becomes_devices(tmp_path, table, capsys):
    first, assumed, last = lines(capsys, "import", "ai-benchmark", str(table), "-o", "devices.csv")
    assert first.startswith("devices.csv: 12 devices, 0.519 to 1.95 times as fast as a raspberry-pi-4")
    assert "assumed" in assumed
    assert "training on phones was not measured" in assumed
    assert 'profile = "devices.csv"' in last
    check = ["check", "quickstart", "clients.count=12", "emulation.compute.profile=devices.csv", *NO_LINKS]
    for model in ("flops", "linear"):
        command = [*check, "emulation.network.latency_s=0", f"emulation.compute.model={model}"]
        assert cli.main(command) == 0
        assert "on phone 0, as well as its overhead_s and flops_per_s are known" in capsys.readouterr().out


def test_as_many_as_there_are_clients_are_drawn_by_a_seed(tmp_path, table, capsys):
    command = ["import", "ai-benchmark", str(table), "--clients", "30", "--uplink-mbit-per-s", "5"]
    texts = []
    for name, seed in (("a", "1"), ("b", "1"), ("c", "2")):
        lines(capsys, *command, "--latency-s", "0.1", "--seed", seed, "--output", f"{name}.csv")
        texts.append((tmp_path / f"{name}.csv").read_text())
    assert texts[0] == texts[1] != texts[2]
    assert len(texts[0].splitlines()) == 31
    assert all(",5,inf,0.1," in line for line in texts[0].splitlines()[1:])


def test_the_real_table_is_read(shared_dir, capsys):
    real = shared_dir / "data" / "devices" / "raw_ai_benchmark_list.json"
    first = lines(capsys, "import", "ai-benchmark", str(real), "-o", "phones.csv")[0]
    assert first.startswith("phones.csv: 333 devices, 0.136 to 5.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import"], "the kind of table: is not set; allowed: ai-benchmark"),
        (["import", "geekbench", "x.json", "-o", "x.csv"], "found geekbench; allowed: ai-benchmark"),
        (["import", "ai-benchmark"], "FILE: is not set"),
        (
            ["import", "ai-benchmark", "phones.json"],
            "--output: is not set; allowed: a file that ends in .csv",
        ),
        (["import", "ai-benchmark", "phones.json", "-o", "x.txt"], "--output: found x.txt"),
        (["import", "ai-benchmark", "none.json", "-o", "x.csv"], "none.json cannot be read"),
        (["import", "ai-benchmark", "phones.json", "-o", "no/x.csv"], "no/x.csv cannot be written"),
        (["import", "ai-benchmark", "empty.json", "-o", "x.csv"], "empty.json: no JSON"),
        (["list", "phones.json"], "fedmpi devices list: found phones.json; allowed: --json alone"),
        (["show"], "invalid choice: 'show'"),
        (["import", "ai-benchmark", "phones.json", "-o", "x.csv", "--latency-s", "-1"], "found -1; allowed:"),
    ],
)
def test_what_cannot_be_done_is_one_line(arguments, message, tmp_path, table, capsys):
    (tmp_path / "empty.json").touch()
    assert cli.main(["devices", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "x.csv").exists()
