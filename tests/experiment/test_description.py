"""What of a run varies, and how well its emulated times and energy are known."""

import pytest

from fedmpi.config import loads
from fedmpi.emulation.devices import assign
from fedmpi.emulation.profiles import built_in_devices
from fedmpi.experiment.description import estimated_steps, methods, unknown_energy, varying
from fedmpi.experiment.parts import resolve
from fedmpi.experiment.work import count_work
from fedmpi.learning.flat import FlatModel
from fedmpi.learning.models import build

ADAPTIVE = ["sparsification.method=fab", "k_control.method=ogd_sign"]
LINEAR = ["emulation.compute.model=linear", "training.batch_size=20"]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], ()),
        (["sparsification.method=fab", "sparsification.k=5"], ()),
        (ADAPTIVE, ("k",)),
        (["pruning.method=prunefl"], ("density",)),
        (["pruning.method=lottery_reinit", "pruning.ticket=x"], ()),
        ([*ADAPTIVE, "pruning.method=snip", "pruning.target_density=0.1"], ("k", "density")),
    ],
)
def test_what_varies(overrides, expected):
    assert varying(resolve(loads("", overrides))) == expected


@pytest.mark.parametrize(
    ("overrides", "text"),
    [
        ([], "sparsification dense; pruning none; compute model unit; clock virtual"),
        (["sparsification.method=fab", "sparsification.k=5"], "sparsification fab, k 5; "),
        (
            ["sparsification.method=fedavg", "sparsification.k_fraction=0.25"],
            "sparsification fedavg, k 0.25 D; ",
        ),
        (["sparsification.method=fedavg", "sparsification.k=5"], "sparsification fedavg, k 5; "),
        (["sparsification.method=qsgd"], "sparsification qsgd; pruning none; "),
        (["federation.aggregator=fedadam"], "sparsification dense; aggregator fedadam; pruning none; "),
        (ADAPTIVE, "sparsification fab, k by ogd_sign; "),
        (
            ["pruning.method=prunefl", "pruning.initial.where=server", "pruning.initial.charged=false"],
            "; pruning prunefl, initial pruning at server; ",
        ),
        (
            ["emulation.availability.model=probability", "emulation.availability.probability=0.5"],
            "; compute model unit; availability probability; clock virtual",
        ),
        (["emulation.clock=realtime", "emulation.time_scale=0.1"], "clock realtime, time scale 0.1"),
    ],
)
def test_methods_in_words(overrides, text):
    assert text in methods(resolve(loads("", overrides)))


def notes(*overrides: str, model: str = "mlp") -> tuple[str, str]:
    config = loads("", [*overrides, f"model.name={model}", "model.hidden=[64]"])
    shape, classes = ((1, 8, 8), 10) if model == "mlp" else ((1, 28, 28), 62)
    flat = FlatModel(build(config.model, shape, classes, 0))
    fleet = assign(config, 0, count_work(flat, shape, 2))
    return estimated_steps(config, fleet, flat.layers), unknown_energy(config, fleet)


@pytest.mark.parametrize("model", ["linear", "flops"])
def test_estimated_steps_are_told_with_their_uncertainty(model):
    told, _ = notes(
        f"emulation.compute.model={model}",
        "training.batch_size=20",
        'emulation.compute.profile={"raspberry-pi-4" = 0.5, "raspberry-pi-3" = 0.5}',
    )
    assert "estimated from the work of mlp: a step of 20 samples takes 0.00288 s on raspberry-pi-3" in told
    assert "uncertain by a factor of 4.4" in told
    assert "; vgg11 by 8.3)" in told
    assert "\n" not in told


def test_a_model_with_a_table_and_other_time_models_rest_on_no_estimate():
    assert notes(*LINEAR, "emulation.compute.profile=raspberry-pi-4", model="conv2")[0] == ""
    assert notes("emulation.compute.profile=raspberry-pi-4")[0] == ""
    assert notes("emulation.compute.model=measured")[0] == ""


def test_devices_of_a_file_have_constants_of_their_own(tmp_path):
    path = tmp_path / "devices.csv"
    header = "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter"
    path.write_text("\n".join([header, *["mine,1,1,0,0.5,1e-9"] * 10]))
    assert notes(*LINEAR, f"emulation.compute.profile={path}")[0] == ""
    path.write_text("\n".join([f"{header},overhead_s,flops_per_s", *["mine,1,1,0,0.5,1e-9,1e-8,1e10"] * 10]))
    profile = f"emulation.compute.profile={path}"
    assert notes(*LINEAR, profile)[0] == ""
    told = notes("emulation.compute.model=flops", profile)[0]
    assert told.endswith("s on mine, as well as its overhead_s and flops_per_s are known")


def test_unknown_energy_is_told_by_device(tmp_path):
    assert notes("emulation.compute.profile=raspberry-pi-4")[1] == ""
    told = notes(
        "emulation.energy.on=true",
        'emulation.compute.profile={"raspberry-pi-4" = 0.5, "raspberry-pi-5" = 0.5}',
    )[1]
    assert told.startswith("energy: all powers are known for 0 of 10 clients; NaN after any time")
    assert "raspberry-pi-4 without transmit_w, receive_w" in told
    assert "raspberry-pi-5 without transmit_w, receive_w" in told
    unknown = sorted(name for name, device in built_in_devices().items() if device.powers.unknown)
    for count, more in ((3, ""), (4, " and 1 other device"), (5, " and 2 other devices")):
        shares = ", ".join(f'"{name}" = {1 / count}' for name in unknown[:count])
        told = notes("emulation.energy.on=true", f"emulation.compute.profile={{{shares}}}")[1]
        assert told.count(" without ") == 3
        assert told.endswith(more or "receive_w")
    path = tmp_path / "devices.csv"
    header = "name,uplink_mbit_per_s,downlink_mbit_per_s,latency_s,constant_s,seconds_per_parameter"
    path.write_text(
        "\n".join([f"{header},idle_w,compute_w,transmit_w,receive_w", *["mine,1,1,0,0,0,1,2,3,4"] * 10])
    )
    told = notes("emulation.energy.on=true", f"emulation.compute.profile={path}")[1]
    assert told == "energy: all powers are known for 10 of 10 clients"
