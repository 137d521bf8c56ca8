"""``fedmpi calibrate`` makes a device that runs know by its name."""

import re
import subprocess
import sys

import numpy as np
import pytest

from fedmpi.calibration import Measured
from fedmpi.cli import main as cli
from fedmpi.emulation.catalogue import device
from fedmpi.emulation.user_devices import VARIABLE

QUICK = [
    "--input-shape",
    "1",
    "8",
    "8",
    "--classes",
    "10",
    "--densities",
    "0.1",
    "0.5",
    "--steps",
    "1",
    "--force",
]


@pytest.fixture(autouse=True)
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path / "fedmpi" / "devices.toml"


def test_a_calibrated_device_is_known_to_check(path, capsys):
    assert cli.main(["calibrate", "mlp", "--device", "lab-pc", *QUICK]) == 0
    out = capsys.readouterr().out
    assert re.match(
        r"mlp, steps of 20 samples, medians of [2-6] at 5 points, one thread\nspread of the measurement: ",
        out,
    )
    assert "densities that had no part in the fit: " in out
    assert re.search(r"% at 0\.224\n", out)  # between the two that had
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


def measured(seconds, held_out_s, spread):
    """Of a model of one layer of 100 parameters at two densities, and one that is held out."""
    return Measured(
        layers=("fc.weight",),
        sizes=np.array([100]),
        active=np.array([[10], [40], [40]]),
        seconds=np.array(seconds),
        held_out_densities=(0.2,),
        held_out_active=np.array([[20]]),
        held_out_seconds=np.array([held_out_s]),
        dense_step_s=2.0,
        repetitions=6,
        spread=spread,
    )


@pytest.mark.parametrize(
    ("seconds", "held_out_s", "error"),
    [
        ([2.0, 5.0, 5.0], 3.0, None),  # 1 s and 0.1 s for each parameter
        ([2.0, 5.0, 5.0], 2.4, None),  # missed by 25 %
        ([2.0, 5.0, 5.0], 2.0, "50%"),
        ([2.0, 5.0, 5.0], 6.0, "50%"),
        ([2.0, 2.0, 5.0], 2.3, "52%"),  # the fit itself misses what it was made of
    ],
)
def test_a_fit_that_misses_by_more_than_30_percent_is_not_kept(
    seconds, held_out_s, error, path, monkeypatch, capsys
):
    monkeypatch.setattr("fedmpi.calibration.measure", lambda *_, **__: measured(seconds, held_out_s, 0.05))
    command = ["calibrate", "mlp", "--device", "d"]
    assert cli.main(command) == (0 if error is None else 1)
    out, err = capsys.readouterr()
    assert "spread of the measurement: 5.0%\n" in out
    assert "% at 0.2\n" in out
    assert path.exists() == (error is None)
    if error is not None:
        assert err.startswith(f"fedmpi calibrate: the fit misses a measured step by {error}")
        assert "d is not kept; allowed: at most 30%" in err
        assert err.count("\n") == 1
        assert cli.main([*command, "--force"]) == 0
        assert path.exists()


def test_a_measurement_that_never_settles_says_so(path, monkeypatch, capsys):
    asked = {}

    def unsteady(*_, **options):
        asked.update(options)
        return measured([2.0, 5.0, 5.0], 3.0, 0.17)

    monkeypatch.setattr("fedmpi.calibration.measure", unsteady)
    assert cli.main(["calibrate", "mlp", "--device", "d", "--densities", "0.1", "0.4", "--steps", "7"]) == 0
    assert "spread of the measurement: 17% after 6 repetitions, not under 10%: " in capsys.readouterr().out
    assert asked == {"held_out": [pytest.approx(0.2)], "most_spread": 0.1, "most_steps": 42}


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
        command += [
            "emulation.compute.model=linear",
            "emulation.compute.profile=lab-pc",
            "--output",
            "run",
            "--resume",
            "--quiet",
        ]
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
