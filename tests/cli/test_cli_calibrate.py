"""``fedmpi calibrate`` makes a device that runs know by its name."""

import subprocess
import sys

import pytest

from fedmpi.cli import main as cli
from fedmpi.emulation.catalogue import device
from fedmpi.emulation.user_devices import VARIABLE

QUICK = ["--input-shape", "1", "8", "8", "--classes", "10", "--densities", "0.1", "0.5", "--steps", "1"]


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "fedmpi" / "devices.toml"


def test_a_calibrated_device_is_known_to_check(path, capsys):
    assert cli.main(["calibrate", "mlp", "--device", "lab-pc", *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.startswith("mlp, steps of 20 samples, medians of 1 at 4 points, one thread\ndense kernels: ")
    for text in ("fc1.weight", "fc2.weight", "error of the fit: median", "each point left out: median"):
        assert text in out
    assert out.splitlines()[-1] == f'{path}: device lab-pc; emulation.compute.profile = "lab-pc" takes it'
    cost = device("lab-pc").models["mlp"]
    assert len(cost.seconds_per_parameter) == 2
    assert cost.dense_step_s > 0
    linear = ["emulation.compute.model=linear", "emulation.compute.profile=lab-pc"]
    assert cli.main(["check", "quickstart", *linear]) == 0
    assert 'profile = "lab-pc"' in capsys.readouterr().out
    assert cli.main(["check", "quickstart", *linear, "model.hidden=[8, 8]"]) == 2
    assert "measured with a model of 2 prunable layers, not 3" in capsys.readouterr().err


def test_another_file(tmp_path, path, monkeypatch, capsys):
    output = tmp_path / "mine.toml"
    assert cli.main(["calibrate", "logistic", "--device", "d", "--output", str(output), *QUICK]) == 0
    assert not path.exists()
    monkeypatch.setenv(VARIABLE, str(output))
    assert device("d").models.keys() == {"logistic"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mlp"], "the following arguments are required: --device"),
        (["mlp", "--device", "reference"], "--device: found 'reference', a device of fedmpi's own"),
        (["lenet", "--device", "d"], '[model] name: found "lenet"'),
        (["mlp", "--device", "d", "--densities", "0.1"], "--densities: found [0.1]; allowed: at least two"),
        (
            ["mlp", "--device", "d", "--densities", "0.1", "2"],
            "found 2; allowed: a number above 0 and at most 1",
        ),
        (["mlp", "--device", "d", "--steps", "0"], "found 0; allowed: an integer from 1 to"),
        (["mlp", "--device", "d", "--input-shape", "3", "8"], "--input-shape: found (3, 8)"),
        (["mlp", "--device", "d", "--output", "."], "--output: . is a folder"),
        (["conv2", "--device", "d", "--input-shape", "1", "2", "2"], "at least 4 x 4 pixels"),
    ],
)
def test_what_cannot_be_measured_is_refused_in_one_line(arguments, message, path, capsys):
    assert cli.main(["calibrate", *arguments]) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert not path.exists()


def test_devices_must_not_change_under_a_run(tmp_path, path, clean_environment):
    """The configuration holds a name alone: a resumed run with other numbers behind it is refused."""
    assert cli.main(["calibrate", "mlp", "--device", "lab-pc", *QUICK]) == 0

    def run(rounds: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fedmpi", "run", "quickstart", f"experiment.rounds={rounds}"]
        command += ["emulation.compute.profile=lab-pc", "--output", "run", "--resume", "--quiet"]
        return subprocess.run(
            command,
            cwd=tmp_path,
            env={**clean_environment, "XDG_CONFIG_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    assert run(3).returncode == 0
    assert run(6).returncode == 0
    path.write_text(path.read_text().replace("dense_step_s = 0", "dense_step_s = 1"))
    refused = run(9)
    assert refused.returncode == 1
    assert refused.stderr.count("\n") == 1
    assert "the devices are not those of before" in refused.stderr
